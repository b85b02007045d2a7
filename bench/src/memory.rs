//! The memory of the process that serves everything: at rest, and after a hundred people came with a picture.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use orrery_tests::{Person, pictures::astronaut};
use serde_json::Value;

use crate::figures::{Bound, Figure, Unit};
use crate::pictures::wait_done;
use crate::progress;
use crate::stage::Stage;

const ROUNDS: usize = 100;
const AIM_MB: f64 = 50.0;
/// How long the process is left alone before its memory at rest is read.
const REST: Duration = Duration::from_secs(3);

/// Starts the process anew, then does what `orrery demo` does a hundred times.
///
/// # Errors
/// A round fails, or the memory cannot be read.
pub async fn measure(stage: &mut Stage) -> Result<Vec<Figure>> {
    progress(&format!("memory, {ROUNDS} rounds of sign-up, picture and variants"));
    stage.restart().await?;
    tokio::time::sleep(REST).await;
    let rest = stage.service.memory()?;
    let picture = Bytes::from(astronaut()?);
    for _ in 0..ROUNDS {
        round(stage, &picture).await?;
    }
    let at_end = stage.service.memory()?;
    tokio::time::sleep(REST).await;
    let after = stage.service.memory()?;
    let figure = |name: &str, bytes: u64, bound| -> Result<Figure> {
        let value = f64::from(u32::try_from(bytes / 1024)?) * 1024.0 / 1e6;
        Ok(Figure::once(name, value, Unit::Megabytes, bound))
    };
    Ok(vec![
        figure("memory (PSS) at rest", rest.pss_bytes, Bound::None)?,
        // A password's memory, 20 MB, is kept for 50 ms: the rounds end sooner after the last of them.
        figure("memory (PSS) as the last of 100 rounds ends", at_end.pss_bytes, Bound::None)?,
        figure("memory (PSS) after 100 rounds", after.pss_bytes, Bound::Aim(AIM_MB))?,
        figure("memory (RSS), highest", after.peak_rss_bytes, Bound::None)?,
        Figure::once("threads", threads(stage.service.id())?, Unit::Count, Bound::None),
    ])
}

async fn round(stage: &Stage, picture: &Bytes) -> Result<()> {
    let client = stage.client()?.signed_up(&Person::new()).await?;
    let answer = client.put_avatar(picture.clone(), "image/jpeg").await?.expect(202)?;
    wait_done(&client, answer.location()?).await?;
    let me = client.me().await?.expect(200)?;
    let icons = me.body.get("icon").and_then(Value::as_array).context("a profile without a picture")?;
    ensure!(icons.len() == 3, "{} variants instead of 3", icons.len());
    for icon in icons {
        let url = icon.get("url").and_then(Value::as_str).context("a variant without an address")?;
        let variant = client.get(url).await?.expect(200)?;
        ensure!(variant.bytes.get(8..12) == Some(b"WEBP"), "{url} is no WebP picture");
    }
    Ok(())
}

fn threads(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let count = status.lines().find_map(|line| line.strip_prefix("Threads:")).context("no thread count")?;
    Ok(f64::from(count.trim().parse::<u32>()?))
}
