//! Alerts without Prometheus: what a topic of ntfy is told, and when.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use orrery_tests::{World, deadline::eventually};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{SOON, make_letters};

/// A server of ntfy: it keeps what it is told, or is out of order.
#[derive(Clone)]
struct Topic {
    address: SocketAddr,
    told: watch::Sender<Vec<String>>,
    broken: Arc<AtomicBool>,
}

impl Topic {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let topic = Self { address, told: watch::Sender::new(Vec::new()), broken: Arc::default() };
        let serving = topic.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let topic = serving.clone();
                // Whoever breaks off asks again.
                tokio::spawn(async move { topic.serve(stream).await.ok() });
            }
        });
        Ok(topic)
    }

    async fn serve(&self, stream: TcpStream) -> Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await? == 0 {
                    return Ok(());
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse()?;
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await?;
            let status =
                if self.broken.load(Ordering::SeqCst) { "500 Internal Server Error" } else { "200 OK" };
            stream
                .write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}").as_bytes())
                .await?;
            if status == "200 OK" {
                self.told
                    .send_modify(|told| told.push(format!("{head}\r\n{}", String::from_utf8_lossy(&body))));
            }
        }
    }

    /// The first message with these words.
    async fn until(&self, words: &str) -> Result<String> {
        eventually(SOON, &format!("the topic is told '{words}'"), async || {
            self.told.borrow().iter().find(|message| message.contains(words)).cloned()
        })
        .await
    }

    fn count(&self, words: &str) -> usize {
        self.told.borrow().iter().filter(|message| message.contains(words)).count()
    }
}

async fn world(topic: &Topic) -> Result<World> {
    World::builder()
        .env("ORRERY_CONSOLE__POLL_EVERY", "1s")
        .env("ORRERY_CONSOLE__ALERTS__NTFY", &format!("http://{}/orrery-4Tz9", topic.address))
        .env("ORRERY_CONSOLE__ALERTS__TOKEN", "tk_secret")
        .env("ORRERY_CONSOLE__ALERTS__HOLD_AT_MOST", "1s")
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_told_once_and_again_when_they_are_gone() -> Result<()> {
    let topic = Topic::start().await?;
    let world = world(&topic).await?;
    // What is told may be told by nobody else.
    world.secret("orrery-4Tz9");
    world.secret("tk_secret");
    let service = world.spawn(&["console"]).await?;
    make_letters(&world, 3, "refused").await?;
    let told = topic.until("OrreryDeadLetters").await?;
    let lower = told.to_lowercase();
    ensure!(
        told.starts_with("POST /orrery-4Tz9 ") && lower.contains("authorization: bearer tk_secret"),
        "{told}"
    );
    ensure!(
        lower.contains("priority: default") && told.contains("ticket: 3 dead letters of maily.email"),
        "{told}"
    );
    // One less is no other alert.
    world.database().execute("DELETE FROM bus.dead_letters WHERE event_id = '1'").await?;
    let browser = crate::Browser::logged_in(&world, &service).await?;
    browser.until("/", "2 dead letters").await?;
    world.database().execute("DELETE FROM bus.dead_letters").await?;
    let over = topic.until("over: ").await?;
    ensure!(
        over.contains("over: 2 dead letters of maily.email") && over.to_lowercase().contains("priority: low"),
        "{over}"
    );
    ensure!(topic.count("ticket: 3 dead letters") == 1 && topic.count("ticket: 2 dead letters") == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_told_and_what_could_not_be_told_is_told_later() -> Result<()> {
    let topic = Topic::start().await?;
    let world = world(&topic).await?;
    let service = world.spawn(&["console"]).await?;
    topic.broken.store(true, Ordering::SeqCst);
    world.proxies().postgres.cut().await;
    eventually(SOON, "the log says that nobody was told", async || {
        service.log().contains("alerts could not be told").then_some(())
    })
    .await?;
    topic.broken.store(false, Ordering::SeqCst);
    let told = topic.until("PostgreSQL does not answer").await?;
    ensure!(told.to_lowercase().contains("priority: urgent") && told.contains("page: "), "{told}");
    world.proxies().postgres.restore().await?;
    topic.until("over: PostgreSQL does not answer").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full_is_told() -> Result<()> {
    let topic = Topic::start().await?;
    let world = world(&topic).await?;
    // A file system of 1 MiB with little room.
    let folder = world.folder().join("full");
    std::fs::create_dir(&folder)?;
    let path = folder.to_str().context("a folder that is no UTF-8")?;
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", path]).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a file system can be mounted by root only");
        return Ok(());
    }
    let outcome = async {
        std::fs::write(folder.join("much"), vec![0_u8; 1_000_000])?;
        let _service = world.spawn_with(&["console"], &[("ORRERY_CONSOLE__ALERTS__FOLDERS", path)]).await?;
        let told = topic.until("DiskNearlyFull").await?;
        ensure!(told.contains(&format!("of {path} on this machine is free")), "{told}");
        anyhow::Ok(())
    }
    .await;
    let freed = std::process::Command::new("umount").arg(path).status()?;
    ensure!(freed.success(), "{path} is still mounted");
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_no_topic_is_refused_and_shown_nowhere() -> Result<()> {
    let world = World::start().await?;
    let wrong = world.run_with(&["check"], &[("ORRERY_CONSOLE__ALERTS__NTFY", "ntfy-4Tz9")], SOON).await?;
    let told = "console.alerts.ntfy: must be the address of a topic";
    ensure!(!wrong.status.success() && wrong.output.contains(told), "{}", wrong.output);
    ensure!(!wrong.output.contains("4Tz9"), "{}", wrong.output);
    Ok(())
}
