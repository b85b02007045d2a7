//! Problem documents (RFC 9457): the one shape of every error that leaves by HTTP. The catalogue lives in `schemas::problems`.

use std::collections::BTreeMap;

use actix_web::{
    HttpResponse, ResponseError,
    body::BoxBody,
    dev::ServiceResponse,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};
use orrery_schemas::{problems::Code, trace::TraceParent};
use serde::Serialize;

/// One faulty field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field's name.
    pub field: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// A stable snake-case code.
    pub code: String,
}

/// An error with all that the client may know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    code: Code,
    detail: String,
    retry_after_seconds: Option<u32>,
    errors: Vec<FieldError>,
    trace: Option<TraceParent>,
    protocol: Box<Protocol>,
}

/// What a protocol wants beside the document. Apart, since a large error makes every answer large.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Protocol {
    /// `WWW-Authenticate`.
    challenge: Option<String>,
    /// Extension members.
    members: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    ty: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
    #[serde(flatten)]
    members: BTreeMap<&'a str, &'a str>,
}

impl Problem {
    /// A problem of the catalogue; `detail` says what is wrong here and what to do.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let retry_after_seconds = matches!(code, Code::Unavailable | Code::TooManyRequests).then_some(1);
        // Credentials in a body are no business of HTTP's own authentication (RFC 9110, 11.6.1), so nothing is asked for there.
        let challenge = (code == Code::InvalidToken).then(|| r#"Bearer error="invalid_token""#.to_owned());
        Self {
            code,
            detail: detail.into(),
            retry_after_seconds,
            errors: Vec::new(),
            trace: None,
            protocol: Box::new(Protocol { challenge, members: Vec::new() }),
        }
    }

    /// A problem with one field.
    pub fn field(
        code: Code,
        field: impl Into<String>,
        field_code: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        let message = message.into();
        let error = FieldError { field: field.into(), message: message.clone(), code: field_code.into() };
        Self::new(code, message).with_errors(vec![error])
    }

    /// With the fields that are wrong.
    #[must_use]
    pub fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// With another time to wait before the next try.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// With another `WWW-Authenticate` (RFC 6750, 3).
    #[must_use]
    pub fn challenge(mut self, challenge: impl Into<String>) -> Self {
        self.protocol.challenge = Some(challenge.into());
        self
    }

    /// With an extension member (RFC 9457, 3.2), such as the `error` of RFC 6749.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.protocol.members.push((name, value.into()));
        self
    }

    /// The fields that are wrong.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    /// What is wrong, in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The occurrence within `trace`: `instance` names it, by which the log's lines are found.
    #[must_use]
    pub fn within(mut self, trace: impl Into<Option<TraceParent>>) -> Self {
        self.trace = trace.into();
        self
    }

    /// The problem's code.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.slug(), self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let document = Document {
            ty: self.code.uri(),
            title: self.code.title(),
            status: self.code.status(),
            detail: &self.detail,
            instance: self.trace.map(|trace| format!("urn:orrery:trace:{}", trace.trace_id())),
            errors: &self.errors,
            members: self.protocol.members.iter().map(|(name, value)| (*name, value.as_str())).collect(),
        };
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(seconds) = self.retry_after_seconds {
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(challenge) = &self.protocol.challenge {
            response.insert_header((header::WWW_AUTHENTICATE, challenge.as_str()));
        }
        let mut response = response.json(document);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}

/// The same answer; where a [`Problem`] made it, the document names the trace.
pub fn name_occurrence(answer: ServiceResponse<BoxBody>, trace: TraceParent) -> ServiceResponse<BoxBody> {
    match answer.response().error().and_then(|error| error.as_error::<Problem>()).cloned() {
        Some(problem) => answer.map_body(|_, _| problem.within(trace).error_response().into_body()),
        None => answer,
    }
}
