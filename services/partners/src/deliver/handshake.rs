//! The question before the first delivery (CloudEvents webhooks 1.0.2, section 4): `OPTIONS`, answered by the receiver with whom it takes events from, and how
//! many a minute. A receiver that cannot answer at once opens the callback later.

use reqwest::{Method, header::HeaderMap};

use crate::targets::Gate;

/// What a receiver allows: deliveries a minute, none for any number.
pub type Allowed = Option<i32>;

/// Asks a receiver.
///
/// # Errors
/// Why it did not allow it, in words for the partner.
pub async fn ask(
    gate: &Gate,
    url: &str,
    origin: &str,
    callback: &str,
    rate: Option<i32>,
) -> Result<Allowed, String> {
    let request = gate.request(Method::OPTIONS, url).map_err(|error| error.to_string())?;
    let mut request =
        request.header("WebHook-Request-Origin", origin).header("WebHook-Request-Callback", callback);
    if let Some(rate) = rate {
        request = request.header("WebHook-Request-Rate", rate);
    }
    let answered = gate.send(request).await.map_err(|error| error.to_string())?;
    allowed(answered.status, &answered.headers, origin)
}

fn allowed(status: u16, headers: &HeaderMap, origin: &str) -> Result<Allowed, String> {
    if !(200..=299).contains(&status) {
        return Err(format!("it answered OPTIONS with {status}"));
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let origins = text("WebHook-Allowed-Origin");
    let is_allowed = origins.is_some_and(|origins| {
        origins
            .split(',')
            .map(str::trim)
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    });
    if !is_allowed {
        return Err(format!("it did not answer OPTIONS with WebHook-Allowed-Origin: {origin}"));
    }
    rate(text("WebHook-Allowed-Rate"))
}

/// Reads an allowed rate.
///
/// # Errors
/// When it is none.
pub fn rate(text: Option<&str>) -> Result<Allowed, String> {
    match text {
        None | Some("*") => Ok(None),
        Some(text) => match text.parse::<i32>() {
            Ok(rate) if rate > 0 => Ok(Some(rate)),
            _ => Err("its WebHook-Allowed-Rate is no number above zero and no *".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Result<Allowed, String> {
        let headers = headers
            .iter()
            .map(|(name, value)| {
                (reqwest::header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap())
            })
            .collect();
        allowed(status, &headers, "orrery.example")
    }

    #[test]
    fn only_an_answer_that_names_us_allows_us() {
        let ours = ("webhook-allowed-origin", "orrery.example");
        assert_eq!(answer(200, &[ours]), Ok(None));
        assert_eq!(answer(204, &[ours, ("webhook-allowed-rate", "120")]), Ok(Some(120)));
        assert_eq!(answer(200, &[("webhook-allowed-origin", "*"), ("webhook-allowed-rate", "*")]), Ok(None));
        assert!(answer(200, &[]).is_err());
        assert!(answer(200, &[("webhook-allowed-origin", "other.example")]).is_err());
        assert!(answer(405, &[ours]).is_err());
        assert!(answer(200, &[ours, ("webhook-allowed-rate", "0")]).is_err());
    }
}
