//! `orrery events`: rows of the outbox that wait for a decision, and the decision to publish them again.

use std::{
    io::{BufRead, IsTerminal},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use orrery_actors::{
    config::duration,
    store::{
        Pool,
        outbox::{self, Listed, Which},
    },
};
use tokio::runtime::Handle;

use crate::config::Config;

/// Rows that one transaction publishes again.
const BATCH: i64 = 1000;

/// What to do.
#[derive(Subcommand)]
pub enum Events {
    /// Shows events, oldest first: ids, types and what kept them, nothing of what they tell.
    List {
        #[command(flatten)]
        selection: Selection,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: i64,
        /// A JSON object a line, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Has events published again, with a fresh count; handlers skip those that they have done.
    Replay {
        #[command(flatten)]
        selection: Selection,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Which events; those that no queue was bound for, unless another kind is named.
#[derive(Args)]
pub struct Selection {
    /// Only of this type.
    #[arg(long = "type", value_name = "TYPE")]
    ty: Option<String>,
    #[command(flatten)]
    kind: Kind,
}

#[derive(Args)]
#[group(multiple = false)]
struct Kind {
    /// No queue was bound for them, and they have not expired.
    #[arg(long)]
    unrouted: bool,
    /// They could not be published: too large, too long a key, refused every time.
    #[arg(long)]
    failed: bool,
    /// They were sent within this time, such as 24h: for a broker that lost its disk.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    sent_since: Option<Duration>,
}

impl Selection {
    fn which(&self) -> Which {
        match &self.kind {
            Kind { sent_since: Some(since), .. } => Which::SentSince(*since),
            Kind { failed: true, .. } => Which::Failed,
            Kind { .. } => Which::Unrouted,
        }
    }
}

/// Does it.
pub async fn run(config: Config, events: Events) -> anyhow::Result<ExitCode> {
    let pool = Pool::admin(&config.database, 1, Handle::current())?;
    match events {
        Events::List { selection, limit, json } => list(&pool, &selection, limit, json).await,
        Events::Replay { selection, yes } => replay(&pool, &selection, yes).await,
    }
}

async fn list(pool: &Pool, selection: &Selection, limit: i64, json: bool) -> anyhow::Result<ExitCode> {
    let mut connection = pool.get().await?;
    let moment = outbox::now(&mut connection).await?;
    let ty = selection.ty.as_deref();
    let rows = outbox::list(&mut connection, selection.which(), ty, moment, limit).await?;
    if json {
        for row in &rows {
            say(&serde_json::to_string(row)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let all = outbox::count(&mut connection, selection.which(), ty, moment).await?;
    if !rows.is_empty() {
        say(&format!("{:<36}  {:<20}  {:>8}  {:<40}  why", "id", "time", "attempts", "type"));
    }
    rows.iter().for_each(|row| say(&line(row)));
    say(&format!("{} of {all}", rows.len()));
    Ok(ExitCode::SUCCESS)
}

fn line(row: &Listed) -> String {
    let time = row.time.format("%Y-%m-%dT%H:%M:%SZ");
    let why = row.last_error.as_deref().unwrap_or("-");
    format!("{}  {time}  {:>8}  {:<40}  {why}", row.id, row.attempts, row.ty)
}

async fn replay(pool: &Pool, selection: &Selection, yes: bool) -> anyhow::Result<ExitCode> {
    let mut connection = pool.get().await?;
    let moment = outbox::now(&mut connection).await?;
    let (which, ty) = (selection.which(), selection.ty.as_deref());
    let all = outbox::count(&mut connection, which, ty, moment).await?;
    if all > 0 && !yes && !confirmed(all)? {
        say("nothing was done");
        return Ok(ExitCode::FAILURE);
    }
    let mut replayed = 0;
    loop {
        let batch = outbox::replay(&mut connection, which, ty, moment, BATCH).await?;
        replayed += batch;
        if batch == 0 {
            break;
        }
        if std::io::stderr().is_terminal() {
            tell(&format!("{replayed} of {all}"));
        }
    }
    say(&format!("{replayed} events are published again"));
    Ok(ExitCode::SUCCESS)
}

fn confirmed(all: i64) -> anyhow::Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("{all} events would be published again: say --yes");
    }
    tell(&format!("publish {all} events again? [y/N]"));
    let mut answer = String::new();
    input.lock().read_line(&mut answer).context("reading the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(
    clippy::print_stderr,
    reason = "questions and progress are for the person, not for a program that reads the answer"
)]
fn tell(text: &str) {
    eprintln!("{text}");
}
