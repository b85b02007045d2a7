//! `orrery-bench [name]`: what the README promises, measured on the release build with real parts. `./dev bench` runs
//! it with the variables that it needs. Each figure is in a file of its own; what they share is `stage` and `figures`.

mod bus;
mod figures;
mod machine;
mod memory;
mod pictures;
mod sign_up;
mod stage;
mod start;

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
}

impl Benchmark {
    fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Bus => "bus",
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
    };
    Ok(Report { benchmark: benchmark.name(), machine, figures })
}

/// Tells on stderr what is being measured; stdout is the table's alone.
#[expect(clippy::print_stderr, reason = "a benchmark takes a minute and says what it does")]
fn progress(text: &str) {
    eprintln!("bench: {text}");
}
