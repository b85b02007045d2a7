//! `orrery queues dead`: lists, redrives and drops. Which letters are meant is said in `choice`; export and the showing of one live in `export`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use orrery_console::{
    batches::{self, Deed},
    table::{Align, Table, known},
    text,
};
use orrery_schemas::email::SEAL_PURPOSE;
use orrery_seal::Sealer;
use orrery_store::{
    Pool,
    dead_letters::{
        Filter,
        read::{self, Summary},
    },
};
use serde_json::json;
use uuid::Uuid;

use super::{
    EXIT_CODES, End,
    choice::{Choice, Chosen},
    export, operator, pool, watched,
};
use crate::{
    config::Config,
    terminal::{Answer, Progress, ask, out, tell},
};

/// What to do with dead letters.
#[derive(Args)]
pub struct Dead {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists letters, the last first. Nothing in a list is personal.
    #[command(after_help = EXIT_CODES)]
    List(List),
    /// Counts letters by handler and reason, and in all.
    #[command(after_help = EXIT_CODES)]
    Count(Count),
    /// Shows one letter: why it failed, its headers, the event in it.
    #[command(after_help = EXIT_CODES)]
    Show(export::Show),
    /// Sends letters to their handler again, with a fresh count, through the outbox.
    #[command(after_help = EXIT_CODES)]
    Redrive(Redrive),
    /// Throws letters away. Asks first.
    #[command(after_help = EXIT_CODES)]
    Drop(Remove),
    /// Writes letters as JSON lines, with everything that is needed to look at them elsewhere. They stay where they are.
    #[command(after_help = EXIT_CODES)]
    Export(export::Export),
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    choice: Choice,
    /// Letters on a page.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// The page after this letter, the last one of the page before.
    #[arg(long, value_name = "ID")]
    after: Option<Uuid>,
}

#[derive(Args)]
struct Count {
    #[command(flatten)]
    choice: Choice,
}

#[derive(Args)]
struct Redrive {
    #[command(flatten)]
    choice: Choice,
    /// All letters. Asks first.
    #[arg(long)]
    all: bool,
    /// At most so many a second, such as 50/s, or max. A new message waits behind what is redriven.
    #[arg(long, value_name = "N/s", default_value = "100/s", value_parser = rate)]
    rate: Rate,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

/// Letters a second; none: as fast as it goes.
#[derive(Clone, Copy)]
struct Rate(Option<u32>);

#[derive(Args)]
struct Remove {
    #[command(flatten)]
    choice: Choice,
    /// All letters.
    #[arg(long)]
    all: bool,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "max" {
        return Ok(Rate(None));
    }
    let rate = text.strip_suffix("/s").unwrap_or(text).parse().ok().filter(|rate| *rate > 0);
    rate.map(|rate| Rate(Some(rate))).ok_or_else(|| "write letters a second, such as 50/s, or max".to_owned())
}

/// Does what was asked for.
pub async fn run(config: &Config, dead: Dead, json: bool) -> anyhow::Result<End> {
    match dead.command {
        Command::List(arguments) => list(config, arguments, json).await,
        Command::Count(Count { choice }) => count(config, choice, json).await,
        Command::Show(arguments) => export::show(config, &arguments, json).await,
        Command::Redrive(Redrive { choice, all, rate, yes }) => {
            if choice.is_empty() && !all {
                return Ok(unchosen());
            }
            // Whoever names letters has thought of them.
            let asks = all && !yes;
            redrive(config, choice, rate, asks, json).await
        }
        Command::Drop(Remove { choice, all, yes }) => {
            if choice.is_empty() && !all {
                return Ok(unchosen());
            }
            remove(config, choice, yes, json).await
        }
        Command::Export(arguments) => {
            if arguments.is_unchosen() {
                return Ok(unchosen());
            }
            export::export(config, arguments).await
        }
    }
}

fn unchosen() -> End {
    tell(
        "orrery: say which letters, by --id, --handler, --type, --reason, --older-than or --newer-than, or --all",
    );
    End::Usage
}

/// Opens what is sealed for maily; `None` when nothing is to be revealed.
pub fn sealer(config: &Config, reveal: bool) -> anyhow::Result<Option<Sealer>> {
    if !reveal {
        return Ok(None);
    }
    let ring = config
        .shared
        .keys
        .mail()
        .map_err(|fault| anyhow::anyhow!("--reveal opens addresses with the mail key: {fault}"))?;
    Ok(Some(Sealer::new(&ring, SEAL_PURPOSE)?))
}

async fn list(config: &Config, arguments: List, json: bool) -> anyhow::Result<End> {
    let limit = usize::from(arguments.limit);
    let pool = pool(config)?;
    let filter = match arguments.choice.filter(config, &pool).await? {
        Chosen::Letters(filter) => filter,
        other => return Ok(other.end()),
    };
    // One more than is shown tells whether there is another page.
    let mut letters = {
        let mut connection = pool.get().await?;
        read::page(&mut connection, &filter, arguments.after, i64::from(arguments.limit) + 1).await?
    };
    let more = letters.len() > limit;
    letters.truncate(limit);
    let next = letters.last().filter(|_| more).map(|letter| letter.id);
    if json {
        out(&text::json(&json!({"letters": letters, "next_after": next}))?)?;
    } else if letters.is_empty() {
        tell("no dead letter matches");
    } else {
        for line in page(&letters) {
            out(&line)?;
        }
        if let Some(next) = next {
            tell(&format!("\nthere are more: repeat it with --after {next}"));
        }
    }
    Ok(if letters.is_empty() { End::Nothing } else { End::Done })
}

/// Two lines for each letter: together they would be wider than a terminal.
fn page(letters: &[Summary]) -> Vec<String> {
    let mut first = Table::new(&[
        ("ID", Align::Left),
        ("AGE", Align::Right),
        ("TRIES", Align::Right),
        ("HANDLER", Align::Left),
        ("TYPE", Align::Left),
    ]);
    let mut second = Table::new(&[("  TRACE", Align::Left), ("REASON", Align::Left)]);
    for letter in letters {
        first.row([
            letter.id.to_string(),
            text::age(letter.age_seconds),
            letter.attempts.to_string(),
            letter.handler.clone(),
            known(letter.ty.as_ref()),
        ]);
        second.row([format!("  {}", known(letter.trace_id.as_ref())), letter.reason.clone()]);
    }
    first.lines().into_iter().zip(second.lines()).flat_map(<[String; 2]>::from).collect()
}

/// Reasons that are shown one by one.
const REASONS: usize = 50;

async fn count(config: &Config, choice: Choice, json: bool) -> anyhow::Result<End> {
    let pool = pool(config)?;
    let filter = match choice.filter(config, &pool).await? {
        Chosen::Letters(filter) => filter,
        other => return Ok(other.end()),
    };
    let (by_handler, until) = batches::chosen(&pool, &filter).await?;
    let total: u64 = by_handler.iter().map(|(_, letters)| letters).sum();
    let filter = Filter { until: Some(until), ..filter };
    let mut connection = pool.get().await?;
    let reasons = read::reasons(&mut connection, &filter, i64::try_from(REASONS)?).await?;
    if json {
        let handlers: serde_json::Map<_, _> =
            by_handler.iter().map(|(handler, letters)| (handler.clone(), json!(letters))).collect();
        out(&text::json(&json!({"total": total, "handlers": handlers, "reasons": reasons}))?)?;
    } else {
        let mut table =
            Table::new(&[("LETTERS", Align::Right), ("HANDLER", Align::Left), ("REASON", Align::Left)]);
        for row in &reasons {
            table.row([row.letters.to_string(), row.handler.clone(), row.reason.clone()]);
        }
        for line in table.lines() {
            out(&line)?;
        }
        if reasons.len() == REASONS {
            tell("there are more reasons: narrow it down by --handler, --type or --newer-than");
        }
        out(&format!("{} in all", text::count(total, "dead letter")))?;
    }
    Ok(if total == 0 { End::Nothing } else { End::Done })
}

async fn redrive(config: &Config, choice: Choice, rate: Rate, asks: bool, json: bool) -> anyhow::Result<End> {
    let pool = pool(config)?;
    let filter = match choice.filter(config, &pool).await? {
        Chosen::Letters(filter) => filter,
        other => return Ok(other.end()),
    };
    let (chosen, until) = batches::chosen(&pool, &filter).await?;
    let watched = watched(config);
    let homeless: Vec<_> = chosen
        .iter()
        .filter(|(handler, _)| !watched.letter_names().any(|known| known == handler))
        .map(|(handler, _)| text::safe(handler))
        .collect();
    // Nobody would take them: their rows would expire in the outbox.
    anyhow::ensure!(
        homeless.is_empty(),
        "no enabled service has the handler {}: enable it and run 'orrery migrate', or choose others by --handler",
        homeless.join(", ")
    );
    let total: u64 = chosen.iter().map(|(_, letters)| letters).sum();
    if total > 0 && asks {
        match ask(&format!("send {} again ({})?", text::count(total, "dead letter"), listed(&chosen)), false)
            .await?
        {
            Answer::Yes => {}
            Answer::Nobody => return Ok(End::Usage),
            Answer::No => {
                tell("nothing was redriven");
                return Ok(End::Part);
            }
        }
    }
    let deed = Deed::Redrive(config.shared.broker.event_lifetime);
    work(&pool, (filter, until, deed, rate.0), ["redriving", "redriven"], &chosen, json).await
}

/// Handlers with their letters, in words.
fn listed(chosen: &[(String, u64)]) -> String {
    let by_handler: Vec<_> =
        chosen.iter().map(|(handler, n)| format!("{} {n}", text::safe(handler))).collect();
    by_handler.join(", ")
}

async fn remove(config: &Config, choice: Choice, yes: bool, json: bool) -> anyhow::Result<End> {
    let pool = pool(config)?;
    let filter = match choice.filter(config, &pool).await? {
        Chosen::Letters(filter) => filter,
        other => return Ok(other.end()),
    };
    let (chosen, until) = batches::chosen(&pool, &filter).await?;
    let total: u64 = chosen.iter().map(|(_, letters)| letters).sum();
    if total > 0 {
        let what = text::count(total, "dead letter");
        match ask(&format!("throw {what} away for good ({})?", listed(&chosen)), yes).await? {
            Answer::Yes => {}
            Answer::Nobody => return Ok(End::Usage),
            Answer::No => {
                tell("nothing was dropped");
                return Ok(End::Part);
            }
        }
    }
    work(&pool, (filter, until, Deed::Drop, None), ["dropping", "dropped"], &chosen, json).await
}

/// Batch after batch, until there are no more letters or Ctrl-C.
async fn work(
    pool: &Pool,
    (filter, until, deed, rate): (Filter, DateTime<Utc>, Deed, Option<u32>),
    [doing, done]: [&'static str; 2],
    chosen: &[(String, u64)],
    json: bool,
) -> anyhow::Result<End> {
    let total = chosen.iter().map(|(_, letters)| letters).sum();
    if total == 0 {
        if json {
            out(&json!({done: 0}).to_string())?;
        }
        tell("no dead letter matches, or another command has them in hand");
        return Ok(End::Nothing);
    }
    let (mut batches, begun) = operator(pool)?.letters(filter, until, deed, rate).await?;
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut progress = Progress::new(doing, "letter", total);
    let ended = loop {
        tokio::select! {
            biased;
            _ = &mut stop => break Err(anyhow::anyhow!("stopped; the batch in hand may have been {done} too")),
            more = batches.next() => match more {
                Ok(true) => progress.at(batches.done()),
                Ok(false) => break Ok(()),
                Err(error) => break Err(error.into()),
            },
        }
    };
    drop(progress);
    let n = batches.done();
    begun.end(&if ended.is_ok() { format!("{n} done") } else { format!("ended after {n}") }).await?;
    if json {
        out(&json!({done: n}).to_string())?;
    } else if n > 0 {
        out(&format!("{done} {}", text::count(n, "dead letter")))?;
    }
    ended?;
    if n == 0 {
        tell("no dead letter matches, or another command has them in hand");
    }
    Ok(if n == 0 { End::Nothing } else { End::Done })
}
