//! Cross-origin requests of browsers (the Fetch standard): preflights are answered here, and answers say who may read them.

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};

use crate::config::limits::Cors;

/// What a script may read beside the fields that every script may.
const EXPOSED: &str =
    "etag, location, retry-after, ratelimit, ratelimit-policy, www-authenticate, x-request-id";
/// The longest list of fields that a preflight may ask for.
const MOST_BYTES: usize = 1024;

/// Whether a request is a preflight.
pub fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight of a path that takes the methods `allow`.
pub fn preflight(cors: &Cors, request: &HeaderMap, allow: &str) -> HttpResponse {
    let mut response = HttpResponse::new(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    for name in
        [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_REQUEST_HEADERS]
    {
        headers.append(header::VARY, HeaderValue::from_name(name));
    }
    let Some(origin) = allowed(cors, request.get(header::ORIGIN)) else { return response };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if cors.credentials {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    if let Ok(allow) = HeaderValue::from_str(allow) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allow);
    }
    let asked = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(asked) = asked.filter(|asked| asked.len() <= MOST_BYTES && is_list_of_names(asked)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
    response
}

/// Adds to an answer who may read it.
pub fn permit(cors: &Cors, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
    if cors.origins.is_empty() {
        return;
    }
    if !any(cors) {
        answer.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
    }
    let Some(origin) = allowed(cors, origin) else { return };
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if cors.credentials {
        answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}

/// The origin that may read, as the answer names it.
fn allowed(cors: &Cors, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    let origin = origin?;
    if any(cors) {
        return Some(HeaderValue::from_static("*"));
    }
    cors.origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

fn any(cors: &Cors) -> bool {
    cors.origins.iter().any(|origin| origin == "*")
}

fn is_list_of_names(value: &HeaderValue) -> bool {
    value
        .to_str()
        .is_ok_and(|text| text.split(',').all(|name| HeaderName::from_bytes(name.trim().as_bytes()).is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        headers.insert(
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            HeaderValue::from_static("authorization,content-type"),
        );
        headers
    }

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors { origins: origins.iter().map(ToString::to_string).collect(), credentials, ..Cors::default() }
    }

    #[test]
    fn a_listed_origin_may_and_another_may_not() {
        let cors = cors(&["https://app.example"], true);
        let asked = request("https://app.example");
        let answer = preflight(&cors, &asked, "POST, GET");
        let get = |name: HeaderName| answer.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(get(header::ACCESS_CONTROL_ALLOW_ORIGIN), Some("https://app.example"));
        assert_eq!(get(header::ACCESS_CONTROL_ALLOW_METHODS), Some("POST, GET"));
        assert_eq!(get(header::ACCESS_CONTROL_ALLOW_HEADERS), Some("authorization,content-type"));
        assert_eq!(get(header::ACCESS_CONTROL_ALLOW_CREDENTIALS), Some("true"));
        for other in ["https://evil.example", "null", "https://app.example.evil", "http://app.example"] {
            let answer = preflight(&cors, &request(other), "POST");
            assert!(!answer.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{other}");
            let mut headers = HeaderMap::new();
            permit(&cors, request(other).get(header::ORIGIN), &mut headers);
            assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), "{other}");
            assert_eq!(headers.get(header::VARY).unwrap(), "origin");
        }
    }

    #[test]
    fn any_origin_may_without_credentials_and_none_is_the_default() {
        let mut headers = HeaderMap::new();
        permit(&cors(&["*"], false), request("https://x.example").get(header::ORIGIN), &mut headers);
        assert_eq!(headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "*");
        assert!(!headers.contains_key(header::VARY));
        let mut headers = HeaderMap::new();
        permit(&cors(&[], false), request("https://x.example").get(header::ORIGIN), &mut headers);
        assert!(headers.is_empty());
    }
}
