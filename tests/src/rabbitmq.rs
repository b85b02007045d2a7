//! A RabbitMQ node of a test's own, from Debian's package, which can be killed and started again. What only needs a virtual
//! host has one on the shared broker (`broker`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lapin::{Connection, ConnectionProperties};
use reqwest::Url;
use serde_json::Value;
use tempfile::TempDir;

use crate::deadline::until;
use crate::ports::Port;
use crate::process::{Process, tail};

/// Not Debian's wrapper, which wants root and /var/lib/rabbitmq.
const SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
const CONTROL: &str = "/usr/lib/rabbitmq/bin/rabbitmqctl";
const EPMD: &str = "/usr/bin/epmd";
/// The longest that a start may take, the recovery after a kill included.
const READY: Duration = Duration::from_secs(120);
/// How long Erlang may keep the name of a new queue to itself. Killed before, the broker has the queue's data without its
/// name, and the queue never has a leader again (seen on 3.10 after 0 s, not after 1 s; on 4.0.5 after 2 s no more).
const WRITTEN: Duration = Duration::from_secs(2);
/// Between two looks.
const POLL: Duration = Duration::from_millis(100);

/// A node with its management plugin and its own name server; dropping it kills both and removes its data.
#[derive(Debug)]
pub struct RabbitMq {
    node: Mutex<Option<Process>>,
    _names: Process,
    settings: BTreeMap<String, String>,
    amqp: Port,
    management: Port,
    /// Of the name server and of the node's own protocol: held, so that nobody takes them while the node is away.
    _inner: [Port; 2],
    folder: TempDir,
}

impl RabbitMq {
    /// Makes a node and starts it.
    ///
    /// # Errors
    /// RabbitMQ is not installed, or does not start.
    pub async fn start() -> Result<Self> {
        ensure!(Path::new(SERVER).exists(), "no {SERVER}: apt-get install rabbitmq-server");
        let folder = tempfile::Builder::new().prefix("orrery-rabbitmq-").tempdir()?;
        let (amqp, management, names, distribution) =
            (Port::reserve()?, Port::reserve()?, Port::reserve()?, Port::reserve()?);
        let conf = format!(
            "listeners.tcp.1 = {}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\nlog.file = false\n\
             log.console = true\nlog.console.level = warning\ndisk_free_limit.absolute = 50MB\n",
            amqp.address(),
            management.address().port()
        );
        let path = folder.path();
        std::fs::write(path.join("rabbitmq.conf"), conf)?;
        std::fs::write(path.join("enabled_plugins"), "[rabbitmq_management].\n")?;
        // Instead of /etc/rabbitmq's, like all that is named in the settings.
        std::fs::write(path.join("rabbitmq-env.conf"), "")?;
        std::fs::create_dir(path.join("conf.d"))?;
        let settings = settings(path, &names, &distribution)?;
        let port = names.address().port().to_string();
        let log = path.join("epmd.log");
        // Erlang would start one of its own accord and leave it behind.
        let arguments = ["-port", port.as_str(), "-address", "127.0.0.1"];
        let process = Process::spawn(Path::new(EPMD), &arguments, &settings, path, &log)?;
        until(Duration::from_secs(15), "epmd", async || {
            tokio::net::TcpStream::connect(names.address()).await.is_ok()
        })
        .await
        .with_context(|| tail(&log, 20))?;
        let broker = Self {
            node: Mutex::default(),
            _names: process,
            settings,
            amqp,
            management,
            _inner: [names, distribution],
            folder,
        };
        broker.resume().await?;
        Ok(broker)
    }

    /// The URL of its AMQP listener.
    ///
    /// # Errors
    /// None is known.
    pub fn url(&self) -> Result<Url> {
        Ok(Url::parse(&format!("amqp://guest:guest@{}", self.amqp.address()))?)
    }

    /// The URL of its management API.
    ///
    /// # Errors
    /// None is known.
    pub fn management_url(&self) -> Result<Url> {
        Ok(Url::parse(&format!("http://guest:guest@{}", self.management.address()))?)
    }

    /// SIGKILL to the node: no shutdown, nothing flushed.
    pub fn kill(&self) {
        // Dropping the process kills it.
        self.node.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Starts the node at its addresses, again if need be, and waits until it takes connections.
    ///
    /// # Errors
    /// It does not within 120 s; the error has the end of its log.
    pub async fn resume(&self) -> Result<()> {
        self.kill();
        let url = format!("{}/%2f", self.url()?.as_str().trim_end_matches('/'));
        let mut node = self.run()?;
        // No `eventually`: a future with an asynchronous closure cannot be spawned, and tests spawn this one.
        let end = Instant::now() + READY;
        loop {
            let connect = Connection::connect(&url, ConnectionProperties::default());
            if let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_secs(5), connect).await {
                connection.close(200, "".into()).await.ok();
                break;
            }
            ensure!(Instant::now() < end, "RabbitMQ takes no connections:\n{}", tail(&self.log(), 40));
            if node.ended().is_some() {
                // The name server may not have noticed yet that the killed one is gone.
                node = self.run()?;
            }
            tokio::time::sleep(POLL).await;
        }
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = Some(node);
        Ok(())
    }

    /// Waits until every quorum queue of a virtual host has a leader and is written down: killed before, the broker loses it.
    ///
    /// # Errors
    /// One has none within `deadline`, or there is none at all.
    pub async fn wait_leaders(&self, vhost: &str, deadline: Duration) -> Result<()> {
        let url = self.management_url()?.join(&format!("api/queues/{vhost}"))?;
        let http = reqwest::Client::new();
        until(deadline, "every quorum queue to have a leader", async || {
            let Ok(answer) = http.get(url.clone()).send().await else { return false };
            let queues: Vec<Value> = answer.json().await.unwrap_or_default();
            let led = |queue: &Value| {
                queue.get("leader").and_then(Value::as_str).is_some_and(|name| !name.is_empty())
            };
            !queues.is_empty() && queues.iter().all(led)
        })
        .await?;
        // No condition tells it.
        tokio::time::sleep(WRITTEN).await;
        Ok(())
    }

    /// Runs `rabbitmqctl` with these arguments.
    ///
    /// # Errors
    /// It fails; the error has what it wrote.
    pub async fn control(&self, arguments: &[&str]) -> Result<()> {
        let control = tokio::process::Command::new(CONTROL)
            .args(arguments)
            .env_clear()
            .envs(&self.settings)
            .env_remove("detached")
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(READY, control).await??;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn run(&self) -> Result<Process> {
        Process::spawn(Path::new(SERVER), &[], &self.settings, self.folder.path(), &self.log())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("rabbitmq.log")
    }
}

/// What makes a node independent of any other on this machine. `detached` lets the start script become the Erlang machine
/// instead of waiting for it, so that a kill meets the node itself.
fn settings(folder: &Path, names: &Port, distribution: &Port) -> Result<BTreeMap<String, String>> {
    let text =
        |path: &str| folder.join(path).to_str().map(str::to_owned).context("a folder that is no UTF-8");
    let own = |text: &str| text.to_owned();
    let port = distribution.address().port();
    let settings = [
        ("PATH", own("/usr/sbin:/usr/bin:/sbin:/bin")),
        ("LANG", own("C.UTF-8")),
        ("HOME", text("")?),
        ("detached", own("1")),
        ("ERL_EPMD_PORT", names.address().port().to_string()),
        ("ERL_EPMD_ADDRESS", own("127.0.0.1")),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            own("-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false"),
        ),
        ("RABBITMQ_NODENAME", format!("orrery-{port}@localhost")),
        ("RABBITMQ_DIST_PORT", port.to_string()),
        ("RABBITMQ_CONF_ENV_FILE", text("rabbitmq-env.conf")?),
        ("RABBITMQ_CONFIG_FILE", text("rabbitmq.conf")?),
        ("RABBITMQ_CONFIG_FILES", text("conf.d")?),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", text("enabled_plugins")?),
        ("RABBITMQ_MNESIA_BASE", text("data")?),
        ("RABBITMQ_LOG_BASE", text("log")?),
        ("RABBITMQ_GENERATED_CONFIG_DIR", text("generated")?),
        ("RABBITMQ_SCHEMA_DIR", text("schema")?),
        ("RABBITMQ_PLUGINS_EXPAND_DIR", text("plugins")?),
        ("RABBITMQ_PID_FILE", text("pid")?),
    ];
    Ok(settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}
