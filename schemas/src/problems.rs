//! The one catalogue of problem codes (RFC 9457). How a problem becomes an HTTP answer lives in `orrery_web`.

/// A kind of problem: its `type` is `urn:orrery:problem:{slug}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request cannot be read.
    Malformed,
    /// Missing or wrong credentials.
    InvalidCredentials,
    /// Missing, expired or foreign token.
    InvalidToken,
    /// Known, but not allowed.
    Forbidden,
    /// Nothing is there.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The body came too slowly.
    Timeout,
    /// The name or address is taken.
    Taken,
    /// What was here was deleted.
    Deleted,
    /// The body's size must be told.
    LengthRequired,
    /// The body is too large.
    TooLarge,
    /// The media type is not taken here.
    UnsupportedMediaType,
    /// A field is invalid.
    InvalidField,
    /// Too many requests.
    TooManyRequests,
    /// The head of the request is too large.
    HeadersTooLarge,
    /// A fault of ours.
    Internal,
    /// The upstream answered nonsense.
    BadGateway,
    /// A dependency is away or a queue is full.
    Unavailable,
    /// The upstream did not answer in time.
    GatewayTimeout,
}

impl Code {
    /// Every code, for the catalogue's page and the tests.
    pub const ALL: [Self; 19] = [
        Self::Malformed,
        Self::InvalidCredentials,
        Self::InvalidToken,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Timeout,
        Self::Taken,
        Self::Deleted,
        Self::LengthRequired,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidField,
        Self::TooManyRequests,
        Self::HeadersTooLarge,
        Self::Internal,
        Self::BadGateway,
        Self::Unavailable,
        Self::GatewayTimeout,
    ];

    /// HTTP status, slug of the `type`, title.
    const fn entry(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Malformed => (400, "malformed", "The request cannot be read"),
            Self::InvalidCredentials => (401, "invalid-credentials", "The credentials are not right"),
            Self::InvalidToken => (401, "invalid-token", "The token is not valid"),
            Self::Forbidden => (403, "forbidden", "Not allowed"),
            Self::NotFound => (404, "not-found", "Nothing is here"),
            Self::MethodNotAllowed => (405, "method-not-allowed", "The method is not taken here"),
            Self::Timeout => (408, "timeout", "The request came too slowly"),
            Self::Taken => (409, "taken", "Already taken"),
            Self::Deleted => (410, "deleted", "Deleted"),
            Self::LengthRequired => (411, "length-required", "The size must be told"),
            Self::TooLarge => (413, "too-large", "The body is too large"),
            Self::UnsupportedMediaType => (415, "unsupported-media-type", "The media type is not taken here"),
            Self::InvalidField => (422, "invalid-field", "A field is invalid"),
            Self::TooManyRequests => (429, "too-many-requests", "Too many requests"),
            Self::HeadersTooLarge => (431, "headers-too-large", "The head of the request is too large"),
            Self::Internal => (500, "internal", "A fault of ours"),
            Self::BadGateway => (502, "bad-gateway", "The service answered wrongly"),
            Self::Unavailable => (503, "unavailable", "Not available right now"),
            Self::GatewayTimeout => (504, "gateway-timeout", "The service did not answer in time"),
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.entry().0
    }

    /// The last part of the problem's `type`.
    pub const fn slug(self) -> &'static str {
        self.entry().1
    }

    /// The problem's `title`; the same for every occurrence.
    pub const fn title(self) -> &'static str {
        self.entry().2
    }

    /// The problem's `type`: a URN, since a self-hosted catalogue has no one address.
    pub fn uri(self) -> String {
        format!("urn:orrery:problem:{}", self.slug())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn slugs_are_unique() {
        let slugs: HashSet<_> = Code::ALL.iter().map(|code| code.slug()).collect();
        assert_eq!(slugs.len(), Code::ALL.len());
    }
}
