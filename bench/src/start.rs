//! From the start of the process to its being ready, over a database and a broker that are migrated and warm.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orrery_tests::Client;

use crate::figures::{Bound, Figure, Times};
use crate::progress;
use crate::stage::{PATIENCE, Stage};

const STARTS: usize = 5;
const AIM_MS: f64 = 500.0;
/// Between two looks; a port that nobody listens on refuses at once.
const POLL: Duration = Duration::from_millis(2);

/// Ends the process and starts it again, five times.
///
/// # Errors
/// It does not end, or does not become ready.
pub async fn measure(stage: &mut Stage) -> Result<Vec<Figure>> {
    progress(&format!("{STARTS} starts"));
    let client = Client::new(&stage.service.internal_url())?;
    let mut times = Times::default();
    for _ in 0..STARTS {
        stage.service.terminate(PATIENCE).await?;
        let start = Instant::now();
        stage.service.relaunch()?;
        // No answer is what a process gives that does not listen yet.
        while !client.get("/health/ready").await.is_ok_and(|answer| answer.status == 200) {
            ensure!(stage.service.ended().is_none(), "the process ended: {}", stage.service.log());
            ensure!(start.elapsed() < PATIENCE, "the process is not ready after {PATIENCE:?}");
            tokio::time::sleep(POLL).await;
        }
        times.add(start.elapsed());
    }
    let median = times.figure("start to ready", 50, Bound::Aim(AIM_MS)).context("no start")?;
    Ok(vec![median, times.figure("start to ready", 100, Bound::None)?])
}
