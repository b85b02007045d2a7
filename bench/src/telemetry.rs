//! What telemetry costs: reads and log-ins a second and their p99, with telemetry off and on at its default sampling, in pairs that take turns. What is
//! sent goes to a receiver in this process, which answers and throws it away.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use orrery_tests::Person;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    figures::{Bound, Figure, Times, Unit},
    progress,
    stage::Stage,
};

/// Pairs of measurements, and how long each lasts.
const PAIRS: usize = 5;
const LASTS: Duration = Duration::from_secs(6);
const WARM: Duration = Duration::from_secs(2);
const CLIENTS: usize = 32;
/// What telemetry may cost, as one rate over another and one time over another.
const AIM: f64 = 0.97;
const P99_AIM: f64 = 1.03;

/// A process under load.
struct Side {
    stage: Stage,
    http: reqwest::Client,
    profile: String,
    login: String,
    body: serde_json::Value,
}

/// One measurement.
struct Measured {
    rate: f64,
    times: Times,
}

#[derive(Clone, Copy)]
enum Load {
    Reads,
    LogIns,
}

/// Measures.
///
/// # Errors
/// A part does not start, or a request fails.
pub async fn measure() -> Result<Vec<Figure>> {
    let bytes = Arc::new(AtomicU64::new(0));
    let endpoint = receiver(Arc::clone(&bytes)).await?;
    let off = side(&[]).await?;
    let on = side(&[
        ("ORRERY_TELEMETRY__ENABLED", "true"),
        ("ORRERY_TELEMETRY__PROTOCOL", "http"),
        ("ORRERY_TELEMETRY__ENDPOINT", endpoint.as_str()),
    ])
    .await?;
    let mut figures = Vec::new();
    for (name, load) in [("reads", Load::Reads), ("log-ins", Load::LogIns)] {
        let (mut rates, mut tails) = (Vec::new(), Vec::new());
        let mut last = None;
        for side in [&off, &on] {
            side.run(load, WARM).await?;
        }
        for pair in 0..PAIRS {
            progress(&format!("{name}, pair {} of {PAIRS}", pair + 1));
            // Who is first takes turns too: the machine's mood is nobody's.
            let (without, with) = if pair % 2 == 0 {
                let without = off.run(load, LASTS).await?;
                (without, on.run(load, LASTS).await?)
            } else {
                let with = on.run(load, LASTS).await?;
                (off.run(load, LASTS).await?, with)
            };
            rates.push(with.rate / without.rate);
            let tail =
                |measured: &Measured| Ok::<_, anyhow::Error>(measured.times.percentile(99)?.as_secs_f64());
            tails.push(tail(&with)? / tail(&without)?);
            last = Some((without, with));
        }
        let (without, with) = last.context("a pair")?;
        figures.push(Figure::once(
            &format!("{name}, telemetry off"),
            without.rate,
            Unit::PerSecond,
            Bound::None,
        ));
        figures.push(Figure::once(&format!("{name}, telemetry on"), with.rate, Unit::PerSecond, Bound::None));
        figures.push(without.times.figure(&format!("{name}, telemetry off"), 99, Bound::None)?);
        figures.push(with.times.figure(&format!("{name}, telemetry on"), 99, Bound::None)?);
        let (rate, tail) = (median(rates)?, median(tails)?);
        figures.push(Figure::once(
            &format!("{name}, on : off, median of pairs"),
            rate,
            Unit::Ratio,
            Bound::Least(AIM),
        ));
        figures.push(Figure::once(
            &format!("{name}, p99 on : off, median of pairs"),
            tail,
            Unit::Ratio,
            Bound::Aim(P99_AIM),
        ));
    }
    let sent = bytes.load(Ordering::Relaxed);
    ensure!(sent > 0, "nothing was sent: the measurement is of nothing");
    let sent = f64::from(u32::try_from(sent / 1024)?) * 1024.0 / 1e6;
    figures.push(Figure::once("telemetry that was sent", sent, Unit::Megabytes, Bound::None));
    for (name, side) in [("off", &off), ("on", &on)] {
        let rss = f64::from(u32::try_from(side.stage.service.memory()?.rss_bytes / 1024)?) * 1024.0 / 1e6;
        figures.push(Figure::once(
            &format!("memory (RSS), telemetry {name}"),
            rss,
            Unit::Megabytes,
            Bound::None,
        ));
    }
    Ok(figures)
}

async fn side(settings: &[(&str, &str)]) -> Result<Side> {
    let settings: Vec<_> =
        settings.iter().copied().chain([("ORRERY_GATEWAY__RATES__ENABLED", "false")]).collect();
    let stage = Stage::start_with(&settings).await?;
    let http = reqwest::Client::builder().tls_certs_only([]).pool_max_idle_per_host(CLIENTS).build()?;
    let person = Person::new();
    stage.client()?.signed_up(&person).await?;
    let base = stage.world.gateway_url();
    let body = json!({"email": person.email, "password": person.password});
    let (profile, login) = (format!("{base}/users/{}", person.id), format!("{base}/login"));
    Ok(Side { stage, http, profile, login, body })
}

impl Side {
    async fn run(&self, load: Load, lasts: Duration) -> Result<Measured> {
        let (mut clients, begun) = (JoinSet::new(), Instant::now());
        for _ in 0..CLIENTS {
            let (http, profile, login, body) =
                (self.http.clone(), self.profile.clone(), self.login.clone(), self.body.clone());
            clients.spawn(async move {
                let mut times = Vec::new();
                while begun.elapsed() < lasts {
                    let asked = Instant::now();
                    let request = match load {
                        Load::Reads => http.get(&profile),
                        Load::LogIns => http.post(&login).json(&body),
                    };
                    let answer = request.send().await?;
                    // A full queue is an answer as well, and no log-in.
                    if answer.status() == 503 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    answer.error_for_status()?.bytes().await?;
                    times.push(asked.elapsed());
                }
                Ok::<_, reqwest::Error>(times)
            });
        }
        let (mut times, mut count) = (Times::default(), 0_u32);
        while let Some(client) = clients.join_next().await {
            for time in client?? {
                times.add(time);
                count += 1;
            }
        }
        Ok(Measured { rate: f64::from(count) / begun.elapsed().as_secs_f64(), times })
    }
}

fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("no value")
}

/// Takes OTLP over HTTP and throws it away; gives its address.
async fn receiver(bytes: Arc<AtomicU64>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let bytes = Arc::clone(&bytes);
            tokio::spawn(async move { take(stream, &bytes).await });
        }
    });
    Ok(format!("http://{address}"))
}

async fn take(stream: TcpStream, bytes: &AtomicU64) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            match line.trim().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse()?
                }
                None if line.trim().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        bytes.fetch_add(u64::try_from(length)?, Ordering::Relaxed);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    }
}
