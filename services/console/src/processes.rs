//! The processes of the installation: this one by its own supervisor, others by their internal listeners. What is done with them lives in `http`.

use std::{net::IpAddr, time::Duration};

use orrery_supervise::ActorStatus;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::client::client;

/// How long another process may take to answer.
const LIMIT: Duration = Duration::from_secs(3);
/// The most that is read of its answer.
const LARGEST: usize = 1024 * 1024;
/// The same of its metrics.
const LARGEST_METRICS: usize = 4 * 1024 * 1024;

/// An actor of a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ActorRow {
    /// Its name.
    pub name: String,
    /// running, waiting or stopped.
    pub state: String,
    /// Lives before this one.
    pub restarts: u64,
    /// Messages that wait.
    pub waiting: u64,
    /// Messages at work.
    pub at_work: u64,
    /// How many may wait.
    pub capacity: usize,
    /// How many may be at work.
    pub concurrency: usize,
    /// Messages that were refused.
    pub refused: u64,
    /// Messages whose work panicked.
    pub failures: u64,
    /// How its last life, or its last failed message, ended.
    pub last_error: Option<String>,
}

/// A process as it was seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its internal listener; empty for the console's own process.
    pub address: String,
    /// Its version.
    pub version: String,
    /// How long it has run.
    pub uptime_seconds: f64,
    /// What it runs.
    pub services: Vec<String>,
    /// ready, degraded, unready, or unreachable.
    pub status: String,
    /// What is away, with the reason.
    pub causes: std::collections::BTreeMap<String, String>,
    /// Its actors.
    pub actors: Vec<ActorRow>,
}

impl From<ActorStatus> for ActorRow {
    fn from(actor: ActorStatus) -> Self {
        use orrery_supervise::ActorState;
        Self {
            name: actor.name,
            state: match actor.state {
                ActorState::Running => "running",
                ActorState::Waiting => "waiting",
                ActorState::Stopped => "stopped",
            }
            .to_owned(),
            restarts: actor.restarts,
            waiting: actor.waiting,
            at_work: actor.at_work,
            capacity: actor.capacity,
            concurrency: actor.concurrency,
            refused: actor.refused,
            failures: actor.failures,
            last_error: actor.last_error,
        }
    }
}

/// Asks other processes.
#[derive(Clone)]
pub struct Others {
    client: Client,
    urls: Vec<Url>,
}

impl Others {
    /// Those at these internal listeners.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(urls: Vec<Url>) -> Result<Self, reqwest::Error> {
        Ok(Self { client: client(&urls, LIMIT)?, urls })
    }

    /// Looks at all of them at once.
    pub async fn look(&self) -> Vec<Process> {
        let urls = self.each().await;
        futures_util::future::join_all(urls.iter().map(|url| self.one(url))).await
    }

    /// An address for each process: a name may stand for all replicas of a deployment.
    async fn each(&self) -> Vec<Url> {
        let asked = self.urls.iter().map(|url| async move { replicas(url, &addresses(url).await) });
        futures_util::future::join_all(asked).await.concat()
    }

    async fn one(&self, url: &Url) -> Process {
        let address = url.as_str().trim_end_matches('/').to_owned();
        match self.ask(&format!("{address}/health/process")).await {
            Ok(process) => Process { address, ..process },
            Err(why) => Process {
                address,
                status: "unreachable".to_owned(),
                causes: [("process".to_owned(), why)].into(),
                ..Process::default()
            },
        }
    }

    async fn ask(&self, url: &str) -> Result<Process, String> {
        let bytes = self.get(url, LARGEST).await?;
        serde_json::from_slice(&bytes)
            .map_err(|_| "its answer cannot be read: is it an orrery of this version?".to_owned())
    }

    async fn get(&self, url: &str, largest: usize) -> Result<Vec<u8>, String> {
        let told = |error: reqwest::Error| error.without_url().to_string();
        let answer = self.client.get(url).send().await.map_err(told)?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status()));
        }
        read(answer, largest).await
    }

    /// The metrics of each, with its host; none when one does not answer.
    pub async fn metrics(&self) -> Option<Vec<(String, String)>> {
        let urls = self.each().await;
        let asked = urls.iter().map(|url| async move {
            let page =
                self.get(&format!("{}/metrics", url.as_str().trim_end_matches('/')), LARGEST_METRICS).await;
            Some((url.host_str().unwrap_or_default().to_owned(), String::from_utf8(page.ok()?).ok()?))
        });
        futures_util::future::join_all(asked).await.into_iter().collect()
    }

    /// Has the actor of that name restarted in the process at `address`, by a `pass` of this console.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn restart(&self, address: &str, actor: &str, pass: &str) -> Result<(), String> {
        let urls = self.each().await;
        let Some(mut url) = urls.into_iter().find(|url| url.as_str().trim_end_matches('/') == address) else {
            return Err("no such process is among console.processes".to_owned());
        };
        url.path_segments_mut()
            .map_err(|()| "its address cannot have a path".to_owned())?
            .pop_if_empty()
            .extend(["health", "actors", actor, "restart"]);
        let answer = self.client.post(url).bearer_auth(pass).send().await;
        let answer = answer.map_err(|error| error.without_url().to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
    }
}

/// What the name of an address stands for at present; nothing where it is no name, or is not known.
async fn addresses(url: &Url) -> Vec<IpAddr> {
    let Some((url::Host::Domain(name), port)) = url.host().zip(url.port_or_known_default()) else {
        return Vec::new();
    };
    match tokio::time::timeout(LIMIT, tokio::net::lookup_host((name, port))).await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        // Whoever asks it is told why.
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// The address of each replica. A certificate is one of the name, and a host has addresses of two families: then, and where there is one, the name itself.
fn replicas(url: &Url, addresses: &[IpAddr]) -> Vec<Url> {
    let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
    let mut of_one_family: Vec<IpAddr> =
        addresses.iter().copied().filter(|address| address.is_ipv4() == has_v4).collect();
    of_one_family.sort();
    of_one_family.dedup();
    if url.scheme() != "http" || of_one_family.len() < 2 {
        return vec![url.clone()];
    }
    let replica = |address| {
        let mut replica = url.clone();
        replica.set_ip_host(address).ok().map(|()| replica)
    };
    of_one_family.into_iter().filter_map(replica).collect()
}

/// An answer's body, `limit` bytes at most.
///
/// # Errors
/// Why it was not read.
pub async fn read(mut answer: reqwest::Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| error.without_url().to_string())? {
        if bytes.len() + chunk.len() > limit {
            return Err("its answer is too long".to_owned());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str, addresses: &[&str]) -> Vec<String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        replicas(&Url::parse(url).unwrap(), &addresses).into_iter().map(String::from).collect()
    }

    #[test]
    fn a_name_stands_for_each_of_its_replicas() {
        let name = "http://internal-autha:8090/";
        assert_eq!(
            told(name, &["10.0.0.8", "10.0.0.7", "10.0.0.8"]),
            ["http://10.0.0.7:8090/", "http://10.0.0.8:8090/"]
        );
        assert_eq!(told(name, &["fd00::1", "fd00::2"]), ["http://[fd00::1]:8090/", "http://[fd00::2]:8090/"]);
        // One process, whose host has two addresses; and one that is not known.
        assert_eq!(told("http://localhost:8090/", &["::1", "127.0.0.1"]), ["http://localhost:8090/"]);
        assert_eq!(told(name, &[]), [name]);
        // By a number its certificate would be none of it.
        assert_eq!(told("https://autha.example/", &["10.0.0.7", "10.0.0.8"]), ["https://autha.example/"]);
    }
}
