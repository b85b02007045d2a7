//! Paths read strictly and written in one way, so that gateway and upstream never understand two things. What paths
//! there are lives in `routes`.

use std::fmt::Write as _;

use crate::routes::Refusal;

/// The path, decoded once (RFC 3986, section 2.1) and escaped again where that is needed and nowhere else.
///
/// # Errors
/// `Malformed` for broken or doubled escapes, control characters, backslashes and encoded slashes; `NotFound` for dot segments and for empty
/// ones within, which no route has.
pub fn canonical(raw: &str) -> Result<String, Refusal> {
    let mut path = String::with_capacity(raw.len());
    let mut segments = raw.strip_prefix('/').ok_or(Refusal::Malformed)?.split('/').peekable();
    while let Some(raw) = segments.next() {
        let decoded = segment(raw)?;
        if decoded.is_empty() && segments.peek().is_some() {
            return Err(Refusal::NotFound);
        }
        path.push('/');
        escape(&decoded, &mut path);
    }
    Ok(path)
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
    // What stands before a semicolon is the whole segment to some servers.
    let bare = decoded.split(';').next().unwrap_or_default();
    if matches!(bare, "." | "..") || (bare.is_empty() && !decoded.is_empty()) {
        return Err(Refusal::NotFound);
    }
    Ok(decoded)
}

fn escape(segment: &str, path: &mut String) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let written = write!(path, "%{byte:02X}");
            debug_assert!(written.is_ok(), "a String takes all that is written");
        }
    }
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
            ("//users/x", Refusal::NotFound),
            ("/users//x", Refusal::NotFound),
            ("/users/x//", Refusal::NotFound),
            ("/users/../health/actors", Refusal::NotFound),
            ("/users/..;/health/actors", Refusal::NotFound),
            ("/users/..;x=y/health/actors", Refusal::NotFound),
            ("/users/;x/health/actors", Refusal::NotFound),
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
            assert_eq!(canonical(raw), Err(refusal), "{raw}");
        }
    }

    #[test]
    fn a_canonical_path_reads_as_what_it_was_written_from() {
        for raw in [
            "/",
            "/users/@me",
            "/users/",
            "/users/a%20b",
            "/users/a%3Fb%23c",
            "/users/%C3%A9",
            "/users/...",
            "/users/a;b=c",
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(raw));
        }
    }
}
