//! Reading of bodies: their size and pace are checked.

use std::time::Duration;

use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt as _;
use orrery_schemas::{problems::Code, topology::MAX_MESSAGE_BYTES};
use orrery_web::problem::Problem;

/// The largest body of a request that is no event.
pub const SMALL: usize = 64 * 1024;
/// The largest event, or batch.
pub const EVENTS: usize = MAX_MESSAGE_BYTES;
/// All of a body must have come within this.
const LIMIT_TIME: Duration = Duration::from_secs(15);

/// The bytes of a body.
///
/// # Errors
/// 413, 408 or 400, each with what to do.
pub async fn read(mut payload: Payload, limit: usize) -> Result<Bytes, Problem> {
    let all = async {
        let mut body = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk = chunk.map_err(|error| {
                Problem::new(Code::Malformed, format!("the body broke off or is badly framed: {error}"))
            })?;
            if body.len() + chunk.len() > limit {
                let detail = format!("the body is larger than {limit} bytes; send less");
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

/// A JSON body as a value of that type, whose fields are known.
///
/// # Errors
/// As `read`, and 415 or 422.
pub async fn json<T: serde::de::DeserializeOwned>(
    request: &actix_web::HttpRequest,
    payload: Payload,
) -> Result<T, Problem> {
    let content_type = request.headers().get(actix_web::http::header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence != "application/json" {
        let detail = "send JSON, with Content-Type: application/json";
        return Err(Problem::field(Code::UnsupportedMediaType, "Content-Type", "unsupported", detail));
    }
    let bytes = read(payload, SMALL).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        use serde_json::error::Category;
        let place = format!("line {}, column {}", error.line(), error.column());
        if error.classify() == Category::Data {
            // serde names the field, or the type that is wanted; it repeats no value but for unknown names.
            Problem::new(
                Code::InvalidField,
                format!("a field cannot be used ({place}): look at openapi.yaml"),
            )
        } else {
            Problem::new(Code::Malformed, format!("the body is no valid JSON ({place})"))
        }
    })
}
