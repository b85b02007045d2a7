//! What the names of upstreams stand for, looked up again when their time to live is over.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tracing::warn;
use url::{Host, Url};

/// The bounds of a name's time to live, and the time for which a look-up by the system, which tells none, is believed.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
const BY_SYSTEM: Duration = Duration::from_secs(5);
/// How long the name servers are waited for, before the system is asked: it may have the name in a file of its own (/etc/hosts).
const PATIENCE: Duration = Duration::from_secs(2);

/// One address of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it takes connections.
    pub address: SocketAddr,
    /// Its `Host`.
    pub authority: String,
    /// The name on its certificate, if it speaks TLS.
    pub tls: Option<ServerName<'static>>,
}

/// Looks names up.
pub struct Resolver {
    dns: Option<TokioResolver>,
}

/// What a list of URLs stands for, as far as it is known.
pub struct Answer {
    /// The addresses, each once; what could not be looked up has those it had.
    pub found: Vec<Found>,
    /// When to look again; never where there are only addresses.
    pub again: Option<Duration>,
}

impl Resolver {
    /// Looks up by the system's name servers, and by the system itself where it names none.
    pub fn new() -> Self {
        let dns = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        let dns =
            dns.inspect_err(|error| warn!(%error, "names are looked up by the system, without their TTL"));
        Self { dns: dns.ok() }
    }

    /// Looks all of them up, side by side.
    pub async fn answer(&self, urls: &[Url], before: &[Found]) -> Answer {
        let answers = join_all(urls.iter().map(|url| self.one(url))).await;
        let mut answer = Answer { found: Vec::new(), again: None };
        for (url, looked_up) in urls.iter().zip(answers) {
            let authority = authority(url);
            let (found, again) = match looked_up {
                Ok((addresses, again)) => {
                    let tls = server_name(url);
                    let found = addresses.into_iter().map(|address| Found {
                        address,
                        authority: authority.clone(),
                        tls: tls.clone(),
                    });
                    (found.collect(), again)
                }
                Err(error) => {
                    warn!(%error, upstream = authority, "an upstream's name cannot be looked up; what was known stays");
                    let known = before.iter().filter(|found| found.authority == authority);
                    (known.cloned().collect::<Vec<_>>(), Some(SHORTEST))
                }
            };
            for found in found {
                if !answer.found.contains(&found) {
                    answer.found.push(found);
                }
            }
            answer.again = match (answer.again, again) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        }
        answer
    }

    async fn one(&self, url: &Url) -> Result<(Vec<SocketAddr>, Option<Duration>), String> {
        let port = url.port_or_known_default().unwrap_or(80);
        let name = match url.host() {
            Some(Host::Ipv4(address)) => return Ok((vec![(IpAddr::V4(address), port).into()], None)),
            Some(Host::Ipv6(address)) => return Ok((vec![(IpAddr::V6(address), port).into()], None)),
            Some(Host::Domain(name)) => name,
            None => return Err("it has no host".to_owned()),
        };
        let by_dns = match &self.dns {
            Some(dns) if name != "localhost" => timeout(PATIENCE, dns.lookup_ip(name)).await.ok(),
            _ => None,
        };
        match by_dns {
            Some(Ok(looked_up)) => {
                let left = looked_up.valid_until().saturating_duration_since(Instant::now());
                let addresses = looked_up.iter().map(|address| (address, port).into()).collect();
                Ok((addresses, Some(left.clamp(SHORTEST, LONGEST))))
            }
            Some(Err(_)) | None => {
                let addresses =
                    tokio::net::lookup_host((name, port)).await.map_err(|error| error.to_string())?;
                Ok((addresses.collect(), Some(BY_SYSTEM)))
            }
        }
    }
}

/// The `Host` of a URL.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn server_name(url: &Url) -> Option<ServerName<'static>> {
    if url.scheme() != "https" {
        return None;
    }
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).ok()
}

#[cfg(test)]
mod tests {
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;

    use super::*;

    #[tokio::test]
    async fn a_name_that_the_system_has_is_found_while_the_name_server_is_silent() {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        let server = NameServerConfig::new(address.ip(), true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let dns =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap();
        let resolver = Resolver { dns: Some(dns) };
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap();
        let names = hosts
            .lines()
            .filter(|line| line.starts_with("127."))
            .flat_map(|line| line.split_whitespace().skip(1));
        let name = names.into_iter().find(|name| !name.starts_with("localhost"));
        let name = name.expect("give this machine's name an address in /etc/hosts, such as 127.0.1.1");
        let url = Url::parse(&format!("http://{name}:81")).unwrap();
        let answer = resolver.answer(&[url], &[]).await;
        let found: Vec<_> = answer.found.iter().map(|found| found.address).collect();
        assert!(found.iter().any(|address| address.ip().is_loopback() && address.port() == 81), "{found:?}");
    }
}
