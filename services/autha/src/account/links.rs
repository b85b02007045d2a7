//! Every URL of this instance that leaves it, by mail or in an answer, is built here.

use url::Url;

use super::lookup::Icon;

/// Builds addresses below the public one.
#[derive(Debug, Clone)]
pub struct Links {
    base: String,
    /// Where pictures are fetched: `base`, or what copies it.
    pictures: String,
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
        let base = public.as_str().trim_end_matches('/').to_owned();
        Self { pictures: base.clone(), base, domain }
    }

    /// The same with pictures fetched by a CDN, if there is one.
    #[must_use]
    pub fn with_pictures(self, cdn: Option<&Url>) -> Self {
        match cdn {
            Some(cdn) => Self { pictures: cdn.as_str().trim_end_matches('/').to_owned(), ..self },
            None => self,
        }
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

    /// One size of a picture in one format.
    pub fn picture(&self, icon: &Icon) -> String {
        let Icon { public, width, format } = icon;
        format!("{}/avatars/{public}/{width}.{}", self.pictures, format.extension())
    }

    /// A page that is opened from a mail. The secret stands after the `#`: it reaches no log of a proxy and no `Referer`.
    pub fn with_secret(&self, page: &str, secret: &str) -> String {
        self.of(&format!("/{page}#token={secret}"))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::picture::delivery::Format;

    #[test]
    fn a_path_in_the_public_address_stands_in_every_link() {
        let links = Links::new(&Url::parse("https://id.example:8443/accounts/").unwrap());
        assert_eq!(links.base(), "https://id.example:8443/accounts");
        assert_eq!(links.profile("ada"), "https://id.example:8443/accounts/users/ada");
        assert_eq!(links.domain(), "id.example:8443");
        assert_eq!(Links::new(&Url::parse("https://id.example").unwrap()).domain(), "id.example");
    }

    #[test]
    fn a_cdn_gets_the_paths_of_pictures_and_nothing_else() {
        let cdn = Url::parse("https://cdn.example/orrery/").unwrap();
        let links = Links::new(&Url::parse("https://id.example").unwrap()).with_pictures(Some(&cdn));
        let icon = Icon { public: Uuid::from_u128(7), width: 64, format: Format::Jpeg };
        assert_eq!(
            links.picture(&icon),
            format!("https://cdn.example/orrery/avatars/{}/64.jpg", Uuid::from_u128(7))
        );
        assert_eq!(links.profile("ada"), "https://id.example/users/ada");
    }
}
