//! Avatar sets from one photograph, beside sharp and Pillow on one core. `peers/images.py` runs them in turn and scores what they wrote; this
//! turns what it says into figures.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::Value;

use crate::figures::{Bound, Figure, Unit};
use crate::progress;

/// Times sharp, called once for each size.
const PER_SIZE_AIM: f64 = 2.0;
/// Times sharp at its best, decoding once.
const ONCE_AIM: f64 = 1.3;
/// What the isolation may cost, in parts in a hundred.
const ISOLATION_AIM: f64 = 5.0;
const LEAST_SSIM: f64 = 0.97;
/// Bytes of a set, in parts of sharp's.
const BYTES_AIM: f64 = 1.0;
/// SSIM at the worst size, in parts of sharp's there: what is closer to one than this nobody sees.
const SSIM_AIM: f64 = 0.999;

/// Runs the peers on `photograph`, a JPEG.
///
/// # Errors
/// The scripts' libraries are missing, or one of them fails.
pub fn measure(photograph: &Bytes) -> Result<Vec<Figure>> {
    let python = std::env::var("BENCH_PYTHON").context("BENCH_PYTHON is not set; run ./dev bench images")?;
    let ours =
        std::env::var("BENCH_THROUGHPUT").context("BENCH_THROUGHPUT is not set; run ./dev bench images")?;
    let folder = std::env::temp_dir().join(format!("orrery-bench-images-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let photo = folder.join("photograph.jpg");
    std::fs::write(&photo, photograph).with_context(|| format!("writing {}", photo.display()))?;
    progress("avatar sets of four files, ours, Pillow and sharp in turn");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/images.py");
    let run = Command::new(python)
        .args([script, "--ours", &ours, "--photo"])
        .arg(&photo)
        .arg("--folder")
        .arg(&folder)
        .output()
        .context("running the peers")?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
    ensure!(run.status.success(), "the peers failed: {}", String::from_utf8_lossy(&run.stderr));
    figures(&serde_json::from_slice(&run.stdout)?)
}

fn figures(report: &Value) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let times = report["times"].as_object().context("no times")?;
    for (input, times) in times {
        let name = |what: &str| format!("{input}: {what}");
        let ratio = |of: f64, to: f64| of / to;
        let ours = number(&times["isolated_ms"])?;
        let alone = number(&times["alone_ms"])?;
        figures.push(Figure::once(
            &name("sets a second, isolated"),
            1000.0 / ours,
            Unit::PerSecond,
            Bound::None,
        ));
        let cost = (ours / alone - 1.0) * 100.0;
        figures.push(Figure::once(
            &name("what isolation costs"),
            cost,
            Unit::Percent,
            Bound::Aim(ISOLATION_AIM),
        ));
        let peers = [
            ("pillow_ms", "beside Pillow", Bound::None),
            ("per_size_ms", "beside sharp, once per size", Bound::Least(PER_SIZE_AIM)),
            ("once_ms", "beside sharp at its best", Bound::Least(ONCE_AIM)),
        ];
        for (key, what, bound) in peers {
            if let Some(peer) = times[key].as_f64() {
                figures.push(Figure::once(&name(what), ratio(peer, ours), Unit::Ratio, bound));
            }
        }
        let scores =
            report["scores"].get(input).and_then(serde_json::Value::as_object).context("no scores")?;
        for (peer, score) in scores {
            let bytes = number(&score["bytes"])? / 1e6;
            figures.push(Figure::once(
                &name(&format!("{peer}, bytes of a set")),
                bytes,
                Unit::Megabytes,
                Bound::None,
            ));
            let least = score["ssim"]
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(_, ssim)| ssim.as_f64())
                .fold(1.0, f64::min);
            let bound = if peer == "ours" { Bound::Least(LEAST_SSIM) } else { Bound::None };
            figures.push(Figure::once(&name(&format!("{peer}, least SSIM")), least, Unit::Ratio, bound));
        }
        if let (Some(ours), Some(sharp)) = (scores.get("ours"), scores.get("sharp")) {
            let bytes = number(&ours["bytes"])? / number(&sharp["bytes"])?;
            let mut worst = f64::INFINITY;
            for (side, ssim) in ours["ssim"].as_object().into_iter().flatten() {
                worst = worst.min(number(ssim)? / number(sharp["ssim"].get(side).unwrap_or(&Value::Null))?);
            }
            let what = [
                ("bytes beside sharp", bytes, Bound::Aim(BYTES_AIM)),
                ("SSIM beside sharp, at the worst size", worst, Bound::Least(SSIM_AIM)),
            ];
            for (what, ratio, bound) in what {
                figures.push(Figure::once(&name(what), ratio, Unit::Ratio, bound));
            }
        }
    }
    Ok(figures)
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().with_context(|| format!("{value} is no number"))
}
