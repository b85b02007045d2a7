//! An answer of the HTTP API as a whole, and what tests expect of it.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use reqwest::Response;
use reqwest::header::{HeaderMap, LOCATION};
use serde::Deserialize;
use serde_json::Value;

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub bytes: Bytes,
    /// The body as JSON, null where it is none.
    pub body: Value,
}

/// A problem document (RFC 9457) with our extension `errors`.
#[derive(Clone, Debug, Deserialize)]
pub struct Problem {
    /// What kind of problem, a URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The status code again.
    pub status: u16,
    /// This occurrence in words.
    pub detail: String,
    /// This occurrence as a URI.
    pub instance: String,
    /// The fields that are at fault.
    #[serde(default)]
    pub errors: Vec<FieldError>,
}

/// One field's fault in a problem document.
#[derive(Clone, Debug, Deserialize)]
pub struct FieldError {
    /// The field.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The fault as a code.
    pub code: String,
}

impl Problem {
    /// The fault of a field.
    ///
    /// # Errors
    /// The problem names no such field.
    pub fn field(&self, field: &str) -> Result<&FieldError> {
        let found = self.errors.iter().find(|error| error.field == field);
        found.with_context(|| format!("no field {field:?} in {self:?}"))
    }
}

impl Answer {
    pub(super) async fn read(response: Response) -> Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.with_context(|| format!("reading the body of a {status}"))?;
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Self { status, headers, bytes, body })
    }

    /// The answer itself, if it has this status.
    ///
    /// # Errors
    /// It has another; the error shows its body.
    pub fn expect(self, status: u16) -> Result<Self> {
        if self.status == status {
            return Ok(self);
        }
        let start = self.bytes.get(..self.bytes.len().min(2000)).unwrap_or_default();
        bail!("{status} expected, got {}: {}", self.status, String::from_utf8_lossy(start))
    }

    /// A header as text; `None` where it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The `Location`.
    ///
    /// # Errors
    /// There is none.
    pub fn location(&self) -> Result<&str> {
        self.header(LOCATION.as_str()).with_context(|| format!("no Location in a {}", self.status))
    }

    /// A text field of the body.
    ///
    /// # Errors
    /// There is none.
    pub fn text(&self, field: &str) -> Result<&str> {
        let value = self.body.get(field).and_then(Value::as_str);
        value.with_context(|| format!("no text {field:?} in the body of a {}", self.status))
    }

    /// The problem document that an error answer must be: its media type, its fields, the same status inside.
    ///
    /// # Errors
    /// It is none, or not a whole one.
    pub fn problem(&self) -> Result<Problem> {
        let media_type = self.header("content-type").unwrap_or_default();
        ensure!(
            media_type.split(';').next().map(str::trim) == Some("application/problem+json"),
            "a {} of type {media_type:?} is no problem document",
            self.status
        );
        let problem: Problem = serde_json::from_value(self.body.clone())
            .with_context(|| format!("not a whole problem document: {}", self.body))?;
        ensure!(problem.status == self.status, "a {} says it is a {}", self.status, problem.status);
        ensure!(
            ![&problem.kind, &problem.title, &problem.detail, &problem.instance]
                .iter()
                .any(|text| text.is_empty()),
            "an empty field in {problem:?}"
        );
        Ok(problem)
    }
}
