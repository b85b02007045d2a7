//! Which headers travel: end-to-end ones only (RFC 9110, section 7.6.1), and none that tells where a client is.

use std::net::{IpAddr, SocketAddr};

use actix_web::{
    dev::RequestHead,
    http::header::{self, HeaderMap, HeaderName, HeaderValue},
};
use ipnet::IpNet;
use orrery_schemas::trace::TraceParent;
use orrery_web::trace::{TRACEPARENT, TRACESTATE, parent};

use crate::listen::seat::Peer;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The headers that an upstream gets: the client's end-to-end ones, within a trace.
pub fn for_upstream(client: &HeaderMap, trace: TraceParent) -> HeaderMap {
    let begun_here = parent(client).is_none();
    let mut headers = end_to_end(client, |name| {
        // Host: the upstream's own is set. Content-Length: by the body. Expect: answered by us already.
        matches!(name, "host" | "content-length" | "expect" | "traceparent")
            || tells_where_the_client_is(name)
            || (name == TRACESTATE.as_str() && begun_here)
    });
    if let Ok(value) = HeaderValue::from_str(&trace.to_string()) {
        headers.insert(TRACEPARENT, value);
    }
    headers
}

/// The headers that a service of this process gets: as an upstream's, and `Content-Length`, which nobody else sets here.
pub fn for_local(client: &HeaderMap, trace: TraceParent) -> HeaderMap {
    let mut headers = for_upstream(client, trace);
    if let Some(length) = client.get(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, length.clone());
    }
    headers
}

/// The headers that a client gets; `Content-Length` comes from the body.
pub fn for_client(upstream: &HeaderMap) -> HeaderMap {
    end_to_end(upstream, |name| matches!(name, "content-length" | "server"))
}

/// Sets what every answer carries, whoever made it; an application that is not ours decides on frames and referrers itself.
pub fn harden(headers: &mut HeaderMap, foreign: bool) {
    headers.remove(header::SERVER);
    headers.remove(CACHE_TAG);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let defaults = [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ];
    for (name, value) in defaults {
        if !foreign && !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

fn end_to_end(headers: &HeaderMap, dropped: impl Fn(&str) -> bool) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
        .collect();
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        if !hop_by_hop(text) && !named.iter().any(|token| token == text) && !dropped(text) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

fn hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "http2-settings"
    ) || name.starts_with("proxy-")
}

/// What a client says of its own address is worth nothing. What a service of ours gets in its place is written by `Forwarded`.
fn tells_where_the_client_is(name: &str) -> bool {
    name.starts_with("x-forwarded")
        || matches!(
            name,
            "forwarded"
                | "via"
                | "x-real-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-original-url"
                | "x-original-uri"
                | "x-rewrite-url"
                | "true-client-ip"
                | "cf-connecting-ip"
                | "fastly-client-ip"
        )
}

/// The header by which a request is found in logs: its trace's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What a service says of an answer for our cache alone: whose it is.
pub const CACHE_TAG: HeaderName = HeaderName::from_static(orrery_schemas::routes::CACHE_TAG);

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
    /// counts attempts, from where. The headers are those of `for_upstream`: nothing that a client claims is in them.
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

/// Puts the path that the outside sees before ours into an answer that leads to one of ours.
pub fn rebase(headers: &mut HeaderMap, base: &str) {
    if base.is_empty() {
        return;
    }
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    if let Some(path) = location.filter(|path| path.starts_with('/') && !path.starts_with("//"))
        && let Ok(value) = HeaderValue::from_str(&format!("{base}{path}"))
    {
        headers.insert(header::LOCATION, value);
    }
}

/// The headers of an upgrade.
pub fn for_upgrade(client: &HeaderMap, trace: TraceParent) -> HeaderMap {
    let mut headers = for_upstream(client, trace);
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = client.get(header::UPGRADE) {
        headers.insert(header::UPGRADE, protocol.clone());
    }
    headers
}

#[cfg(test)]
mod tests {
    use orrery_supervise::random::Random;
    use orrery_web::trace;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn hop_by_hop_headers_and_addresses_stay_behind() {
        let headers = for_upstream(
            &map(&[
                ("host", "evil.example"),
                ("connection", "close, X-Hop"),
                ("connection", "x-other"),
                ("x-hop", "1"),
                ("x-other", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-authorization", "Basic x"),
                ("proxy-connection", "keep-alive"),
                ("te", "trailers"),
                ("trailer", "x"),
                ("transfer-encoding", "chunked"),
                ("content-length", "5"),
                ("upgrade", "h2c"),
                ("http2-settings", "x"),
                ("expect", "100-continue"),
                ("forwarded", "for=192.0.2.1"),
                ("x-forwarded-for", "192.0.2.1"),
                ("x-forwarded-host", "evil.example"),
                ("x-real-ip", "192.0.2.1"),
                ("authorization", "Bearer t"),
                ("if-none-match", "\"x\""),
                ("range", "bytes=0-1"),
                ("accept", "a/b"),
                ("accept", "c/d"),
            ]),
            Random::seeded(1).trace(),
        );
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "authorization", "if-none-match", "range", "traceparent"]);
        assert_eq!(headers.get_all("accept").count(), 2);
    }

    #[test]
    fn a_valid_traceparent_is_continued_and_another_replaced() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let random = Random::seeded(1);
        let sent = |pairs: &[(&str, &str)]| {
            let client = map(pairs);
            let headers = for_upstream(&client, trace::of(&client, &random));
            let trace = headers.get(&TRACEPARENT).unwrap().to_str().unwrap().to_owned();
            (trace, headers.contains_key(TRACESTATE))
        };
        let (trace, state) = sent(&[("traceparent", parent), ("tracestate", "a=b")]);
        assert!(
            trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && trace != parent && state,
            "{trace}"
        );
        let (trace, state) = sent(&[("traceparent", "00-nonsense"), ("tracestate", "a=b")]);
        assert!(trace.parse::<TraceParent>().is_ok() && !state, "{trace}");
    }

    #[test]
    fn an_answer_keeps_what_caches_need_and_loses_the_server() {
        let mut headers = for_client(&map(&[
            ("server", "x"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("content-length", "5"),
            ("etag", "\"x\""),
            ("cache-control", "no-cache"),
            ("location", "/x"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
        ]));
        harden(&mut headers, false);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "cache-control",
                "content-security-policy",
                "etag",
                "location",
                "referrer-policy",
                "set-cookie",
                "x-content-type-options",
                "x-frame-options"
            ]
        );
        assert_eq!(headers.get_all("set-cookie").count(), 2);
    }

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

    #[test]
    fn a_location_of_ours_gets_the_path_that_the_outside_sees_before_it() {
        for (location, expected) in [
            ("/users/x", "/base/users/x"),
            ("https://a.example/x", "https://a.example/x"),
            ("//evil", "//evil"),
        ] {
            let mut headers = map(&[("location", location)]);
            rebase(&mut headers, "/base");
            assert_eq!(headers.get("location").unwrap(), expected);
        }
    }
}
