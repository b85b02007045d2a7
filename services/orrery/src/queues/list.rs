//! `orrery queues list` and `watch`.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use chrono::SecondsFormat;
use clap::Args;
use orrery_console::{
    figures::{Figures, Observer},
    text,
};
use orrery_supervise::clock::Clock;

use super::{End, pool, watched};
use crate::{config::Config, terminal::out};

/// How to watch.
#[derive(Args)]
pub struct Watch {
    /// The pause between two looks, such as 2s or 1min.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = pause)]
    every: Duration,
}

fn pause(text: &str) -> Result<Duration, String> {
    let pause = orrery_config::duration(text)?;
    if pause < Duration::from_millis(100) { Err("at least 100ms".to_owned()) } else { Ok(pause) }
}

fn observer(config: &Config) -> anyhow::Result<Observer> {
    let watched = watched(config);
    Ok(Observer::new(&config.shared.broker, pool(config)?, watched))
}

/// Looks once.
pub async fn list(config: &Config, json: bool) -> anyhow::Result<End> {
    let figures = observer(config)?.look().await;
    if json {
        out(&text::json(&figures)?)?;
    } else {
        write!(std::io::stdout(), "{figures}")?;
    }
    Ok(if figures.complete { End::Done } else { End::Part })
}

/// Looks until Ctrl-C.
pub async fn watch(config: &Config, watch: &Watch, json: bool) -> anyhow::Result<End> {
    let mut observer = observer(config)?;
    let in_place = !json && std::io::stdout().is_terminal();
    if in_place {
        write!(std::io::stdout(), "\u{1b}[2J")?;
    }
    let mut tick = tokio::time::interval(watch.every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut end = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let figures = tokio::select! {
            ended = &mut end => return ended.map(|()| End::Done).map_err(Into::into),
            figures = async {
                tick.tick().await;
                observer.look().await
            } => figures,
        };
        let at = Clock::System.now().to_rfc3339_opts(SecondsFormat::Secs, true);
        if json {
            out(&text::json(&Tick { at, figures })?)?;
            continue;
        }
        let block = format!("{at}, every {:?}, Ctrl-C ends\n\n{figures}", watch.every);
        if in_place {
            // Each line is cleared to its end and what is below the last one too, so that nothing flickers.
            let lines: Vec<_> = block.lines().map(|line| format!("{line}\u{1b}[K")).collect();
            write!(std::io::stdout(), "\u{1b}[H{}\n\u{1b}[J", lines.join("\n"))?;
        } else {
            out(&block)?;
        }
        std::io::stdout().flush()?;
    }
}

/// One look's line.
#[derive(serde::Serialize)]
struct Tick {
    at: String,
    #[serde(flatten)]
    figures: Figures,
}
