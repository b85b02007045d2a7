//! The gateway as a process of its own, before replicas that are killed, hang and drain, while its settings change, and at a Unix socket.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;
use orrery_tests::{Service, World, deadline::eventually, ports::Port};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

const SOON: Duration = Duration::from_secs(40);
const CLIENTS: usize = 8;
/// Nobody is over a limit, and no answer comes from the cache.
const OPEN: [(&str, &str); 2] =
    [("ORRERY_GATEWAY__RATES__ENABLED", "false"), ("ORRERY_GATEWAY__CACHE__BYTES", "0")];

/// What the clients of a test came to.
#[derive(Default)]
struct Load {
    answered: AtomicUsize,
    failed: AtomicUsize,
    over: AtomicBool,
}

impl Load {
    /// Reads on one connection until it is over. What the gateway answers is counted; a connection that ends is an error.
    async fn read(&self, address: &str) -> Result<()> {
        let mut stream = TcpStream::connect(address).await?;
        while !self.over.load(Ordering::Relaxed) {
            let head = ask(&mut stream).await?;
            let count = if head.starts_with("HTTP/1.1 200") { &self.answered } else { &self.failed };
            count.fetch_add(1, Ordering::Relaxed);
            ensure!(!head.to_ascii_lowercase().contains("connection: close"), "{head}");
        }
        Ok(())
    }

    /// Waits for so many more good answers.
    async fn more(&self, answers: usize) -> Result<()> {
        let wanted = self.answered.load(Ordering::Relaxed) + answers;
        eventually(SOON, "the load goes on", async || {
            (self.answered.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await
    }
}

/// One request on a connection that stays; the head of its answer.
async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> Result<String> {
    stream.write_all(b"GET /status.json HTTP/1.1\r\nhost: x\r\n\r\n").await?;
    let mut read = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let bytes = timeout(SOON, stream.read(&mut buffer)).await??;
        ensure!(bytes > 0, "the connection ended after {:?}", String::from_utf8_lossy(&read));
        read.extend_from_slice(buffer.get(..bytes).unwrap_or_default());
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let lower = head.to_ascii_lowercase();
        let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        if length.map(str::parse::<usize>).transpose()? == Some(body.len()) {
            return Ok(head.to_owned());
        }
    }
}

/// Three replicas of autha behind one gateway; they hold their ports.
async fn behind(world: &World) -> Result<(Vec<Service>, Vec<Port>, String)> {
    let (mut replicas, mut ports, mut urls) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let port = Port::reserve()?;
        let address = port.address().to_string();
        replicas.push(world.spawn_with(&["autha"], &[("ORRERY_AUTHA__LISTEN", address.as_str())]).await?);
        urls.push(format!("http://{address}"));
        ports.push(port);
    }
    Ok((replicas, ports, urls.join(",")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_are_killed_hang_or_drain_under_load_fail_nothing_that_could_be_asked_again()
-> Result<()> {
    let world = World::builder().start().await?;
    let (mut replicas, _ports, urls) = behind(&world).await?;
    let settings =
        [&OPEN[..], &[("ORRERY_GATEWAY__AUTHA", urls.as_str()), ("ORRERY_GATEWAY__UPSTREAM_TIMEOUT", "2s")]]
            .concat();
    let _gateway = world.spawn_with(&["gateway"], &settings).await?;
    let address = world.gateway_url().trim_start_matches("http://").to_owned();
    let load = Load::default();
    let failed = || load.failed.load(Ordering::Relaxed);
    let trouble = async {
        // Often enough that one of them meets a read that it has in hand.
        for _ in 0..6 {
            load.more(100).await?;
            replicas[0].kill();
            load.more(100).await?;
            ensure!(failed() == 0, "{} reads failed after a kill", failed());
            replicas[0].relaunch()?;
            replicas[0].wait_ready(SOON).await?;
        }
        // What it has in hand may have been handled, and waits for its answer; everybody else's goes to the one that is left.
        replicas[1].freeze()?;
        load.more(300).await?;
        replicas[1].thaw()?;
        let at_work = failed();
        ensure!(
            at_work <= CLIENTS,
            "{at_work} reads failed, and {CLIENTS} at most were at work where it hung"
        );
        let status = replicas[2].terminate(SOON).await?;
        ensure!(status.success(), "{status}");
        load.more(300).await?;
        ensure!(failed() == at_work, "{} reads failed after a drain", failed() - at_work);
        load.over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    tokio::try_join!(try_join_all((0..CLIENTS).map(|_| load.read(&address))), trouble)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_end_no_connection_and_take_routes_up() -> Result<()> {
    let world = World::builder().start().await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("orrery.toml");
    std::fs::write(&file, "")?;
    let path = file.to_str().context("a path that is no text")?;
    let autha = world.autha_url();
    let front =
        world.spawn_with(&["gateway", "autha"], &[&OPEN[..], &[("ORRERY_CONFIG", path)]].concat()).await?;
    let address = world.gateway_url().trim_start_matches("http://").to_owned();
    let client = world.client()?;
    let load = Load::default();
    let reloads = async {
        load.more(50).await?;
        for number in 0..10 {
            // Every other time what is written cannot be used: the routes of before stay.
            let route = format!(
                "[[gateway.routes]]\npath = \"/number/{number}\"\nstrip = true\nupstreams = [\"{autha}\"]\n"
            );
            std::fs::write(&file, format!("{route}\n[[gateway.routes]]\npath = \"no path\"\n"))?;
            front.signal(Signal::SIGHUP)?;
            load.more(20).await?;
            std::fs::write(&file, &route)?;
            front.signal(Signal::SIGHUP)?;
            eventually(SOON, "the new route", async || {
                let answer = client.get(&format!("/number/{number}/status.json")).await.ok()?;
                (answer.status == 200).then_some(())
            })
            .await?;
        }
        load.more(50).await?;
        load.over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    tokio::try_join!(try_join_all((0..CLIENTS).map(|_| load.read(&address))), reloads)?;
    let failed = load.failed.load(Ordering::Relaxed);
    ensure!(failed == 0, "{failed} reads failed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_at_a_unix_socket_answers_and_its_file_is_made_anew_after_a_kill() -> Result<()> {
    let world = World::builder().start().await?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("gateway.sock");
    let address = world.gateway_url().trim_start_matches("http://").to_owned();
    let listeners = format!("[{{ address = '{address}' }}, {{ socket = '{}' }}]", socket.display());
    let mut front =
        world.spawn_with(&["gateway", "autha"], &[("ORRERY_GATEWAY__LISTENERS", listeners.as_str())]).await?;
    let answers = async |socket: &Path| {
        let head = ask(&mut UnixStream::connect(socket).await?).await?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        anyhow::Ok(())
    };
    answers(&socket).await?;
    front.kill();
    front.restart().await?;
    answers(&socket).await?;
    Ok(())
}
