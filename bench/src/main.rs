//! `orrery-bench [name]`: what the README promises, measured on the release build with real parts. `./dev bench` runs
//! it with the variables that it needs. Each figure is in a file of its own; what they share is `stage` and `figures`.

mod autha;
mod bus;
mod discovery;
mod figures;
mod gateway;
mod images;
mod machine;
mod mail;
mod memory;
mod partners;
mod pictures;
mod sign_up;
mod stage;
mod start;
mod telemetry;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::figures::Report;
use crate::machine::Machine;
use crate::stage::Stage;

/// Measures a release build of Orrery against real parts.
#[derive(Parser)]
struct Arguments {
    /// Which benchmark; all when none is named.
    #[arg(value_enum)]
    name: Option<Benchmark>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Benchmark {
    /// The main job: sign-up to mail, upload to variants, memory, start.
    Main,
    /// The bus beside bare lapin: publish, consume, inbox, relay, commit to effect; and beside faststream.
    Bus,
    /// Avatar sets a second beside sharp and Pillow, with bytes and structural similarity.
    Images,
    /// Mails a second into a server that takes everything, beside lettre in a bare loop.
    Mail,
    /// Accounts: logins and sign-ups beside bare Argon2id, reads alone and in a storm of logins, refreshes.
    Autha,
    /// Peers: idle sockets, joins, frames over two replicas, beside a bare echo.
    Discovery,
    /// The gateway beside nginx: requests a second, p99, memory.
    Gateway,
    /// Reads and log-ins with telemetry off and on.
    Telemetry,
    /// Third parties over HTTP: events in, deliveries out to 1, 100 and 1,000 endpoints, commit to webhook.
    Partners,
}

impl Benchmark {
    fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Bus => "bus",
            Self::Images => "images",
            Self::Mail => "mail",
            Self::Autha => "autha",
            Self::Discovery => "discovery",
            Self::Gateway => "gateway",
            Self::Telemetry => "telemetry",
            Self::Partners => "partners",
        }
    }
}

/// An aim that is missed is printed, not an error: other work on the machine must not fail a build.
fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    for benchmark in arguments.name.map_or_else(|| Benchmark::value_variants().to_vec(), |name| vec![name]) {
        let report = runtime.block_on(run(benchmark))?;
        let path = report.write()?;
        report.print(&path);
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(benchmark: Benchmark) -> Result<Report> {
    let machine = Machine::look()?;
    let figures = match benchmark {
        Benchmark::Main => {
            let picture = pictures::photograph()?;
            let mut stage = Stage::start().await?;
            let mut figures = sign_up::measure(&stage).await?;
            figures.extend(pictures::measure(&stage, &picture).await?);
            figures.extend(memory::measure(&mut stage).await?);
            figures.extend(start::measure(&mut stage).await?);
            figures
        }
        Benchmark::Bus => bus::measure().await?,
        Benchmark::Images => images::measure(&pictures::photograph()?)?,
        Benchmark::Mail => mail::measure().await?,
        Benchmark::Autha => {
            let stage = Stage::start().await?;
            autha::measure(&stage).await?
        }
        Benchmark::Discovery => discovery::measure().await?,
        Benchmark::Gateway => gateway::measure().await?,
        Benchmark::Telemetry => telemetry::measure().await?,
        Benchmark::Partners => partners::measure().await?,
    };
    Ok(Report { benchmark: benchmark.name(), machine, figures })
}

/// Tells on stderr what is being measured; stdout is the table's alone.
#[expect(clippy::print_stderr, reason = "a benchmark takes a minute and says what it does")]
fn progress(text: &str) {
    eprintln!("bench: {text}");
}
