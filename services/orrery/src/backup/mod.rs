//! `orrery backup` and `orrery restore`: database, objects and keys, sealed into one file in a folder or a bucket. What a file is made of lives in
//! `archive`, where files lie in `place`.

mod archive;
pub mod config;
mod make;
mod place;
mod restore;
mod sealed;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Args;
use orrery_config::duration;
use orrery_console::text::count;
use orrery_supervise::{clock::Clock, random::Random};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use self::place::Place;
use crate::{config::Config, terminal::out};

/// What to do.
#[derive(Args)]
pub struct Backup {
    /// Shows the backups that there are instead, oldest first.
    #[arg(long, conflicts_with = "every")]
    list: bool,
    /// Makes one now and then again and again, such as 24h, until SIGTERM; where no timer of the system does it.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    every: Option<Duration>,
}

/// What to restore, and how far.
#[derive(Args)]
pub struct Restore {
    /// Which backup, as `orrery backup --list` names it; the newest when none is named.
    name: Option<String>,
    /// Only reads all of it: whether it opens, is whole, and what it holds.
    #[arg(long)]
    check: bool,
    /// Only writes the installation's keys into this folder, as keys.master, keys.mail and keys.discovery: first of all on a new machine.
    #[arg(long, value_name = "FOLDER", conflicts_with = "check")]
    keys_into: Option<PathBuf>,
}

impl Backup {
    /// Whether it goes on by itself, and writes a log instead of speaking to a person.
    pub fn is_repeated(&self) -> bool {
        self.every.is_some() && !self.list
    }
}

/// `orrery backup`.
pub async fn backup(config: Config, Backup { list, every }: Backup) -> anyhow::Result<ExitCode> {
    let place = Place::new(&config.backup)?;
    if list {
        for name in place.list().await? {
            out(&name)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let Some(every) = every else {
        out(&once(&config, &place).await?)?;
        return Ok(ExitCode::SUCCESS);
    };
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            made = once(&config, &place) => match made {
                Ok(told) => info!("{told}"),
                Err(error) => error!(error = crate::told(&error), "no backup was made; the next try is at its time"),
            },
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// Makes one, removes those that are too many, and says what there is.
async fn once(config: &Config, place: &Place) -> anyhow::Result<String> {
    let now = Clock::System.now();
    let name = place::name(now);
    let mut to = place.create(&name).await.with_context(|| format!("{name} cannot be written"))?;
    let made = match make::make(config, &Random::system()?, now, &mut to).await {
        Ok(made) => made,
        Err(error) => {
            // The fault that is told is the first one.
            to.abort().await.ok();
            return Err(error);
        }
    };
    to.finish().await.with_context(|| format!("{name} cannot be written"))?;
    let removed = place.prune(config.backup.keep).await.context("older backups cannot be removed")?;
    Ok(format!("{name}: {made}; {} removed", count(u64::try_from(removed)?, "older one")))
}

/// `orrery restore`.
pub async fn restore(
    config: Config,
    Restore { name, check, keys_into }: Restore,
) -> anyhow::Result<ExitCode> {
    let place = Place::new(&config.backup)?;
    let name = match name {
        Some(name) => name,
        None => place.list().await?.pop().context("there is no backup")?,
    };
    let from = place.open(&name).await.with_context(|| format!("{name} cannot be read"))?;
    let told = match (check, keys_into) {
        (_, Some(folder)) => restore::keys(&config, from, &folder).await,
        (true, None) => restore::check(&config, from).await,
        (false, None) => restore::restore(&config, from).await,
    };
    out(&format!("{name}: {}", told.with_context(|| name.clone())?))?;
    Ok(ExitCode::SUCCESS)
}
