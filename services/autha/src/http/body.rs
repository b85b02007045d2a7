//! Reading of small bodies: their type, size and pace are checked, and what they hold is an object of fields.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    http::header,
    web::{Bytes, BytesMut, Payload},
};
use futures_util::StreamExt;
use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, error::Category};
use url::form_urlencoded;

/// The largest small body.
const LIMIT_BYTES: usize = 64 * 1024;
/// All of a small body must have come within this.
const LIMIT_TIME: Duration = Duration::from_secs(15);

/// The fields of a body, and one that it names twice: which of both is meant nobody can know.
#[derive(Default)]
struct Fields {
    object: Map<String, Value>,
    twice: Option<String>,
}

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
            let mut fields = Fields::default();
            for (name, value) in form_urlencoded::parse(&bytes) {
                fields.put(name.into_owned(), Value::from(value.into_owned()));
            }
            fields.checked()
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
    match serde_json::from_slice::<Fields>(bytes) {
        Ok(fields) => fields.checked(),
        Err(error) if error.classify() == Category::Data => {
            Err(Problem::new(Code::Malformed, "the body must be a JSON object, such as {\"id\": \"...\"}"))
        }
        Err(error) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            Err(Problem::new(Code::Malformed, format!("the body is no valid JSON ({place})")))
        }
    }
}

impl Fields {
    fn put(&mut self, name: String, value: Value) {
        if self.object.contains_key(&name) {
            self.twice = Some(name);
        } else {
            self.object.insert(name, value);
        }
    }

    fn checked(self) -> Result<Map<String, Value>, Problem> {
        let Some(name) = self.twice else { return Ok(self.object) };
        // It is the client's text and may be long.
        let name: String = name.chars().take(64).collect();
        let message = format!("'{name}' is there twice; send it once");
        Err(Problem::field(Code::Malformed, name, "duplicate", message))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some((name, value)) = map.next_entry()? {
                    fields.put(name, value);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_named_twice_is_refused() {
        assert_eq!(object(br#"{"id": 1, "b": {"id": 2}}"#).map(|object| object.len()), Ok(2));
        assert_eq!(object(br#"{"id": 1, "id": 1}"#).map_err(|problem| problem.code()), Err(Code::Malformed));
    }

    #[test]
    fn what_is_no_object_is_told_from_what_is_no_json() {
        let detail = |bytes| object(bytes).map_err(|problem| problem.to_string()).unwrap_err();
        for bytes in [&b"[]"[..], b"1", b"null", b"\"x\""] {
            assert!(detail(bytes).contains("must be a JSON object"), "{bytes:?}");
        }
        for bytes in [&b""[..], b"{", b"{\"a\":\"\xff\"}", b"\xff\xfe{\0}\0", b"{} x", b"{\"a\":\"\\ud800\"}"]
        {
            assert!(detail(bytes).contains("no valid JSON"), "{bytes:?}");
        }
    }
}
