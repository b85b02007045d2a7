//! Reading of small bodies: their type, size and pace are checked, and what they hold is an object of fields.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header,
    web::{Bytes, BytesMut, Payload},
};
use futures_util::StreamExt;
use orrery_actors::web::problem::Problem;
use orrery_schemas::problems::Code;
use serde_json::{Map, Value};
use url::form_urlencoded;

/// The largest small body.
const LIMIT_BYTES: usize = 64 * 1024;
/// All of a small body must have come within this.
const LIMIT_TIME: Duration = Duration::from_secs(15);

/// The fields of a JSON object.
///
/// # Errors
/// 415, 413, 408 or 400, each with what to do.
pub async fn json(request: &HttpRequest, payload: Payload) -> Result<Map<String, Value>, Problem> {
    if essence(request) != "application/json" {
        return Err(Problem::field(
            Code::UnsupportedMediaType,
            "Content-Type",
            "unsupported",
            "send JSON, with Content-Type: application/json",
        ));
    }
    object(&read(payload).await?)
}

/// The fields of a JSON object or of a form (RFC 6749 sends forms).
///
/// # Errors
/// As `json`.
pub async fn json_or_form(request: &HttpRequest, payload: Payload) -> Result<Map<String, Value>, Problem> {
    match essence(request).as_str() {
        "application/json" => object(&read(payload).await?),
        "application/x-www-form-urlencoded" => {
            let bytes = read(payload).await?;
            Ok(form_urlencoded::parse(&bytes)
                .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
                .collect())
        }
        _ => Err(Problem::field(
            Code::UnsupportedMediaType,
            "Content-Type",
            "unsupported",
            "send JSON or a form, with Content-Type: application/json or application/x-www-form-urlencoded",
        )),
    }
}

fn essence(request: &HttpRequest) -> String {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

async fn read(mut payload: Payload) -> Result<Bytes, Problem> {
    let all = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::new(Code::Malformed, format!("the body broke off or is badly framed: {error}"))
            })?;
            if body.len() + chunk.len() > LIMIT_BYTES {
                let detail = format!("the body is larger than {LIMIT_BYTES} bytes; send less");
                return Err(Problem::new(Code::TooLarge, detail));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(LIMIT_TIME, all).await.unwrap_or_else(|_| {
        let detail = format!("the body did not come within {} seconds", LIMIT_TIME.as_secs());
        Err(Problem::new(Code::Timeout, detail))
    })
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::new(Code::Malformed, "the body must be a JSON object, such as {\"id\": \"...\"}")),
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            Err(Problem::new(Code::Malformed, format!("the body is no valid JSON ({place})")))
        }
    }
}
