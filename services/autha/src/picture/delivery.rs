//! What a client gets of a picture: in which format, and how much of it, ranges (RFC 9110, 14.2). Pure; a header in, an answer out.

/// A format that pictures are delivered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// WebP.
    WebP,
    /// JPEG, for clients that know no WebP.
    Jpeg,
}

impl Format {
    const ALL: [Self; 2] = [Self::WebP, Self::Jpeg];

    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::WebP => "image/webp",
            Self::Jpeg => "image/jpeg",
        }
    }

    /// The ending of addresses, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::WebP => "webp",
            Self::Jpeg => "jpg",
        }
    }

    /// The one of that media type.
    pub fn of_media_type(media_type: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.media_type() == media_type)
    }

    /// The one of that ending.
    pub fn of_extension(extension: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.extension() == extension)
    }
}

/// A part of a body, first and last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub first: u64,
    /// The last byte, which is among them.
    pub last: u64,
}

/// What a `Range` header wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All: there is none, or one that we need not understand (several parts, other units).
    All,
    /// A part.
    Part(Span),
    /// What is not there: 416.
    Nothing,
}

/// What a `Range` header wants of a body of so many bytes.
pub fn wanted(range: Option<&str>, length: u64) -> Wanted {
    let Some(part) = range.and_then(|range| range.strip_prefix("bytes=")).filter(|part| !part.contains(','))
    else {
        return Wanted::All;
    };
    let Some((first, last)) = part.trim().split_once('-') else { return Wanted::All };
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    let span = match (first, last) {
        ("", count) => match number(count) {
            Some(0) => return Wanted::Nothing,
            Some(count) => (length.saturating_sub(count), length.saturating_sub(1)),
            None => return Wanted::All,
        },
        (first, "") => match number(first) {
            Some(first) => (first, length.saturating_sub(1)),
            None => return Wanted::All,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.min(length.saturating_sub(1))),
            _ => return Wanted::All,
        },
    };
    if span.0 < length { Wanted::Part(Span { first: span.0, last: span.1 }) } else { Wanted::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_given_where_one_part_is_asked_for() {
        let part = |first, last| Wanted::Part(Span { first, last });
        for (range, expected) in [
            (None, Wanted::All),
            (Some("bytes=0-9"), part(0, 9)),
            (Some("bytes=90-"), part(90, 99)),
            (Some("bytes=-10"), part(90, 99)),
            (Some("bytes=-1000"), part(0, 99)),
            (Some("bytes=50-1000"), part(50, 99)),
            (Some("bytes=100-"), Wanted::Nothing),
            (Some("bytes=-0"), Wanted::Nothing),
            (Some("bytes=9-3"), Wanted::All),
            (Some("bytes=0-1,5-6"), Wanted::All),
            (Some("lines=0-1"), Wanted::All),
            (Some("bytes=+1-2"), Wanted::All),
            (Some("bytes=99999999999999999999-"), Wanted::All),
        ] {
            assert_eq!(wanted(range, 100), expected, "{range:?}");
        }
    }
}
