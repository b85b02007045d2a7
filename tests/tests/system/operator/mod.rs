//! The operator's hands, `orrery queues`: what they see, and what they do once and only when they may.

mod dead_letters;
mod queues;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{World, process::Finished};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(40);

async fn run(world: &World, arguments: &[&str]) -> Result<Finished> {
    world.run(&[&["queues"][..], arguments].concat(), SOON).await
}

fn code(finished: &Finished, expected: i32) -> Result<()> {
    ensure!(
        finished.status.code() == Some(expected),
        "{}, not {expected}:\n{}",
        finished.status,
        finished.output
    );
    Ok(())
}

/// What it did, as JSON.
async fn json(world: &World, arguments: &[&str]) -> Result<Value> {
    let finished = run(world, &[&["--json"][..], arguments].concat()).await?;
    code(&finished, 0)?;
    serde_json::from_str(&finished.output).with_context(|| finished.output.clone())
}
