//! Paths read strictly and written in one way, so that gateway and upstream never understand two things. What paths
//! there are lives in `routes`.

use std::fmt::Write as _;

use crate::routes::Refusal;

/// The segments of a path, decoded once (RFC 3986, section 2.1).
///
/// # Errors
/// `Malformed` for broken or doubled escapes, control characters, backslashes and encoded slashes; `NotFound` for empty
/// and dot segments, which no route has.
pub fn segments(raw: &str) -> Result<Vec<String>, Refusal> {
    raw.strip_prefix('/').ok_or(Refusal::Malformed)?.split('/').map(segment).collect()
}

fn segment(raw: &str) -> Result<String, Refusal> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, escaped) = if byte == b'%' {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
            let (high, low) = (digit(bytes.next()), digit(bytes.next()));
            let code = high.zip(low).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
            (code.ok_or(Refusal::Malformed)?, true)
        } else {
            (byte, false)
        };
        // A slash or a percent sign that was escaped would mean something else to whoever decodes again.
        if byte.is_ascii_control() || byte == b'\\' || (escaped && matches!(byte, b'/' | b'%')) {
            return Err(Refusal::Malformed);
        }
        decoded.push(byte);
    }
    let decoded = String::from_utf8(decoded).map_err(|_| Refusal::Malformed)?;
    if matches!(decoded.as_str(), "" | "." | "..") { Err(Refusal::NotFound) } else { Ok(decoded) }
}

/// The path of these segments, escaped where RFC 3986 wants it and nowhere else.
pub fn canonical(segments: &[String]) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        for byte in segment.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
                path.push(char::from(byte));
            } else {
                let written = write!(path, "%{byte:02X}");
                debug_assert!(written.is_ok(), "a String takes all that is written");
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_on_the_path_are_refused() {
        for (raw, refusal) in [
            ("", Refusal::Malformed),
            ("*", Refusal::Malformed),
            ("users/x", Refusal::Malformed),
            ("/", Refusal::NotFound),
            ("//users/x", Refusal::NotFound),
            ("/users//x", Refusal::NotFound),
            ("/users/x/", Refusal::NotFound),
            ("/users/../health/actors", Refusal::NotFound),
            ("/users/./x", Refusal::NotFound),
            ("/users/%2e%2e/health/actors", Refusal::NotFound),
            ("/users/%2E./health/actors", Refusal::NotFound),
            ("/users/..%2fhealth", Refusal::Malformed),
            ("/users/..%5chealth", Refusal::Malformed),
            ("/users/..\\health", Refusal::Malformed),
            ("/users/%252e%252e", Refusal::Malformed),
            ("/users/x%00", Refusal::Malformed),
            ("/users/x%0d%0aHost:%20y", Refusal::Malformed),
            ("/users/x%7f", Refusal::Malformed),
            ("/users/x%", Refusal::Malformed),
            ("/users/x%2", Refusal::Malformed),
            ("/users/x%zz", Refusal::Malformed),
            ("/users/x%+1", Refusal::Malformed),
            ("/users/%ff", Refusal::Malformed),
            ("/users/%c0%ae%c0%ae", Refusal::Malformed),
        ] {
            assert_eq!(segments(raw), Err(refusal), "{raw}");
        }
    }

    #[test]
    fn a_canonical_path_reads_as_what_it_was_written_from() {
        for raw in
            ["/users/@me", "/users/a%20b", "/users/a%3Fb%23c", "/users/%C3%A9", "/users/...", "/users/a;b=c"]
        {
            let read = segments(raw).unwrap();
            assert_eq!(canonical(&read), raw);
            assert_eq!(segments(&canonical(&read)).unwrap(), read);
        }
    }
}
