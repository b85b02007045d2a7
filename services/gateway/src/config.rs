//! The section `gateway`: where the public listener is, where the upstreams are, and every limit of the edge.

use std::{fmt, net::SocketAddr, time::Duration};

use orrery_actors::config::Section;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};
use url::Url;

/// The gateway's listener, upstreams and limits.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port of the only listener that is exposed.
    pub listen: SocketAddr,
    /// Autha's replicas: `http://host:port`, a list, or one text with commas.
    #[serde(deserialize_with = "urls")]
    pub autha: Vec<Url>,
    /// Threads that serve.
    pub workers: usize,
    /// Connections that each worker holds at most; those beyond it wait in the backlog.
    pub connections: usize,
    /// How long a client may take to send the head of its request.
    #[serde(with = "humantime_serde")]
    pub client_timeout: Duration,
    /// The longest pause between two chunks of a request's body, and the time for all of a small one.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// The time for all of an uploaded picture.
    #[serde(with = "humantime_serde")]
    pub upload_timeout: Duration,
    /// How long an upstream may be silent while it is its turn.
    #[serde(with = "humantime_serde")]
    pub upstream_timeout: Duration,
    /// Bytes of a body, for every route but the upload of a picture.
    pub body_limit: u64,
    /// Bytes of an uploaded picture, with some slack: autha says precisely what is too large.
    pub upload_limit: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            autha: Url::parse("http://127.0.0.1:8081").into_iter().collect(),
            workers: 2,
            connections: 1024,
            client_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(15),
            upload_timeout: Duration::from_secs(300),
            upstream_timeout: Duration::from_secs(15),
            body_limit: 64 * 1024,
            upload_limit: 10 * 1024 * 1024 + 64 * 1024,
        }
    }
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        if self.autha.is_empty() {
            faults
                .push("gateway.autha: name at least one upstream, such as http://127.0.0.1:8081".to_owned());
        }
        for url in &self.autha {
            let bare = matches!(url.path(), "" | "/")
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none();
            if url.scheme() != "http" || !url.has_host() || !bare {
                // Not the URL itself: someone may have written a password into it.
                faults.push("gateway.autha: each upstream is http://host:port and nothing else".to_owned());
            }
        }
        for (name, value) in [("workers", self.workers), ("connections", self.connections)] {
            if value == 0 {
                faults.push(format!("gateway.{name}: must be above zero"));
            }
        }
        for (name, value) in [
            ("client_timeout", self.client_timeout),
            ("body_timeout", self.body_timeout),
            ("upload_timeout", self.upload_timeout),
            ("upstream_timeout", self.upstream_timeout),
        ] {
            if value.is_zero() {
                faults.push(format!("gateway.{name}: must be above zero, such as 15s"));
            }
        }
        if self.body_limit == 0 {
            faults.push("gateway.body_limit: must be above zero; it is in bytes".to_owned());
        }
        if self.upload_limit < self.body_limit {
            faults.push(
                "gateway.upload_limit: must be at least gateway.body_limit; both are in bytes".to_owned(),
            );
        }
    }
}

/// Reads a list of URLs, or one text in which they are separated by commas (what an environment variable can say).
fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Url>, D::Error> {
    struct Urls;

    fn url<E: de::Error>(text: &str) -> Result<Url, E> {
        // The cause says what is wrong; the text is left out, it may hold a password.
        Url::parse(text.trim()).map_err(|error| E::custom(format_args!("an upstream is no URL: {error}")))
    }

    impl<'de> Visitor<'de> for Urls {
        type Value = Vec<Url>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of URLs, or one text with commas between them")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            text.split(',').filter(|part| !part.trim().is_empty()).map(url).collect()
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut urls = Vec::new();
            while let Some(text) = list.next_element::<String>()? {
                urls.push(url(&text)?);
            }
            Ok(urls)
        }
    }

    deserializer.deserialize_any(Urls)
}

#[cfg(test)]
mod tests {
    use figment::{
        Figment,
        providers::{Format, Serialized, Toml},
    };

    use super::*;

    fn read(toml: &str) -> Result<Config, Box<figment::Error>> {
        Figment::from(Toml::string(toml)).extract().map_err(Box::new)
    }

    fn faults(config: &Config) -> Vec<String> {
        let mut faults = Vec::new();
        config.validate(&mut faults);
        faults
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(faults(&Config::default()), Vec::<String>::new());
        assert_eq!(Config::default().autha.len(), 1);
    }

    #[test]
    fn upstreams_are_a_text_with_commas_or_a_list() {
        for toml in [
            r#"autha = "http://a:1,http://b:2""#,
            r#"autha = " http://a:1 , http://b:2,""#,
            r#"autha = ["http://a:1", "http://b:2"]"#,
        ] {
            let config = read(toml).unwrap();
            let hosts: Vec<_> = config.autha.iter().map(|url| url.host_str().unwrap()).collect();
            assert_eq!(hosts, ["a", "b"], "{toml}");
        }
    }

    #[test]
    fn upstreams_come_from_the_environment() {
        // How figment reads a variable's text.
        let value: figment::value::Value = "http://a:1,http://b:2".parse().unwrap();
        let config: Config = Figment::from(Serialized::default("autha", value)).extract().unwrap();
        assert_eq!(config.autha.len(), 2);
    }

    #[test]
    fn a_key_that_is_unknown_or_no_url_is_refused() {
        assert!(read("lisen = '127.0.0.1:1'").is_err());
        let error = read("autha = 'secret-host'").unwrap_err().to_string();
        assert!(error.contains("upstream") && !error.contains("secret-host"), "{error}");
    }

    #[test]
    fn each_fault_names_the_path_of_its_field() {
        let config = read(
            "autha = 'https://user:pw@a/b?c'\nworkers = 0\nconnections = 0\nclient_timeout = '0s'\n\
             body_timeout = '0s'\nupstream_timeout = '0s'\nbody_limit = 0\n",
        )
        .unwrap();
        let lines = faults(&config);
        for field in [
            "autha",
            "workers",
            "connections",
            "client_timeout",
            "body_timeout",
            "upstream_timeout",
            "body_limit",
        ] {
            assert!(
                lines.iter().any(|line| line.starts_with(&format!("gateway.{field}: "))),
                "{field}: {lines:?}"
            );
        }
        assert!(lines.iter().all(|line| !line.contains("pw")), "{lines:?}");
        assert_eq!(faults(&read("autha = ''").unwrap()).len(), 1);
        assert_eq!(faults(&read("upload_limit = 1").unwrap()).len(), 1);
    }
}
