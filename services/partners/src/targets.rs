//! The one way out to addresses that partners name. A name is looked up here, every address of it is checked, and the connection goes to one of those that
//! were checked: whoever changes the name meanwhile changes nothing. No redirect is followed, no proxy used, no answer read beyond its limits.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
};
use ipnet::IpNet;
use reqwest::{
    Client, Method, RequestBuilder, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::HeaderMap,
    redirect::Policy,
};

use crate::config::{Delivery, Targets};

/// The longest URL.
const LONGEST: usize = 2_048;
/// How long a look-up may take.
const LOOK_UP: Duration = Duration::from_secs(5);
/// Connections that are kept to one host.
const IDLE: usize = 64;
/// How long one is kept: a name that has moved is looked up again.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// Networks that no third party may have us speak to, though they look like any other. IPv6 is taken from `2000::/3` only.
const NOT_PUBLIC: [&str; 21] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "168.63.129.16/32", // Azure's platform
    // Those that hold an IPv4 address: what is behind them is not seen here.
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "2620:4f:8000::/48",
];
/// Names that mean something inside, whatever they resolve to.
const INSIDE: [&str; 7] = ["localhost", "local", "internal", "intranet", "lan", "home.arpa", "localdomain"];

/// Why an address is not spoken to, in words of ours: nothing of what a peer said stands in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It is no URL that is taken.
    #[error("{0}")]
    Url(&'static str),
    /// It is, or leads to, an address that is not public.
    #[error("it leads to an address that is not public")]
    NotPublic,
    /// Its name cannot be looked up.
    #[error("its name cannot be looked up")]
    Name,
    /// No connection, or no TLS: the certificate is not valid, or not for that name.
    #[error("no connection, or no valid certificate")]
    Connection,
    /// It took too long.
    #[error("it took too long")]
    Timeout,
    /// It answered something else than HTTP, or broke off.
    #[error("it did not answer, or not in HTTP")]
    Answer,
    /// Its answer is too long.
    #[error("its answer is longer than is read")]
    TooLong,
}

/// What an address answered.
#[derive(Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
}

/// What is allowed, and the client that keeps to it.
#[derive(Clone)]
pub struct Gate {
    rules: Arc<Rules>,
    client: Client,
    answer_bytes: usize,
}

struct Rules {
    allow_http: bool,
    allowed: Vec<IpNet>,
    refused: Vec<IpNet>,
}

/// The gate cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The name servers.
    #[error("names cannot be looked up: {0}")]
    Names(String),
    /// The authorities.
    #[error("partners.targets.ca_file: {0}")]
    Authorities(String),
    /// The client.
    #[error("the HTTP client cannot be built: {0}")]
    Client(#[from] reqwest::Error),
}

impl Gate {
    /// The gate of these settings.
    ///
    /// # Errors
    /// When the name servers are not known, or the authorities cannot be read.
    pub fn new(targets: &Targets, delivery: &Delivery) -> Result<Self, GateError> {
        let refused = NOT_PUBLIC.iter().filter_map(|network| network.parse().ok()).collect();
        let rules =
            Arc::new(Rules { allow_http: targets.allow_http, allowed: targets.networks.clone(), refused });
        let resolver = resolver(targets)?;
        let names = Names { rules: Arc::clone(&rules), resolver };
        let mut client = Client::builder()
            .dns_resolver(Arc::new(names))
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .retry(reqwest::retry::never())
            .connect_timeout(delivery.connect_timeout)
            .timeout(delivery.timeout)
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_TIME)
            .user_agent("Orrery-Webhook/1.0");
        if let Some(file) = &targets.ca_file {
            let shown = |what: String| GateError::Authorities(format!("{}: {what}", file.display()));
            let pem = std::fs::read(file).map_err(|error| shown(error.to_string()))?;
            let authorities =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| shown(error.to_string()))?;
            client = client.tls_certs_merge(authorities);
        }
        Ok(Self { rules, client: client.build()?, answer_bytes: delivery.answer_bytes })
    }

    /// Whether a URL may be an endpoint's, as far as it tells by itself.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, text: &str) -> Result<Url, Unreachable> {
        if text.len() > LONGEST {
            return Err(Unreachable::Url("it is longer than 2048 bytes"));
        }
        let url = Url::parse(text).map_err(|_| Unreachable::Url("it is no URL"))?;
        match url.scheme() {
            "https" => {}
            "http" if self.rules.allow_http => {}
            _ => return Err(Unreachable::Url("it must begin with https://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Unreachable::Url("it must hold no user and no password"));
        }
        if url.fragment().is_some() {
            return Err(Unreachable::Url("it must have no fragment"));
        }
        match url.host() {
            Some(url::Host::Ipv4(address)) => self.rules.check(IpAddr::V4(address))?,
            Some(url::Host::Ipv6(address)) => self.rules.check(IpAddr::V6(address))?,
            Some(url::Host::Domain(name)) => check_name(name)?,
            None => return Err(Unreachable::Url("it has no host")),
        }
        Ok(url)
    }

    /// Begins a request to a URL, which is checked once more: rules may have changed since it was taken.
    ///
    /// # Errors
    /// Why it may not be.
    pub fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, Unreachable> {
        Ok(self.client.request(method, self.check(url)?))
    }

    /// Sends a request and reads its answer to the end, or to the limit.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answered, Unreachable> {
        let mut response: Response = request.send().await.map_err(|error| explained(&error))?;
        let answered =
            Answered { status: response.status().as_u16(), headers: std::mem::take(response.headers_mut()) };
        // What is left unread costs the connection; what is read is forgotten.
        let mut read = 0;
        while let Some(chunk) = response.chunk().await.map_err(|error| explained(&error))? {
            read += chunk.len();
            if read > self.answer_bytes {
                return Err(Unreachable::TooLong);
            }
        }
        Ok(answered)
    }
}

impl Rules {
    fn check(&self, address: IpAddr) -> Result<(), Unreachable> {
        let address = address.to_canonical();
        if self.allowed.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        let is_global = match address {
            IpAddr::V4(address) => address != Ipv4Addr::BROADCAST,
            IpAddr::V6(address) => is_unicast(address),
        };
        if is_global && !self.refused.iter().any(|network| network.contains(&address)) {
            return Ok(());
        }
        Err(Unreachable::NotPublic)
    }
}

/// `2000::/3`, the only range that is given to anybody.
fn is_unicast(address: Ipv6Addr) -> bool {
    address.segments().first().is_some_and(|first| first & 0xe000 == 0x2000)
}

fn check_name(name: &str) -> Result<(), Unreachable> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_inside = INSIDE.iter().any(|inside| {
        name.strip_suffix(inside).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    });
    // A name of one word is completed by the machine's search list.
    if is_inside || !name.contains('.') { Err(Unreachable::NotPublic) } else { Ok(()) }
}

fn resolver(targets: &Targets) -> Result<TokioResolver, GateError> {
    let fault = |error: &dyn std::fmt::Display| GateError::Names(error.to_string());
    let mut builder = if targets.name_servers.is_empty() {
        TokioResolver::builder_tokio().map_err(|error| fault(&error))?
    } else {
        let servers = targets.name_servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    // An answer is used once; who moves an endpoint is not to wait for us.
    builder.options_mut().positive_max_ttl = Some(Duration::from_secs(60));
    builder.options_mut().negative_max_ttl = Some(Duration::from_secs(5));
    builder.build().map_err(|error| fault(&error))
}

/// Looks names up for the client, and hands on checked addresses only.
struct Names {
    rules: Arc<Rules>,
    resolver: TokioResolver,
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let (rules, resolver) = (Arc::clone(&self.rules), self.resolver.clone());
        Box::pin(async move {
            check_name(name.as_str())?;
            // With a dot at its end: no search list.
            let whole = format!("{}.", name.as_str().trim_end_matches('.'));
            let found = tokio::time::timeout(LOOK_UP, resolver.lookup_ip(whole)).await;
            let found = found.map_err(|_| Unreachable::Name)?.map_err(|_| Unreachable::Name)?;
            let addresses: BTreeSet<IpAddr> = found.iter().collect();
            // One bad address among good ones is no accident.
            addresses.iter().try_for_each(|address| rules.check(*address))?;
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            let addresses: Addrs = Box::new(addresses.collect::<Vec<_>>().into_iter());
            Ok(addresses)
        })
    }
}

/// What an error of the client means. Its own text names the address.
fn explained(error: &reqwest::Error) -> Unreachable {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(own) = error.downcast_ref::<Unreachable>() {
            return own.clone();
        }
        cause = error.source();
    }
    if error.is_timeout() {
        Unreachable::Timeout
    } else if error.is_connect() {
        Unreachable::Connection
    } else {
        Unreachable::Answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(networks: &[&str], allow_http: bool) -> Gate {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        Gate::new(&Targets { allow_http, networks, ..Targets::default() }, &Delivery::default()).unwrap()
    }

    #[test]
    fn every_network_of_the_list_is_one() {
        assert!(NOT_PUBLIC.iter().all(|network| network.parse::<IpNet>().is_ok()));
    }

    #[tokio::test]
    async fn only_public_addresses_and_names_are_taken() {
        let gate = gate(&[], false);
        for good in
            ["https://example.com/hook", "https://93.184.216.34/", "https://[2606:2800:220:1::1]/x?y=z"]
        {
            assert!(gate.check(good).is_ok(), "{good}");
        }
        for inside in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://0/",
            "https://10.1.2.3/",
            "https://172.31.0.1/",
            "https://192.168.0.1/",
            "https://169.254.169.254/latest/meta-data/",
            "https://100.100.100.200/",
            "https://[::1]/",
            "https://[::]/",
            "https://[fe80::1]/",
            "https://[fd00::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:a00:1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://[2002:7f00:1::]/",
            "https://[ff02::1]/",
            "https://255.255.255.255/",
            "https://224.0.0.1/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://metadata.google.internal/",
            "https://printer.local/",
            "https://intranet/",
            "https://168.63.129.16/",
        ] {
            assert_eq!(gate.check(inside).unwrap_err(), Unreachable::NotPublic, "{inside}");
        }
        for other in [
            "http://example.com/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "https://user@example.com/",
            "https://u:p@example.com/",
            "https://example.com/#x",
            "gopher://example.com/",
            "example.com",
            "https://",
        ] {
            assert!(matches!(gate.check(other), Err(Unreachable::Url(_))), "{other}");
        }
        assert!(matches!(
            gate.check(&format!("https://example.com/{}", "x".repeat(2_048))),
            Err(Unreachable::Url(_))
        ));
    }

    #[tokio::test]
    async fn a_network_that_is_named_is_taken_and_no_other() {
        let gate = gate(&["127.0.0.0/8"], true);
        assert!(gate.check("http://127.0.0.1:9/").is_ok());
        assert!(gate.check("http://[::ffff:127.0.0.1]:9/").is_ok());
        assert!(gate.check("http://10.0.0.1/").is_err());
        assert!(gate.check("http://localhost:9/").is_err(), "names are not addresses");
    }
}
