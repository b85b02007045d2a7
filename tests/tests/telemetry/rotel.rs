//! rotel: a collector that takes OTLP and passes it on to the receiver. It can be killed, held and started again at the same address.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use orrery_tests::{deadline::until, ports::Port, process::Process};
use tokio::net::TcpStream;

use super::sink::Sink;

/// As `tests/telemetry/install` has it.
const VERSION: &str = "0.0.1a15";

pub struct Rotel {
    program: PathBuf,
    folder: tempfile::TempDir,
    grpc: Port,
    http: Port,
    to: String,
    process: Process,
}

impl Rotel {
    /// Starts it before `sink`.
    pub async fn start(sink: &Sink) -> Result<Self> {
        let program =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../.run/telemetry/rotel-{VERSION}"));
        ensure!(program.exists(), "rotel is missing: run tests/telemetry/install");
        let program = program.canonicalize()?;
        let (folder, grpc, http) = (tempfile::tempdir()?, Port::reserve()?, Port::reserve()?);
        let process = run(&program, &folder, &grpc, &http, &sink.url())?;
        let rotel = Self { program, folder, grpc, http, to: sink.url(), process };
        rotel.listens().await?;
        Ok(rotel)
    }

    /// Where it takes gRPC.
    pub fn grpc_url(&self) -> String {
        format!("http://{}", self.grpc.address())
    }

    /// Where it takes HTTP.
    pub fn http_url(&self) -> String {
        format!("http://{}", self.http.address())
    }

    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    pub async fn restart(&mut self) -> Result<()> {
        self.process = run(&self.program, &self.folder, &self.grpc, &self.http, &self.to)?;
        self.listens().await
    }

    async fn listens(&self) -> Result<()> {
        let log = self.folder.path().join("rotel.log");
        let up = until(Duration::from_secs(20), "rotel to listen", async || {
            TcpStream::connect(self.grpc.address()).await.is_ok()
        });
        up.await.with_context(|| std::fs::read_to_string(log).unwrap_or_default())
    }
}

fn run(program: &Path, folder: &tempfile::TempDir, grpc: &Port, http: &Port, to: &str) -> Result<Process> {
    let (grpc, http) = (grpc.address().to_string(), http.address().to_string());
    let arguments = [
        "start",
        "--otlp-grpc-endpoint",
        &grpc,
        "--otlp-http-endpoint",
        &http,
        "--exporter",
        "otlp",
        "--otlp-exporter-endpoint",
        to,
        "--otlp-exporter-protocol",
        "http",
        "--batch-timeout",
        "100ms",
    ];
    let log = folder.path().join("rotel.log");
    Process::spawn(program, &arguments, &BTreeMap::new(), folder.path(), &log)
}
