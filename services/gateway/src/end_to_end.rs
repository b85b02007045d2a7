//! Which headers travel: end-to-end ones only (RFC 9110, section 7.6.1), and none that tells where a client is; and those that every answer carries.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use orrery_schemas::trace::TraceParent;
use orrery_web::trace::{TRACEPARENT, TRACESTATE, parent};

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

/// What a client says of its own address is worth nothing. What a service of ours gets in its place is written by `forwarded::Forwarded`.
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
pub(crate) mod tests {
    use orrery_supervise::random::Random;
    use orrery_web::trace;

    use super::*;

    pub(crate) fn map(pairs: &[(&str, &str)]) -> HeaderMap {
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
