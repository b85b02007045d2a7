//! What RFC 9111 says of an answer. The rules are those of a library; here they get our headers.

use std::time::{Duration, SystemTime};

use actix_web::http::{
    StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use http_cache_semantics::{CacheOptions, CachePolicy};
use orrery_supervise::clock::Clock;

/// For how long an answer may be given to everybody; none when it may not be kept.
pub fn lifetime(
    target: &str,
    request: &HeaderMap,
    status: StatusCode,
    answer: &HeaderMap,
    clock: &Clock,
) -> Option<Duration> {
    // A cookie is somebody's own, whatever else the answer says.
    if answer.contains_key(header::SET_COOKIE) || answer.get_all(header::VARY).any(|value| value == "*") {
        return None;
    }
    let mut asked = http::Request::builder().method("GET").uri(target).body(()).ok()?;
    *asked.headers_mut() = plain(request);
    let mut answered = http::Response::builder().status(status.as_u16()).body(()).ok()?;
    *answered.headers_mut() = plain(answer);
    let now = SystemTime::from(clock.now());
    let options = CacheOptions { shared: true, cache_heuristic: 0.0, ..CacheOptions::default() };
    let policy = CachePolicy::new_options(&asked, &answered, now, options);
    let lifetime = policy.time_to_live(now);
    (policy.is_storable() && !lifetime.is_zero()).then_some(lifetime)
}

/// What a request asked for in the fields that its answer depends on.
pub fn vary(answer: &HeaderMap, request: &HeaderMap) -> Vec<(HeaderName, Option<HeaderValue>)> {
    let names = answer
        .get_all(header::VARY)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    names
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .map(|name| {
            let value = request.get(&name).cloned();
            (name, value)
        })
        .collect()
}

/// How old an answer was when it came.
pub fn age(answer: &HeaderMap) -> Duration {
    let age = answer.get(header::AGE).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(age.unwrap_or_default())
}

/// Whether a client wants an answer that was asked for anew.
pub fn wants_new(request: &HeaderMap) -> bool {
    request
        .get_all(header::CACHE_CONTROL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|directive| matches!(directive.trim(), "no-cache" | "no-store" | "max-age=0"))
}

/// Whether the client has it already (RFC 9110, If-None-Match, weak comparison).
pub fn matches(request: &HeaderMap, etag: Option<&HeaderValue>) -> bool {
    let bare = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
    let Some(etag) = etag.and_then(|etag| etag.to_str().ok()).map(bare) else { return false };
    request
        .get_all(header::IF_NONE_MATCH)
        .filter_map(|value| value.to_str().ok())
        .any(|list| list.split(',').map(str::trim).any(|tag| tag == "*" || bare(tag) == etag))
}

/// Our headers in the library's types.
fn plain(headers: &HeaderMap) -> http::HeaderMap {
    let mut plain = http::HeaderMap::new();
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_str().as_bytes());
        let value = http::HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            plain.append(name, value);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::end_to_end::tests::map;

    #[test]
    fn only_what_is_for_everybody_is_kept_and_as_long_as_it_says() {
        let seconds = |answer: &[(&str, &str)]| {
            lifetime("/x", &map(&[]), StatusCode::OK, &map(answer), &Clock::System).map(|time| time.as_secs())
        };
        assert_eq!(seconds(&[("cache-control", "public, max-age=60")]), Some(60));
        assert_eq!(seconds(&[("cache-control", "max-age=60, s-maxage=5")]), Some(5));
        assert_eq!(seconds(&[("cache-control", "max-age=60"), ("age", "20")]), Some(40));
        for never in ["private, max-age=60", "no-store", "no-cache", "max-age=0"] {
            assert_eq!(seconds(&[("cache-control", never)]), None, "{never}");
        }
        assert_eq!(seconds(&[]), None);
        assert_eq!(seconds(&[("cache-control", "max-age=60"), ("set-cookie", "a=b")]), None);
        assert_eq!(seconds(&[("cache-control", "max-age=60"), ("vary", "*")]), None);
    }
}
