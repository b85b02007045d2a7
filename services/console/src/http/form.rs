//! Forms that change something. `Act` is the only way to one's fields: it is refused unless the session is there, the form is ours, and no other site sent it.

use std::{future::Future, pin::Pin};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::Payload,
    http::{StatusCode, header},
    web::{Bytes, Data},
};
use url::form_urlencoded;

use super::{App, fault::Fault};
use crate::access::Pass;

/// The largest form: one that names every letter of a page.
const LIMIT: usize = 64 * 1024;

/// The fields of a form.
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// The field of that name, without spaces around it; none where it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// All fields of that name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// By their text.
    pub fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }
}

/// A form without a session: the log-in's.
pub struct Open(pub Fields);

/// A form of somebody who is logged in.
pub struct Act {
    /// Who.
    pub session: Pass,
    /// What they sent.
    pub fields: Fields,
}

type Later<T> = Pin<Box<dyn Future<Output = Result<T, Fault>>>>;

impl FromRequest for Open {
    type Error = Fault;
    type Future = Later<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, body) = (request.clone(), Bytes::from_request(request, payload));
        Box::pin(async move { read(&request, body).await.map(Self) })
    }
}

impl FromRequest for Act {
    type Error = Fault;
    type Future = Later<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, body) = (request.clone(), Bytes::from_request(request, payload));
        Box::pin(async move {
            let session = request.extensions().get::<Pass>().cloned().ok_or_else(Fault::log_in)?;
            let fields = read(&request, body).await?;
            let app = request.app_data::<Data<App>>().ok_or_else(Fault::log_in)?;
            let token = fields.get("form").unwrap_or_default();
            if !app.access.is_form_token(&session, token) {
                return Err(refused("this form is not one of this session"));
            }
            Ok(Self { session, fields })
        })
    }
}

async fn read(
    request: &HttpRequest,
    body: impl Future<Output = Result<Bytes, actix_web::Error>>,
) -> Result<Fields, Fault> {
    let app = request.app_data::<Data<App>>().ok_or_else(Fault::log_in)?;
    if !is_ours(request, &app.config.base()) {
        return Err(refused("another site sent this form"));
    }
    if request.content_type() != "application/x-www-form-urlencoded" {
        return Err(Fault::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "this is no form",
            "Use the page's own form.",
        ));
    }
    let body = body.await.map_err(|_| Fault::wrong("the form cannot be read, or is too long"))?;
    if body.len() > LIMIT {
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "the form is too long", "Choose by a filter."));
    }
    Ok(Fields::parse(&body))
}

/// Whether a page of ours sent it, by what the browser says. Cookies know no ports, so another program's page on this host is not ours either.
fn is_ours(request: &HttpRequest, base: &str) -> bool {
    let told =
        |name: header::HeaderName| request.headers().get(name).map(|value| value.to_str().unwrap_or(""));
    if told(header::HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site != "same-origin") {
        return false;
    }
    let Some(origin) = told(header::ORIGIN) else { return true };
    let host = told(header::HOST).unwrap_or_default();
    origin == base || origin.split_once("://").is_some_and(|(_, rest)| rest == host)
}

fn refused(what: &str) -> Fault {
    Fault::new(StatusCode::FORBIDDEN, what, "Open the page again and send its own form.")
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_a_page_of_ours_may_send_a_form() {
        let ours = "http://127.0.0.1:8084";
        let sent = |headers: &[(&'static str, &'static str)]| {
            let mut request = TestRequest::post().insert_header(("host", "127.0.0.1:8084"));
            for header in headers {
                request = request.insert_header(*header);
            }
            is_ours(&request.to_http_request(), ours)
        };
        assert!(
            sent(&[])
                && sent(&[("origin", ours)])
                && sent(&[("origin", ours), ("sec-fetch-site", "same-origin")])
        );
        for origin in
            ["null", "", "http://127.0.0.1:3000", "http://evil.example", "http://127.0.0.1:8084.evil.example"]
        {
            assert!(!sent(&[("origin", origin)]), "{origin}");
        }
        for site in ["cross-site", "same-site", "none"] {
            assert!(!sent(&[("sec-fetch-site", site)]), "{site}");
        }
    }
}
