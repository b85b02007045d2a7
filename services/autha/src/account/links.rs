//! Every URL of this instance that leaves it, by mail or in an answer, is built here.

use url::Url;
use uuid::Uuid;

/// Builds addresses below the public one.
#[derive(Debug, Clone)]
pub struct Links {
    base: String,
    /// Scheme, host and port: what JSON documents about this host name.
    domain: String,
}

impl Links {
    /// Links below `public`.
    pub fn new(public: &Url) -> Self {
        let domain = public.host_str().unwrap_or_default().to_owned();
        let domain = match public.port() {
            Some(port) => format!("{domain}:{port}"),
            None => domain,
        };
        Self { base: public.as_str().trim_end_matches('/').to_owned(), domain }
    }

    /// The public address, without a slash at its end: the issuer of tokens.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The host (and port) after the `@` of `acct:` (RFC 7565).
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Of a path that begins with a slash.
    pub fn of(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Somebody's profile.
    pub fn profile(&self, vanity: &str) -> String {
        self.of(&format!("/users/{vanity}"))
    }

    /// One size of a picture.
    pub fn picture(&self, public: Uuid, width: i32) -> String {
        self.of(&format!("/avatars/{public}/{width}.webp"))
    }

    /// A page that is opened from a mail. The secret stands after the `#`: it reaches no log of a proxy and no `Referer`.
    pub fn with_secret(&self, page: &str, secret: &str) -> String {
        self.of(&format!("/{page}#token={secret}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_the_public_address_stands_in_every_link() {
        let links = Links::new(&Url::parse("https://id.example:8443/accounts/").unwrap());
        assert_eq!(links.base(), "https://id.example:8443/accounts");
        assert_eq!(links.profile("ada"), "https://id.example:8443/accounts/users/ada");
        assert_eq!(links.domain(), "id.example:8443");
        assert_eq!(Links::new(&Url::parse("https://id.example").unwrap()).domain(), "id.example");
    }
}
