//! `orrery queues dead show` and `export`: letters as they are.

use std::{
    fs::OpenOptions,
    io::{BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use anyhow::Context;
use chrono::SecondsFormat;
use clap::Args;
use orrery_console::{
    batches,
    letter::View,
    table::known,
    text::{self, safe},
};
use orrery_store::dead_letters::{
    DROPPED, Filter,
    read::{self, StoredLetter},
};

use super::{
    End,
    choice::{Choice, Chosen, IdPrefix},
    dead::sealer,
    pool,
};
use crate::{
    config::Config,
    services::SERVICES,
    terminal::{Progress, out, tell},
};

/// Letters that are read at once.
const PAGE: i64 = 200;

/// Which letter to show.
#[derive(Args)]
pub struct Show {
    /// The letter's id, or the beginning of it, from `queues dead list`.
    id: IdPrefix,
    /// Opens sealed addresses with the configuration's mail key, and shows names and what others wrote.
    #[arg(long)]
    reveal: bool,
}

/// What to export.
#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    choice: Choice,
    /// All letters.
    #[arg(long)]
    all: bool,
    /// The file to write, which must not be there yet; only its owner may read it. Without it: standard output.
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Opens sealed addresses with the configuration's mail key, and exports what others wrote.
    #[arg(long)]
    reveal: bool,
}

/// The queues of all bridges, also of one that is turned off by now.
fn bridges() -> Vec<&'static str> {
    SERVICES.iter().flat_map(|definition| definition.bridge_queues).copied().collect()
}

impl Export {
    /// Whether no letters were named, nor all.
    pub fn is_unchosen(&self) -> bool {
        self.choice.is_empty() && !self.all
    }
}

/// Shows one.
pub async fn show(config: &Config, arguments: &Show, json: bool) -> anyhow::Result<End> {
    let key = sealer(config, arguments.reveal)?;
    let pool = pool(config)?;
    let Some(id) = arguments.id.resolve(&pool).await? else { return Ok(End::Nothing) };
    let filter = Filter { ids: Some(vec![id]), ..Filter::default() };
    let mut connection = pool.get().await?;
    let letters = read::letters(&mut connection, &filter, None, 1).await?;
    let Some(letter) = letters.first() else {
        tell(&format!("there is no dead letter {id}"));
        return Ok(End::Nothing);
    };
    let view = View::shown(letter, key.as_ref(), &bridges());
    out(&if json { text::json(&view)? } else { page(letter, &view, arguments.reveal)? })?;
    if let Some(why) = &view.still_sealed {
        tell(&format!("orrery: not opened: {why}"));
        return Ok(End::Part);
    }
    Ok(End::Done)
}

fn page(letter: &StoredLetter, view: &View<'_>, reveal: bool) -> anyhow::Result<String> {
    let summary = &letter.summary;
    let time = |time: &chrono::DateTime<chrono::Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut lines = Vec::new();
    let mut field = |name: &str, value: &str| lines.push(format!("{name:<9} {}", safe(value)));
    field("id", &summary.id.to_string());
    field("handler", &summary.handler);
    field("reason", &summary.reason);
    for cause in &letter.causes {
        field("because", cause);
    }
    field("failed", &format!("{}, {} ago", time(&summary.failed_at), text::age(summary.age_seconds)));
    field("archived", &time(&letter.archived_at));
    field("tries", &summary.attempts.to_string());
    field("trace", &known(summary.trace_id.as_ref()));
    field("type", &known(summary.ty.as_ref()));
    if view.hidden.is_none() {
        field("source", &known(letter.source.as_ref()));
        field("event", &known(letter.event_id.as_ref()));
    }
    field("body", &format!("{} bytes, {}", letter.body.len(), known(letter.content_type.as_ref())));
    if let Some(hidden) = view.hidden {
        lines.push(format!("hidden    {hidden}"));
        return Ok(lines.join("\n"));
    }
    let headers = letter.headers.as_object().into_iter().flatten();
    let own: Vec<_> = headers.filter(|(name, _)| !DROPPED.contains(&name.as_str())).collect();
    if !own.is_empty() {
        lines.push("headers".to_owned());
    }
    for (name, value) in own {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        lines.push(format!("  {}: {}", safe(name), safe(&value)));
    }
    match (&view.event, &view.not_an_event) {
        (Some(event), _) => {
            lines.push("data".to_owned());
            let data = event.get("data").or_else(|| event.get("data_base64"));
            lines.extend(text::pretty(&data)?.lines().map(|line| format!("  {line}")));
        }
        (None, why) => {
            lines.push(format!("no event  {}", safe(&known(why.as_ref()))));
            // What it is nobody knows, so it may be personal.
            if reveal {
                lines.extend(
                    String::from_utf8_lossy(&letter.body).lines().map(|line| format!("  {}", safe(line))),
                );
            }
        }
    }
    Ok(lines.join("\n"))
}

/// Exports those chosen, the first archived first.
pub async fn export(config: &Config, arguments: Export) -> anyhow::Result<End> {
    let key = sealer(config, arguments.reveal)?;
    let pool = pool(config)?;
    let filter = match arguments.choice.filter(config, &pool).await? {
        Chosen::Letters(filter) => filter,
        other => return Ok(other.end()),
    };
    let (chosen, until) = batches::chosen(&pool, &filter).await?;
    let total: u64 = chosen.iter().map(|(_, letters)| letters).sum();
    if total == 0 {
        tell("no dead letter matches");
        return Ok(End::Nothing);
    }
    let mut to: Box<dyn Write + Send> = match &arguments.to {
        Some(file) => {
            let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
            Box::new(BufWriter::new(open.with_context(|| format!("{} cannot be made", file.display()))?))
        }
        None => Box::new(std::io::stdout()),
    };
    let filter = Filter { until: Some(until), ..filter };
    let mut connection = pool.get().await?;
    let mut progress = Progress::new("exporting", "letter", total);
    let (mut after, mut done, mut unopened, mut hidden) = (None, 0, 0, 0);
    loop {
        let letters = read::letters(&mut connection, &filter, after, PAGE).await?;
        for letter in &letters {
            let view = View::exported(letter, key.as_ref(), &bridges());
            unopened += u64::from(view.still_sealed.is_some());
            hidden += u64::from(view.hidden.is_some());
            writeln!(to, "{}", text::json(&view)?)?;
            done += 1;
        }
        let Some(last) = letters.last() else { break };
        after = Some(last.summary.id);
        progress.at(done);
    }
    to.flush()?;
    drop(progress);
    if let Some(file) = &arguments.to {
        tell(&format!("exported {} to {}", text::count(done, "dead letter"), file.display()));
    }
    if unopened > 0 {
        let what = text::count(unopened, "letter");
        tell(&format!("orrery: {what} could not be opened, each line says why in still_sealed"));
    }
    if hidden > 0 {
        let what = text::count(hidden, "letter");
        tell(&format!("orrery: {what} went without what others wrote: --reveal exports it too"));
    }
    Ok(if unopened + hidden > 0 { End::Part } else { End::Done })
}
