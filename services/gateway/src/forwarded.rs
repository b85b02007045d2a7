//! How a client reached us, and from where: the host that it asked for, and the address that trusted proxies tell of (RFC 7239 and the `X-Forwarded-` fields).

use std::net::{IpAddr, SocketAddr};

use actix_web::{
    dev::RequestHead,
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
};
use ipnet::IpNet;
use orrery_schemas::trace::TraceParent;

use crate::listen::seat::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How the client reached us, and from where: never logged, so not `Debug`.
#[derive(Clone)]
pub struct Forwarded {
    proto: &'static str,
    host: String,
    client: Option<IpAddr>,
    trace: TraceParent,
}

impl Forwarded {
    /// What is believed: a trusted proxy's words, or what we see.
    /// `client` is who asks by the same rule.
    pub fn new(
        headers: &HeaderMap,
        peer: Option<Peer>,
        client: Option<IpAddr>,
        tls: bool,
        host: String,
        trace: TraceParent,
    ) -> Self {
        let told = peer.is_some_and(|peer| peer.trusted);
        let proto = if tls || (told && forwarded_proto(headers).is_some_and(|proto| proto == "https")) {
            "https"
        } else {
            "http"
        };
        Self { proto, host, client, trace }
    }

    /// Adds to a request on its way up what its target is told: an application of somebody else's, how the client reached us; a service of ours, which
    /// counts attempts, from where. The headers are those of `end_to_end::for_upstream`: nothing that a client claims is in them.
    pub fn write(&self, headers: &mut HeaderMap, foreign: bool) {
        if !foreign {
            let client = self.client.map(|client| HeaderValue::from_str(&client.to_canonical().to_string()));
            if let Some(Ok(client)) = client {
                headers.insert(X_FORWARDED_FOR, client);
            }
            return;
        }
        let id = self.trace.trace_id().to_string();
        for (name, value) in [
            ("x-forwarded-proto", self.proto),
            ("x-forwarded-host", self.host.as_str()),
            ("x-request-id", id.as_str()),
        ] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }

    /// The host that the client asked for.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The client's `Host`.
    pub fn host_value(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.host).ok()
    }
}

/// The host that is asked for, in small letters and with its port; none when it is no host.
pub fn host(head: &RequestHead) -> Option<String> {
    let given = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => match head.headers.get(header::HOST) {
            Some(host) => host.to_str().ok()?,
            // HTTP/1.0.
            None => return Some(String::new()),
        },
    };
    let sound = given.len() <= 255
        && given.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte));
    sound.then(|| given.to_ascii_lowercase())
}

/// A host without its port.
pub fn bare_host(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// The address that asked a row of trusted proxies: the last that is none of theirs.
pub fn client_address(headers: &HeaderMap, trusted: &[IpNet]) -> Option<IpAddr> {
    let mut hops = Vec::new();
    if headers.contains_key(header::FORWARDED) {
        for element in list(headers, &header::FORWARDED) {
            let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
            let by = pairs.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
            hops.push(by.map(|(_, value)| value.trim().trim_matches('"').to_owned()).unwrap_or_default());
        }
    } else {
        hops = list(headers, &X_FORWARDED_FOR);
    }
    let mut last = None;
    for hop in hops.iter().rev() {
        let address = address(hop)?;
        last = Some(address);
        if !trusted.iter().any(|network| network.contains(&address)) {
            break;
        }
    }
    last
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.split(']').next());
    bare.and_then(|bare| bare.parse().ok())
        .or_else(|| text.parse().ok())
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|address: IpAddr| address.to_canonical())
}

fn forwarded_proto(headers: &HeaderMap) -> Option<String> {
    let by_forwarded = list(headers, &header::FORWARDED).last().and_then(|element| {
        let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
        let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("proto"))?;
        Some(value.trim().trim_matches('"').to_ascii_lowercase())
    });
    by_forwarded.or_else(|| list(headers, &HeaderName::from_static("x-forwarded-proto")).pop())
}

/// The elements of a field that is a list.
fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    headers
        .get_all(name)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|element| element.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::end_to_end::tests::map;

    #[test]
    fn the_client_is_the_last_hop_that_is_no_trusted_proxy() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        for (name, value, client) in [
            ("x-forwarded-for", "192.0.2.1", Some("192.0.2.1")),
            ("x-forwarded-for", "203.0.113.9, 192.0.2.1, 10.0.0.2", Some("192.0.2.1")),
            ("x-forwarded-for", "10.0.0.7", Some("10.0.0.7")),
            ("x-forwarded-for", "192.0.2.1, nonsense", None),
            ("forwarded", "for=192.0.2.1;proto=https, for=\"[2001:db8::1]:80\"", Some("2001:db8::1")),
            ("forwarded", "for=_hidden", None),
        ] {
            let headers = map(&[(name, value)]);
            assert_eq!(
                client_address(&headers, &trusted),
                client.map(|text| text.parse().unwrap()),
                "{value}"
            );
        }
    }
}
