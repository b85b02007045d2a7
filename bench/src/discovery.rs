//! Discovery: the memory of idle sockets, how soon a peer that joins is seen by another, and messages a second between pairs over two replicas; beside
//! a bare echo over WebSocket in the same run. All sockets are this process's.

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt, stream};
use orrery_tests::{
    Service, World,
    deadline::until,
    issuer::{AUDIENCE, ISSUER, Issuer, Key},
    ports::Port,
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::Mutex, task::JoinSet, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::{
    figures::{Bound, Figure, Times, Unit},
    progress,
    stage::PATIENCE,
};

const IDLE: usize = 10_000;
const IDLE_AIM_MB: f64 = 150.0;
const JOINS: usize = 200;
const PAIRS: usize = 1000;
const LASTS: Duration = Duration::from_secs(10);
/// Sockets that are being opened at once.
const OPENING: usize = 64;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Measures discovery, and the echo beside it.
///
/// # Errors
/// A part cannot be started, or answers wrongly.
pub async fn measure() -> Result<Vec<Figure>> {
    let issuer = Issuer::start().await?;
    let key = Key::new("bench")?;
    issuer.publish(&[&key]);
    let world = World::builder()
        .env("ORRERY_DISCOVERY__JWKS_URL", issuer.url())
        .env("ORRERY_DISCOVERY__ISSUER", ISSUER)
        .env("ORRERY_DISCOVERY__AUDIENCE", AUDIENCE)
        .env("ORRERY_DISCOVERY__FRAMES_PER_SECOND", "100000")
        .env("ORRERY_DISCOVERY__FRAME_BURST", "100000")
        .start()
        .await?;
    let mut figures = idle(&world, &key).await?;
    figures.extend(joins(&world, &key).await?);
    figures.extend(pairs(&world, &key).await?);
    Ok(figures)
}

async fn open(base: &str, key: &Key, name: &str) -> Result<Socket> {
    let base = base.replacen("http", "ws", 1);
    let url = format!("{base}/socket/websocket?token={}", key.token(name, 3600)?);
    let opened = timeout(PATIENCE, connect_async(url)).await.context("no answer to an upgrade")?;
    Ok(opened?.0)
}

async fn joined(base: &str, key: &Key, name: &str) -> Result<Socket> {
    let mut socket = open(base, key, name).await?;
    socket.send(Message::text(r#"{"topic":"","event":"phx_join","payload":"","ref":"0"}"#)).await?;
    next(&mut socket, "phx_reply").await?;
    Ok(socket)
}

/// The payload of the next frame of this event.
async fn next(socket: &mut Socket, event: &str) -> Result<Value> {
    let found = async {
        while let Some(message) = socket.next().await {
            let Message::Text(text) = message? else { continue };
            let frame: Value = serde_json::from_str(&text)?;
            if frame.get("event").is_some_and(|is| is == event) {
                return Ok(frame.get("payload").cloned().unwrap_or_default());
            }
        }
        bail!("the socket ended before {event}")
    };
    timeout(PATIENCE, found).await.with_context(|| format!("no {event}"))?
}

/// Opens many sockets that have joined.
async fn many(base: &str, key: &Key, prefix: &str, count: usize) -> Result<Vec<Socket>> {
    let opening =
        (0..count).map(|number| async move { joined(base, key, &format!("{prefix}{number}")).await });
    let opened: Vec<Result<Socket>> = stream::iter(opening).buffer_unordered(OPENING).collect().await;
    opened.into_iter().collect()
}

fn megabytes(bytes: u64) -> Result<f64> {
    Ok(f64::from(u32::try_from(bytes / 1024)?) * 1024.0 / 1e6)
}

async fn idle(world: &World, key: &Key) -> Result<Vec<Figure>> {
    progress(&format!("{IDLE} idle sockets"));
    let service = world.spawn(&["discovery"]).await?;
    let before = service.memory()?;
    let sockets = many(&world.discovery_url(), key, "idle", IDLE).await?;
    let after = service.memory()?;
    ensure!(sockets.len() == IDLE, "{} sockets", sockets.len());
    let figure = |name: &str, bytes, bound| -> Result<Figure> {
        Ok(Figure::once(name, megabytes(bytes)?, Unit::Megabytes, bound))
    };
    let mut figures = vec![
        figure("memory (PSS) without sockets", before.pss_bytes, Bound::None)?,
        figure(&format!("memory (PSS) with {IDLE} idle sockets"), after.pss_bytes, Bound::Aim(IDLE_AIM_MB))?,
    ];
    drop(sockets);
    drop(service);
    progress(&format!("{IDLE} idle sockets of a bare echo"));
    let echo = Echo::start().await?;
    let mut sockets = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        sockets.push(connect_async(echo.url()).await?.0);
    }
    let bytes = echo.pss_bytes()?;
    figures.push(figure(&format!("memory (PSS) with {IDLE} idle sockets, bare echo"), bytes, Bound::None)?);
    Ok(figures)
}

/// How long it takes from a join to another peer's being told of it.
async fn joins(world: &World, key: &Key) -> Result<Vec<Figure>> {
    progress(&format!("{JOINS} joins until they are seen, at the same and at another replica"));
    let (_first, _second, port) = two(world).await?;
    let elsewhere = format!("http://{}", port.address());
    let mut figures = Vec::new();
    for (what, base) in [("same replica", world.discovery_url()), ("other replica", elsewhere)] {
        let mut watcher = joined(&world.discovery_url(), key, "watcher").await?;
        let mut times = Times::default();
        for number in 0..JOINS {
            let name = format!("{}{number}", what.get(..4).unwrap_or_default());
            let begun = Instant::now();
            let _socket = joined(&base, key, &name).await?;
            loop {
                let diff = next(&mut watcher, "presence_diff").await?;
                if diff.pointer(&format!("/joins/{name}")).is_some() {
                    break;
                }
            }
            times.add(begun.elapsed());
        }
        let name = format!("open, join, seen: {what}");
        figures.push(times.figure(&name, 50, Bound::None)?);
        figures.push(times.figure(&name, 99, Bound::None)?);
    }
    Ok(figures)
}

async fn two(world: &World) -> Result<(Service, Service, Port)> {
    let port = Port::reserve()?;
    let address = port.address().to_string();
    let first = world.spawn(&["discovery"]).await?;
    let second = world.spawn_with(&["discovery"], &[("ORRERY_DISCOVERY__LISTEN", &address)]).await?;
    Ok((first, second, port))
}

/// Each of a pair at another replica; one sends frames to the other, as many at a time as it has answers.
async fn pairs(world: &World, key: &Key) -> Result<Vec<Figure>> {
    let (_first, _second, port) = two(world).await?;
    let elsewhere = format!("http://{}", port.address());
    progress(&format!("frames between {PAIRS} pairs over two replicas"));
    let senders = many(&world.discovery_url(), key, "sender", PAIRS).await?;
    let receivers = many(&elsewhere, key, "receiver", PAIRS).await?;
    // Their names, in whatever order they were opened: every sender writes to the receiver of its own number.
    let count = Arc::new(Mutex::new(HashMap::<&str, u64>::new()));
    let end = Instant::now() + LASTS;
    let mut tasks = JoinSet::new();
    for (number, mut socket) in senders.into_iter().enumerate() {
        let count = Arc::clone(&count);
        tasks.spawn(async move {
            let frame = json!({"topic": "", "event": "candidate", "ref": "1",
                "payload": {"recipient": format!("receiver{number}"), "candidate": "x".repeat(200)}});
            let text = frame.to_string();
            let mut sent = 0;
            while Instant::now() < end {
                socket.send(Message::text(text.clone())).await?;
                next(&mut socket, "phx_reply").await?;
                sent += 1;
            }
            *count.lock().await.entry("sent").or_default() += sent;
            Ok::<_, anyhow::Error>(())
        });
    }
    for mut socket in receivers {
        let count = Arc::clone(&count);
        tasks.spawn(async move {
            let mut got = 0;
            let rest = end + Duration::from_secs(2);
            while let Ok(Some(Ok(message))) = tokio::time::timeout_at(rest.into(), socket.next()).await {
                got += u64::from(matches!(message, Message::Text(text) if text.contains("\"candidate\"")));
            }
            *count.lock().await.entry("got").or_default() += got;
            Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let count = count.lock().await;
    let rate = |what: &str| -> Result<f64> {
        let counted = count.get(what).copied().unwrap_or_default();
        Ok(f64::from(u32::try_from(counted)?) / LASTS.as_secs_f64())
    };
    let mut figures = vec![
        Figure::once("frames sent and answered", rate("sent")?, Unit::PerSecond, Bound::None),
        Figure::once("frames received at the other replica", rate("got")?, Unit::PerSecond, Bound::None),
    ];
    progress("frames of a bare echo");
    figures.push(Figure::once("frames, bare echo", echoes().await?, Unit::PerSecond, Bound::None));
    Ok(figures)
}

async fn echoes() -> Result<f64> {
    let echo = Echo::start().await?;
    let end = Instant::now() + LASTS;
    let mut tasks = JoinSet::new();
    for _ in 0..PAIRS {
        let mut socket = connect_async(echo.url()).await?.0;
        tasks.spawn(async move {
            let (text, mut count) = ("x".repeat(300), 0_u32);
            while Instant::now() < end {
                socket.send(Message::text(text.clone())).await?;
                socket.next().await.context("the echo has ended")??;
                count += 1;
            }
            Ok::<_, anyhow::Error>(count)
        });
    }
    let mut all = 0;
    while let Some(task) = tasks.join_next().await {
        all += task??;
    }
    Ok(f64::from(all) / LASTS.as_secs_f64())
}

/// A bare echo by actix-ws, in a process of its own.
struct Echo {
    child: Child,
    port: Port,
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Echo {
    async fn start() -> Result<Self> {
        let port = Port::reserve()?;
        let binary = std::env::current_exe()?.with_file_name("websocket-echo");
        let mut command = Command::new(&binary);
        command.arg(port.address().to_string()).stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        let echo = Self { child, port };
        until(PATIENCE, "the echo", async || TcpStream::connect(echo.port.address()).await.is_ok()).await?;
        Ok(echo)
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.port.address())
    }

    fn pss_bytes(&self) -> Result<u64> {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }
}
