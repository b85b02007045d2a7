//! A Redis of a test's own, from Debian's package, which can be killed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::deadline::until;
use crate::ports::Port;
use crate::process::{Process, tail};

const SERVER: &str = "/usr/bin/redis-server";
/// The longest that a start may take.
const READY: Duration = Duration::from_secs(30);

/// A Redis that writes nothing to disk; dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: Port,
    _folder: TempDir,
}

impl Redis {
    /// Starts one.
    ///
    /// # Errors
    /// Redis is not installed, or does not start.
    pub async fn start() -> Result<Self> {
        ensure!(Path::new(SERVER).exists(), "no {SERVER}: apt-get install redis-server");
        let folder = tempfile::Builder::new().prefix("orrery-redis-").tempdir()?;
        let port = Port::reserve()?;
        let (address, log) = (port.address(), folder.path().join("log"));
        let number = address.port().to_string();
        let arguments = ["--bind", "127.0.0.1", "--port", &number, "--save", "", "--appendonly", "no"];
        let mut process =
            Process::spawn(Path::new(SERVER), &arguments, &BTreeMap::new(), folder.path(), &log)?;
        until(READY, "Redis", async || {
            process.ended().is_some() || tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await
        .with_context(|| tail(&log, 20))?;
        ensure!(process.ended().is_none(), "Redis ended:\n{}", tail(&log, 20));
        Ok(Self { process, port, _folder: folder })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// SIGKILL; what it knew is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
