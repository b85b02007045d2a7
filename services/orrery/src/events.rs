//! `orrery events`: rows of the outbox that wait for a decision, and the decision to publish them again.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use orrery_config::duration;
use orrery_console::text;
use orrery_store::{
    Pool,
    outbox::{self, Listed, Which},
};

use crate::{
    config::Config,
    queues::{self, EXIT_CODES},
    terminal::{Answer, Progress, ask, is_closed, out, tell},
};

/// What to do.
#[derive(Subcommand)]
pub enum Events {
    #[command(after_help = EXIT_CODES)]
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
    #[command(after_help = EXIT_CODES)]
    /// Has events published again, with a fresh count; handlers skip those that they have done.
    Replay {
        #[command(flatten)]
        selection: Selection,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    #[command(after_help = EXIT_CODES)]
    /// Keeps events no longer that could not be published (`list --failed`); asks first.
    Drop {
        /// Only of this type.
        #[arg(long = "type", value_name = "TYPE")]
        ty: Option<String>,
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
    /// A queue should have been bound for them and none was, and they have not expired.
    #[arg(long)]
    unrouted: bool,
    /// Nobody was meant to get them, and they have not expired: for who binds a queue of their own.
    #[arg(long)]
    unwanted: bool,
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
            Kind { unwanted: true, .. } => Which::Unwanted,
            Kind { .. } => Which::Unrouted,
        }
    }
}

/// Does it.
pub async fn run(config: Config, events: Events) -> anyhow::Result<ExitCode> {
    let pool = queues::pool(&config)?;
    let outcome = match events {
        Events::List { selection, limit, json } => list(&pool, &selection, limit, json).await,
        Events::Replay { selection, yes } => {
            replay(&pool, &selection, yes, config.shared.broker.event_lifetime).await
        }
        Events::Drop { ty, yes } => drop_failed(&pool, ty.as_deref(), yes).await,
    };
    match outcome {
        // A reader that has seen enough, such as head, is no fault.
        Err(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
        outcome => outcome,
    }
}

/// As with `orrery queues`: 3 says that nothing matched.
fn ended(matched: usize) -> ExitCode {
    if matched == 0 { ExitCode::from(3) } else { ExitCode::SUCCESS }
}

async fn list(pool: &Pool, selection: &Selection, limit: i64, json: bool) -> anyhow::Result<ExitCode> {
    let mut connection = pool.get().await?;
    let moment = outbox::now(&mut connection).await?;
    let ty = selection.ty.as_deref();
    let rows = outbox::list(&mut connection, selection.which(), ty, moment, limit).await?;
    if json {
        for row in &rows {
            out(&serde_json::to_string(row)?)?;
        }
        return Ok(ended(rows.len()));
    }
    let all = outbox::count(&mut connection, selection.which(), ty, moment).await?;
    if !rows.is_empty() {
        out(&format!("{:<36}  {:<20}  {:>8}  {:<40}  why", "id", "time", "attempts", "type"))?;
    }
    for row in &rows {
        out(&line(row))?;
    }
    out(&format!("{} of {all}", rows.len()))?;
    Ok(ended(rows.len()))
}

fn line(row: &Listed) -> String {
    let time = row.time.format("%Y-%m-%dT%H:%M:%SZ");
    let why = row.last_error.as_deref().unwrap_or("-");
    format!("{}  {time}  {:>8}  {:<40}  {why}", row.id, row.attempts, row.ty)
}

async fn replay(
    pool: &Pool,
    selection: &Selection,
    yes: bool,
    lifetime: Duration,
) -> anyhow::Result<ExitCode> {
    let mut connection = pool.get().await?;
    let moment = outbox::now(&mut connection).await?;
    let (which, ty) = (selection.which(), selection.ty.as_deref());
    let total = u64::try_from(outbox::count(&mut connection, which, ty, moment).await?)?;
    drop(connection);
    if let Some(refused) =
        refused(total, &format!("publish {} again?", text::count(total, "event")), yes).await?
    {
        return Ok(refused);
    }
    let mut progress = Progress::new("publishing", "event", total);
    let replayed = if total == 0 {
        0
    } else {
        let operator = queues::operator(pool)?;
        operator.replay(which, ty, moment, lifetime, u64::MAX, |replayed| progress.at(replayed)).await?
    };
    drop(progress);
    out(&format!("{replayed} events are published again"))?;
    Ok(ended(usize::try_from(replayed)?))
}

async fn drop_failed(pool: &Pool, ty: Option<&str>, yes: bool) -> anyhow::Result<ExitCode> {
    let mut connection = pool.get().await?;
    let moment = outbox::now(&mut connection).await?;
    let total = u64::try_from(outbox::count(&mut connection, Which::Failed, ty, moment).await?)?;
    drop(connection);
    let question = format!("drop {} that could not be published?", text::count(total, "event"));
    if let Some(refused) = refused(total, &question, yes).await? {
        return Ok(refused);
    }
    let mut progress = Progress::new("dropping", "event", total);
    let dropped = match total {
        0 => 0,
        _ => queues::operator(pool)?.give_up(ty, moment, |dropped| progress.at(dropped)).await?,
    };
    drop(progress);
    out(&format!("{dropped} events are dropped"))?;
    Ok(ended(usize::try_from(dropped)?))
}

/// How the command ends when whoever types does not want it after all; nothing is asked of nothing.
async fn refused(total: u64, question: &str, yes: bool) -> anyhow::Result<Option<ExitCode>> {
    if total == 0 {
        return Ok(None);
    }
    Ok(match ask(question, yes).await? {
        Answer::Yes => None,
        Answer::No => {
            tell("nothing was done");
            Some(ExitCode::FAILURE)
        }
        Answer::Nobody => Some(ExitCode::from(2)),
    })
}
