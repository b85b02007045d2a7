//! The processes of the installation: this one by its own supervisor, others by their internal listeners. What is done with them lives in `http`.

use std::time::Duration;

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
        futures_util::future::join_all(self.urls.iter().map(|url| self.one(url))).await
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
    pub async fn metrics(&self) -> Option<Vec<(&str, String)>> {
        let asked = self.urls.iter().map(|url| async move {
            let page =
                self.get(&format!("{}/metrics", url.as_str().trim_end_matches('/')), LARGEST_METRICS).await;
            Some((url.host_str().unwrap_or_default(), String::from_utf8(page.ok()?).ok()?))
        });
        futures_util::future::join_all(asked).await.into_iter().collect()
    }

    /// Has the actor of that name restarted in the process at `address`, by a `pass` of this console.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn restart(&self, address: &str, actor: &str, pass: &str) -> Result<(), String> {
        let Some(url) = self.urls.iter().find(|url| url.as_str().trim_end_matches('/') == address) else {
            return Err("no such process is among console.processes".to_owned());
        };
        let mut url = url.clone();
        url.path_segments_mut()
            .map_err(|()| "its address cannot have a path".to_owned())?
            .pop_if_empty()
            .extend(["health", "actors", actor, "restart"]);
        let answer = self.client.post(url).bearer_auth(pass).send().await;
        let answer = answer.map_err(|error| error.without_url().to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
    }
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
