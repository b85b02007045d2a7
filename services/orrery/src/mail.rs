//! `orrery mail`: tries the way out, and lets addresses have mail again. What is said and what it means lives in maily.

use std::process::ExitCode;

use clap::Subcommand;
use orrery_maily::{config::Config as Maily, records};
use orrery_schemas::services::ServiceId;
use orrery_store::Pool;
use orrery_supervise::{clock::Clock, random::Random};
use tokio::runtime::Handle;

use crate::{config::Config, terminal::out};

/// What to do about mail.
#[derive(Subcommand)]
pub enum Mail {
    /// Sends a sample to an address, past every queue, and shows the whole dialogue and what to do. Exit code 1: it was not taken.
    Test {
        /// Whom to send it to.
        address: String,
    },
    /// Sends to an address again that mail came back from. Exit code 1: it was not suppressed.
    Release {
        /// Which one.
        address: String,
    },
    /// Shows how many addresses mail came back from. Which they are nobody can read: only digests are kept.
    Suppressed,
}

/// Runs one of the commands.
pub async fn run(config: Config, mail: Mail) -> anyhow::Result<ExitCode> {
    let keys = config.shared.keys.mail().map_err(anyhow::Error::msg)?;
    match mail {
        Mail::Test { address } => {
            let maily: Maily = config.source.section("maily")?;
            let (clock, random) = (Clock::System, Random::system()?);
            let id = random.uuid_v7(&clock).to_string();
            let report = orrery_maily::test(&maily, &keys, &address, &id, clock.now()).await?;
            for line in &report.lines {
                out(line)?;
            }
            for (name, text) in &report.records {
                out(&format!("* DNS should have: {name} TXT \"{text}\""))?;
            }
            let (line, code) = match report.result {
                Ok(line) => (line, ExitCode::SUCCESS),
                Err(line) => (line, ExitCode::FAILURE),
            };
            out(&line)?;
            Ok(code)
        }
        Mail::Release { address } => {
            let mut connection = pool(&config)?.get().await?;
            let released =
                records::release(&mut connection, &records::Digests::new(keys.keys()), &address).await?;
            out(if released { "mail is sent to it again" } else { "it is not suppressed" })?;
            Ok(if released { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Mail::Suppressed => {
            let mut connection = pool(&config)?.get().await?;
            let found = records::suppressions(&mut connection).await?;
            let latest =
                found.latest.map(|at| format!(", the last one since {}", at.format("%Y-%m-%d %H:%M UTC")));
            out(&format!("{} addresses{}", found.count, latest.unwrap_or_default()))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn pool(config: &Config) -> anyhow::Result<Pool> {
    let maily: ServiceId = orrery_maily::SERVICE.service;
    Ok(Pool::new(&config.shared.database, maily, Handle::current())?)
}
