//! What the HTTP/1 parser says before it ends a connection: an empty answer. Here it is told from every answer of ours, and becomes a problem
//! document.

use std::fmt::Write as _;

use bytes::Bytes;
use orrery_schemas::problems::Code;

/// The longest empty answer of the parser: a status line and three header fields.
const MOST_BYTES: usize = 256;

/// Where in these bytes an empty answer of the parser begins, if they end with one. Every answer of ours has a header that it lacks.
pub fn begin(bytes: &[u8]) -> Option<usize> {
    if !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let from = bytes.len().saturating_sub(MOST_BYTES);
    let tail = bytes.get(from..)?;
    let begin = tail.windows(10).rposition(|window| window == b"HTTP/1.1 4" || window == b"HTTP/1.0 4")?;
    let answer = std::str::from_utf8(tail.get(begin..)?).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    code(lines.next()?)?;
    let plain = lines.clone().all(|line| line.contains(": "));
    let empty = lines.clone().any(|line| line.eq_ignore_ascii_case("content-length: 0"));
    let ours = lines.any(|line| line.to_ascii_lowercase().starts_with("x-content-type-options:"));
    (body.is_empty() && plain && empty && !ours).then_some(from + begin)
}

/// The answer with a document, which ends the connection.
pub fn document(bare: &[u8]) -> Option<Bytes> {
    let line = std::str::from_utf8(bare).ok()?.split("\r\n").next()?;
    let (code, detail) = code(line)?;
    let body = serde_json::json!({
        "type": code.uri(),
        "title": code.title(),
        "status": code.status(),
        "detail": detail,
    })
    .to_string();
    let mut answer = format!("{line}\r\n");
    let fields = [
        ("content-length", body.len().to_string()),
        ("content-type", "application/problem+json".to_owned()),
        ("cache-control", "no-store".to_owned()),
        ("connection", "close".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
        ("referrer-policy", "no-referrer".to_owned()),
    ];
    for (name, value) in fields {
        write!(answer, "{name}: {value}\r\n").ok()?;
    }
    answer.push_str("\r\n");
    answer.push_str(&body);
    Some(answer.into())
}

/// What a status line of the parser means.
fn code(line: &str) -> Option<(Code, &'static str)> {
    Some(match line.split(' ').nth(1)? {
        "400" => (Code::Malformed, "the request is no sound HTTP"),
        "408" => (Code::Timeout, "the head of the request did not come in time"),
        "413" => (Code::TooLarge, "the request is too large"),
        "431" => {
            (Code::HeadersTooLarge, "the head of the request is too large; send fewer or shorter fields")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\ndate: Wed, 25 Nov 2026 22:40:00 GMT\r\n\r\n";

    #[test]
    fn an_empty_answer_of_the_parser_is_found_behind_others() {
        assert_eq!(begin(BARE), Some(0));
        let before = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-content-type-options: nosniff\r\n\r\nok";
        assert_eq!(begin(&[&before[..], BARE].concat()), Some(before.len()));
    }

    #[test]
    fn an_answer_of_ours_is_left_alone() {
        for ours in [
            &b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nx-content-type-options: nosniff\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            // A chunked body's end.
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n0\r\n\r\n",
            b"\r\n\r\n",
            b"",
        ] {
            assert_eq!(begin(ours), None);
        }
    }

    #[test]
    fn the_document_says_what_was_wrong() {
        let document = document(BARE).unwrap();
        let text = std::str::from_utf8(&document).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["status"], 400);
    }
}
