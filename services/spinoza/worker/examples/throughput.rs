//! `throughput ROUNDS FOLDER FILE...`: how long one set of avatars takes from each file, by the function alone and by a worker process, in
//! turn on one core; a line of JSON each. The variants are written to the folder. `./dev bench images` runs it beside its peers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use orrery_picture::{Limits, Optimised, Preset, Variant, optimise};
use orrery_picture_worker::{Launch, Made, Pool, Settings};
use serde_json::json;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().ok_or("rounds are missing")?;
    if first == "worker" {
        let memory_bytes = arguments.next().ok_or("memory is missing")?.parse()?;
        let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
        return Ok(orrery_picture_worker::serve(memory_bytes, input, output, optimise)?);
    }
    let rounds: usize = first.parse()?;
    let folder = PathBuf::from(arguments.next().ok_or("a folder is missing")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(rounds, &folder, arguments.map(PathBuf::from).collect()))
}

async fn measure(rounds: usize, folder: &Path, files: Vec<PathBuf>) -> Outcome<()> {
    let preset = Preset::avatar();
    let launch = Launch { program: std::env::current_exe()?, arguments: vec!["worker".into()] };
    let settings = Settings {
        workers: 1,
        memory_bytes: 1 << 30,
        time_limit: Duration::from_secs(30),
        limits: Limits::default(),
    };
    let pool = Pool::new(launch, settings);
    pool.warm().await?;
    for path in files {
        let file = Bytes::from(std::fs::read(&path)?);
        let (mut alone, mut isolated) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let start = Instant::now();
            let Optimised { variants, .. } = optimise(&file, &preset, &Limits::default())?;
            alone.push(start.elapsed());
            let start = Instant::now();
            let made = pool.make(file.clone(), &preset).await?;
            isolated.push(start.elapsed());
            assert!(
                matches!(made, Made::Variants { variants: list, .. } if list == variants),
                "both make the same"
            );
            write(folder, &path, &variants)?;
        }
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a name that is no text")?;
        #[expect(clippy::print_stdout, reason = "what the program is for")]
        {
            println!(
                "{}",
                json!({ "input": name, "alone_ms": median(alone), "isolated_ms": median(isolated) })
            );
        }
    }
    Ok(())
}

fn write(folder: &Path, input: &Path, variants: &[Variant]) -> Outcome<()> {
    let stem = input.file_name().and_then(|name| name.to_str()).ok_or("a name that is no text")?;
    for variant in variants {
        std::fs::write(folder.join(format!("ours-{stem}-{}.webp", variant.width)), &variant.bytes)?;
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1000.0
}
