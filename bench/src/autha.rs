//! Accounts under load: logins and sign-ups beside a bare Argon2id loop of the same parameters in the same run, reads alone and while 64 clients
//! log in, refreshes, and the memory in the storm.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use orrery_tests::Person;
use serde_json::json;

use crate::{
    figures::{Bound, Figure, Times, Unit},
    progress,
    stage::Stage,
};

/// How long each rate is measured.
const PERIOD: Duration = Duration::from_secs(8);
/// Clients of the storm, and of the rates.
const CLIENTS: usize = 64;
/// Threads that hash, as the default configuration has it.
const THREADS: usize = 2;
const RATIO_AIM: f64 = 0.95;
const READ_P99_AIM_MS: f64 = 20.0;
const READS_AIM: f64 = 8_000.0;
const MEMORY_AIM_MB: f64 = 100.0;

/// Measures.
///
/// # Errors
/// A request fails that should not.
pub async fn measure(stage: &Stage) -> Result<Vec<Figure>> {
    let base = stage.world.gateway_url();
    let http = reqwest::Client::builder().tls_certs_only([]).pool_max_idle_per_host(CLIENTS).build()?;
    let person = Person::new();
    let session = stage.client()?.signed_up(&person).await?;
    let profile = format!("{base}/users/{}", person.id);

    progress("a bare Argon2id loop");
    let bare = argon2_rate()?;
    progress("logins");
    let body = json!({"email": person.email, "password": person.password});
    let logins = rate(CLIENTS, {
        let (http, url) = (http.clone(), format!("{base}/login"));
        move |_| post(http.clone(), url.clone(), body.clone(), 200)
    })
    .await?;
    progress("sign-ups");
    let sign_ups = rate(CLIENTS, {
        let (http, url) = (http.clone(), format!("{base}/create"));
        move |_| {
            let person = Person::new();
            let body = json!({"id": person.id, "email": person.email, "password": person.password});
            post(http.clone(), url.clone(), body, 201)
        }
    })
    .await?;
    progress("reads alone");
    let alone = reads(&http, &profile, Duration::from_secs(4)).await?;
    let reads_rate = rate(CLIENTS, {
        let (http, url) = (http.clone(), profile.clone());
        move |_| get(http.clone(), url.clone())
    })
    .await?;
    progress("reads in a storm of logins");
    let (storm, peak) = in_storm(stage, &http, &base, &profile, &person).await?;
    progress("refreshes");
    let mut token = session.refresh_token().context("no refresh token")?.to_owned();
    let (begun, mut refreshed) = (Instant::now(), 0_u32);
    while begun.elapsed() < PERIOD {
        let body = json!({"grant_type": "refresh_token", "refresh_token": token});
        let answer = http.post(format!("{base}/oauth/token")).json(&body).send().await?;
        let tokens: serde_json::Value = answer.error_for_status()?.json().await?;
        token = tokens.get("refresh_token").and_then(|token| token.as_str()).context("no token")?.to_owned();
        refreshed += 1;
    }
    let refreshes = f64::from(refreshed) / begun.elapsed().as_secs_f64();

    let once = |name: &str, value, unit, bound| Figure::once(name, value, unit, bound);
    Ok(vec![
        once("bare Argon2id (19456 KiB, 2, 1), 2 threads", bare, Unit::PerSecond, Bound::None),
        once("logins, 64 clients", logins, Unit::PerSecond, Bound::None),
        once("logins over bare Argon2id", logins / bare, Unit::Ratio, Bound::Least(RATIO_AIM)),
        once("sign-ups, 64 clients", sign_ups, Unit::PerSecond, Bound::None),
        once("sign-ups over bare Argon2id", sign_ups / bare, Unit::Ratio, Bound::Least(RATIO_AIM)),
        alone.figure("GET /users/{id} alone", 99, Bound::Aim(READ_P99_AIM_MS))?,
        storm.figure("GET /users/{id} while 64 clients log in", 99, Bound::Aim(READ_P99_AIM_MS))?,
        once("memory (RSS), highest, in the storm", peak, Unit::Megabytes, Bound::Aim(MEMORY_AIM_MB)),
        once("GET /users/{id}, 64 clients", reads_rate, Unit::PerSecond, Bound::Least(READS_AIM)),
        once("refreshes, one client", refreshes, Unit::PerSecond, Bound::None),
    ])
}

async fn post(http: reqwest::Client, url: String, body: serde_json::Value, wanted: u16) -> Result<()> {
    let status = http.post(url).json(&body).send().await?.status().as_u16();
    // A full queue is an answer as well, and no login.
    ensure!(status == wanted || status == 503, "{wanted} expected, got {status}");
    if status == 503 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        anyhow::bail!(Busy);
    }
    Ok(())
}

/// Too many waited.
#[derive(Debug, Clone, Copy)]
struct Busy;

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("busy")
    }
}

impl std::error::Error for Busy {}

async fn get(http: reqwest::Client, url: String) -> Result<()> {
    http.get(url).send().await?.error_for_status()?.bytes().await?;
    Ok(())
}

/// How often a second `clients` at once have it done.
async fn rate<F, Fut>(clients: usize, work: F) -> Result<f64>
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let (work, done) = (Arc::new(work), Arc::new(AtomicUsize::new(0)));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|number| {
            let (work, done) = (Arc::clone(&work), Arc::clone(&done));
            tokio::spawn(async move {
                while begun.elapsed() < PERIOD {
                    match work(number).await {
                        Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(error) if error.is::<Busy>() => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let done = u32::try_from(done.load(Ordering::Relaxed))?;
    Ok(f64::from(done) / begun.elapsed().as_secs_f64())
}

async fn reads(http: &reqwest::Client, url: &str, period: Duration) -> Result<Times> {
    let mut times = Times::default();
    let begun = Instant::now();
    while begun.elapsed() < period {
        let sent = Instant::now();
        get(http.clone(), url.to_owned()).await?;
        times.add(sent.elapsed());
    }
    Ok(times)
}

async fn in_storm(
    stage: &Stage,
    http: &reqwest::Client,
    base: &str,
    profile: &str,
    person: &Person,
) -> Result<(Times, f64)> {
    stage.service.reset_peak()?;
    let over = Arc::new(AtomicBool::new(false));
    let body = json!({"email": person.email, "password": person.password});
    let storm: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (http, url, body, over) =
                (http.clone(), format!("{base}/login"), body.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    match post(http.clone(), url.clone(), body.clone(), 200).await {
                        Err(error) if !error.is::<Busy>() => return Err(error),
                        _ => {}
                    }
                }
                Ok(())
            })
        })
        .collect();
    let times = reads(http, profile, PERIOD).await;
    over.store(true, Ordering::Relaxed);
    for client in storm {
        client.await??;
    }
    let peak = stage.service.memory()?.peak_rss_bytes;
    Ok((times?, f64::from(u32::try_from(peak / 1024)?) * 1024.0 / 1e6))
}

/// Hashes a second on as many threads as autha has, memory kept between hashes as its workers keep it.
fn argon2_rate() -> Result<f64> {
    let begun = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            std::thread::spawn(move || -> Result<u32> {
                let params = Params::new(19_456, 2, 1, None)?;
                let mut memory = vec![Block::new(); params.block_count()];
                let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let mut hashes = 0;
                while begun.elapsed() < PERIOD {
                    let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
                    hasher.hash_password_into_with_memory(
                        b"a long password",
                        &[7; 16],
                        &mut output,
                        &mut memory,
                    )?;
                    hashes += 1;
                }
                Ok(hashes)
            })
        })
        .collect();
    let mut hashes = 0;
    for thread in threads {
        hashes += thread.join().map_err(|_| anyhow::anyhow!("a hashing thread panicked"))??;
    }
    Ok(f64::from(hashes) / begun.elapsed().as_secs_f64())
}
