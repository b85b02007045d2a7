//! SIGTERM under load: whoever got a connection gets an answer, and whoever kept one is told that it ends.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use orrery_tests::{World, deadline::eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

const SOON: Duration = Duration::from_secs(40);
/// Answers before the signal.
const WARM: usize = 100;

/// Asks on one connection after the other until none is to be had, and counts the answers. An answer that lacks is an error.
async fn ask_until_the_end(address: SocketAddr, kept: bool, count: watch::Sender<usize>) -> Result<()> {
    loop {
        let mut stream = match timeout(Duration::from_millis(500), TcpStream::connect(address)).await {
            Err(_) => return Ok(()),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Ok(()),
            Ok(stream) => stream?,
        };
        loop {
            let connection = if kept { "keep-alive" } else { "close" };
            let request = format!("GET /status.json HTTP/1.1\r\nhost: x\r\nconnection: {connection}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.context("the request was not taken")?;
            let head = answer(&mut stream).await?;
            ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
            count.send_modify(|count| *count += 1);
            if head.to_ascii_lowercase().contains("\r\nconnection: close\r\n") {
                break;
            }
        }
    }
}

/// The head of an answer whose body was read too.
async fn answer(stream: &mut TcpStream) -> Result<String> {
    let mut read = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let bytes = timeout(SOON, stream.read(&mut buffer)).await??;
        let text = String::from_utf8_lossy(&read).into_owned();
        ensure!(bytes > 0, "the connection ended after {text:?}");
        read.extend_from_slice(buffer.get(..bytes).unwrap_or_default());
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length =
            length.lines().find_map(|line| line.strip_prefix("content-length: ")).map(str::parse::<usize>);
        if length.transpose()? == Some(body.len()) {
            return Ok(format!("{head}\r\n"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_request() -> Result<()> {
    let world = World::builder().env("ORRERY_GATEWAY__RATES__ENABLED", "false").start().await?;
    let mut front = world.spawn(&["gateway", "autha"]).await?;
    let address: SocketAddr = world.gateway_url().trim_start_matches("http://").parse()?;
    let (count, mut counted) = watch::channel(0);
    let load = try_join_all((0..8).map(|client| ask_until_the_end(address, client % 2 == 0, count.clone())));
    let ending = async {
        timeout(SOON, counted.wait_for(|count| *count > WARM)).await??;
        let status = front.terminate(SOON).await?;
        ensure!(status.success(), "{status}");
        anyhow::Ok(())
    };
    tokio::try_join!(load, ending)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_drains_says_so_and_still_takes_everything_in() -> Result<()> {
    let world = World::builder()
        .env("ORRERY_INTERNAL__DRAIN_DELAY", "20s")
        .env("ORRERY_GATEWAY__RATES__ENABLED", "false")
        .start()
        .await?;
    let mut front = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?;
    front.signal_end()?;
    eventually(SOON, "it says that it drains", async || {
        let health = front.health().await.ok()?;
        (health.status == 503 && health.body["status"] == "draining").then_some(())
    })
    .await?;
    let status = client.get("/status.json").await?.expect(200)?;
    ensure!(status.header("connection") == Some("close"), "the connection is not ended");
    client.get("/health/ready").await?.expect(503)?;
    // A second signal is for those in a hurry.
    let ended = front.terminate(SOON).await?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hangup_reads_the_level_of_the_log_again_and_other_signals_end_nothing() -> Result<()> {
    let world = World::start().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("orrery.toml");
    std::fs::write(&file, "[log]\nlevel = \"error\"\n")?;
    let settings = [("ORRERY_CONFIG", file.to_str().context("a path that is no text")?)];
    let mut front = world.spawn_with(&["gateway", "autha"], &settings).await?;
    front.signal(Signal::SIGUSR1)?;
    front.signal(Signal::SIGHUP)?;
    ensure!(!front.log().contains("started"), "the level of the file is not kept:\n{}", front.log());

    std::fs::write(&file, "[log]\nlevel = \"info\"\n")?;
    front.signal(Signal::SIGHUP)?;
    for (signal, line) in
        [(Signal::SIGUSR1, "SIGUSR1 means nothing"), (Signal::SIGUSR2, "SIGUSR2 means nothing")]
    {
        eventually(SOON, "the signal is answered by a line", async || {
            front.signal(signal).ok()?;
            front.log().contains(line).then_some(())
        })
        .await?;
    }
    // What is no level changes nothing, and is told.
    std::fs::write(&file, "[log]\nlevel = \"loud=maybe\"\n")?;
    front.signal(Signal::SIGHUP)?;
    eventually(SOON, "it says that the level stays", async || {
        front.log().contains("the level of the log stays").then_some(())
    })
    .await?;
    front.health().await?.expect(200)?;
    ensure!(front.terminate(SOON).await?.success());
    Ok(())
}
