//! faststream (PyPI) on the same queue with the same messages, run by `bench/peers/faststream_bus.py` in the environment that
//! `./dev bench` made. Where there is none, it is left out.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::rounds::Rates;
use super::{Field, MESSAGES, PREFETCH, QUEUE, ROUNDS, WINDOW};
use crate::figures::{Bound, Figure, Unit};
use crate::progress;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/faststream_bus.py");

/// What the script says after each of its steps.
#[derive(Deserialize)]
struct Step {
    seconds: f64,
}

/// Runs the script's rounds, and says how many times as fast we were.
///
/// # Errors
/// The script fails.
pub async fn measure(field: &Field, publish: &Rates, consume: &Rates) -> Result<Vec<Figure>> {
    let Some(python) = std::env::var_os("BENCH_PYTHON").filter(|python| !python.is_empty()) else {
        progress("faststream is left out: BENCH_PYTHON names no Python that has it (./dev bench makes one)");
        return Ok(Vec::new());
    };
    let arguments = [field.broker().url(), QUEUE].map(str::to_owned);
    let numbers = [MESSAGES, WINDOW, usize::from(PREFETCH)].map(|number| number.to_string());
    let mut child = Command::new(python)
        .arg(SCRIPT)
        .args(arguments)
        .args(numbers)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting faststream")?;
    let mut orders = child.stdin.take().context("no stdin")?;
    let mut answers = BufReader::new(child.stdout.take().context("no stdout")?).lines();
    let (mut published, mut consumed) = (Rates::default(), Rates::default());
    for round in 0..ROUNDS {
        progress(&format!("faststream, round {round}"));
        field.clear().await?;
        for (order, rates) in [("publish\n", &mut published), ("consume\n", &mut consumed)] {
            orders.write_all(order.as_bytes()).await?;
            let line = answers.next_line().await?.context("faststream ended early")?;
            let step: Step = serde_json::from_str(&line).with_context(|| line.clone())?;
            rates.add(MESSAGES, std::time::Duration::from_secs_f64(step.seconds));
        }
        field.emptied().await?;
    }
    drop(orders);
    let status = child.wait().await?;
    ensure!(status.success(), "faststream ended with {status}");
    let times = |name, ours: &Rates, theirs: &Rates| -> Result<Figure> {
        Ok(Figure::once(name, ours.median()? / theirs.median()?, Unit::Ratio, Bound::None))
    };
    Ok(vec![
        published.figure("faststream: publish with confirms, window 1024")?,
        times("    ours, times as fast", publish, &published)?,
        consumed.figure("faststream: consume, prefetch 256")?,
        times("    ours (without inbox), times as fast", consume, &consumed)?,
    ])
}
