//! The section `gateway`: its listeners, where the upstreams are, and every limit of the edge.

pub mod limits;
pub mod listener;
pub mod providers;
pub mod route;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use orrery_config::Section;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};
use url::Url;

use self::{
    limits::{Cache, Cors, Rates, Verify},
    listener::Listener,
    providers::Providers,
    route::Configured,
};

/// The gateway's listeners, upstreams and limits.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address and port of the only listener that is exposed; not used where `listeners` names some.
    pub listen: SocketAddr,
    /// Autha's replicas: `http://host:port`, a list, or one text with commas.
    #[serde(deserialize_with = "urls")]
    pub autha: Vec<Url>,
    /// The path below which the outside sees the gateway, such as `/accounts`; empty for none.
    pub base_path: String,
    /// Threads that serve.
    pub workers: usize,
    /// Connections that each worker holds at most; those beyond it wait in the backlog.
    pub connections: usize,
    /// Connections that one network holds at most; more are refused. What a network is says `rates`.
    pub network_connections: usize,
    /// Requests at work at once, in all; more are answered 503.
    pub requests: usize,
    /// Requests that one replica of an upstream has at work at most; more are answered 503.
    pub outstanding: usize,
    /// How long a connection to an upstream may take.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How often each replica is asked whether it is ready; zero: never, and only failures set one aside.
    #[serde(with = "humantime_serde")]
    pub probe_every: Duration,
    /// A PEM file with authorities of one's own for upstreams by https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ca_file: Option<PathBuf>,
    /// How long a client may take to send the head of its request.
    #[serde(with = "humantime_serde")]
    pub client_timeout: Duration,
    /// How long a connection without a request at work is kept, whatever trickles in.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
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
    /// Bytes of a batch of events.
    pub batch_limit: u64,
    /// Bytes of an uploaded picture, with some slack: autha says precisely what is too large.
    pub upload_limit: u64,
    /// What callers may ask.
    pub rates: Rates,
    /// Browser applications on other origins.
    pub cors: Cors,
    /// What is kept.
    pub cache: Cache,
    /// Whose tokens `/auth/verify` knows.
    pub verify: Verify,
    /// Service providers that operators register.
    pub providers: Providers,
    /// Replicas of services, by their names; `autha` may stand here too.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub upstreams: BTreeMap<String, Urls>,
    /// Listeners beside or in place of `listen`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Listener>,
    /// Routes beside those of the services.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Configured>,
}

/// A list of URLs, or one text with commas between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Urls(#[serde(deserialize_with = "urls")] pub Vec<Url>);

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            autha: Url::parse("http://127.0.0.1:8081").into_iter().collect(),
            base_path: String::new(),
            workers: 2,
            connections: 8192,
            network_connections: 1024,
            requests: 1024,
            outstanding: 256,
            // Above the second after which the system sends a SYN again that a full queue dropped.
            connect_timeout: Duration::from_millis(1500),
            probe_every: Duration::from_secs(1),
            upstream_ca_file: None,
            client_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(15),
            upload_timeout: Duration::from_secs(300),
            upstream_timeout: Duration::from_secs(15),
            body_limit: 64 * 1024,
            batch_limit: 1024 * 1024,
            upload_limit: 10 * 1024 * 1024 + 64 * 1024,
            rates: Rates::default(),
            cors: Cors::default(),
            cache: Cache::default(),
            verify: Verify::default(),
            providers: Providers::default(),
            upstreams: BTreeMap::new(),
            listeners: Vec::new(),
            routes: Vec::new(),
        }
    }
}

impl Config {
    /// The listeners: those that are named, or the one of `listen`.
    pub fn listeners(&self) -> Vec<Listener> {
        if self.listeners.is_empty() {
            return vec![Listener { address: Some(self.listen), ..Listener::default() }];
        }
        self.listeners.clone()
    }

    /// The replicas of a service, if they are configured.
    pub fn upstreams_of(&self, service: &str) -> Option<&Vec<Url>> {
        match self.upstreams.get(service) {
            Some(Urls(urls)) => Some(urls),
            None => (service == "autha").then_some(&self.autha),
        }
    }

    /// Whether any upstream speaks TLS.
    pub fn has_tls_upstream(&self) -> bool {
        let services = self.upstreams.values().flat_map(|Urls(urls)| urls);
        let routes = self.routes.iter().flat_map(|route| &route.upstreams);
        services.chain(routes).chain(&self.autha).any(|url| url.scheme() == "https")
    }
}

/// Adds a line when a URL is more than a scheme, a host and a port.
fn validate_upstream(at: &str, url: &Url, faults: &mut Vec<String>) {
    let bare = matches!(url.path(), "" | "/")
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !bare {
        // Not the URL itself: someone may have written a password into it.
        faults.push(format!("{at}: each upstream is http://host:port or https://host:port and nothing else"));
    }
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        if self.autha.is_empty() {
            faults
                .push("gateway.autha: name at least one upstream, such as http://127.0.0.1:8081".to_owned());
        }
        for url in &self.autha {
            validate_upstream("gateway.autha", url, faults);
        }
        for (service, Urls(urls)) in &self.upstreams {
            let at = format!("gateway.upstreams.{service}");
            if urls.is_empty() {
                faults.push(format!("{at}: name at least one upstream"));
            }
            for url in urls {
                validate_upstream(&at, url, faults);
            }
        }
        let base = &self.base_path;
        if !base.is_empty() && (!base.starts_with('/') || base.ends_with('/') || base.contains("//")) {
            faults.push(
                "gateway.base_path: must begin with a slash and not end with one, such as /accounts"
                    .to_owned(),
            );
        }
        for (at, listener) in self.listeners.iter().enumerate() {
            listener.validate(&format!("gateway.listeners.{at}"), faults);
        }
        for (at, route) in self.routes.iter().enumerate() {
            route.validate(&format!("gateway.routes.{at}"), faults);
        }
        self.rates.validate(faults);
        self.cors.validate(faults);
        self.providers.validate(faults);
        for (name, value) in [
            ("workers", self.workers),
            ("connections", self.connections),
            ("network_connections", self.network_connections),
            ("requests", self.requests),
            ("outstanding", self.outstanding),
        ] {
            if value == 0 {
                faults.push(format!("gateway.{name}: must be above zero"));
            }
        }
        for (name, value) in [
            ("client_timeout", self.client_timeout),
            ("body_timeout", self.body_timeout),
            ("upload_timeout", self.upload_timeout),
            ("upstream_timeout", self.upstream_timeout),
            ("connect_timeout", self.connect_timeout),
            ("idle_timeout", self.idle_timeout),
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
            "autha = 'ftp://user:pw@a/b?c'\nworkers = 0\nconnections = 0\nclient_timeout = '0s'\n\
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
