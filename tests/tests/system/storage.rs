//! An object store that answers and does not do what it is asked.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use orrery_tests::{Person, World, deadline::eventually, pictures};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

const SOON: Duration = Duration::from_secs(40);
/// Long enough for several probes, each of which the client itself repeats.
const PROBES: usize = 6;

/// So much of an answer passes before it is held or breaks off.
const FIRST_BYTES: usize = 4096;

/// How objects that are read pass.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Free,
    /// The rest is held.
    Held,
    /// There is no rest.
    Broken,
}

/// A way to the store that takes or deletes no objects while it is told so; every connection carries one request.
#[derive(Clone, Default)]
struct Door {
    refuses: Arc<AtomicBool>,
    keeps: Arc<AtomicBool>,
    kept: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    read: Arc<AtomicUsize>,
    flow: Arc<watch::Sender<Flow>>,
    /// Parts of objects that were asked for.
    parts: Arc<Mutex<Vec<String>>>,
}

impl Door {
    async fn open(&self, store: SocketAddr) -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let door = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let door = door.clone();
                // Whoever breaks off asks again.
                tokio::spawn(async move { door.pass(client, store).await.ok() });
            }
        });
        Ok(address)
    }

    async fn pass(self, mut client: TcpStream, store: SocketAddr) -> Result<()> {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            if client.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        if head.starts_with(b"PUT ") && self.refuses.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            client
                .write_all(
                    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                )
                .await?;
            return Ok(());
        }
        if head.starts_with(b"POST ") && self.keeps.load(Ordering::SeqCst) {
            return self.keep(client, head).await;
        }
        if head.starts_with(b"GET ") {
            self.read.fetch_add(1, Ordering::SeqCst);
            let lines = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let part = lines.lines().find_map(|line| line.strip_prefix("range: ")).map(str::to_owned);
            self.parts.lock().unwrap_or_else(PoisonError::into_inner).extend(part);
        }
        let mut flow = self.flow.subscribe();
        let is_held = head.starts_with(b"GET ") && *flow.borrow() != Flow::Free;
        let line = head.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mut store = TcpStream::connect(store).await?;
        let (first, rest) = head.split_at(line);
        store.write_all(&[first, b"connection: close\r\n", rest].concat()).await?;
        if is_held {
            let mut answer = vec![0; FIRST_BYTES];
            store.read_exact(&mut answer).await?;
            client.write_all(&answer).await?;
            let flow = *flow.wait_for(|flow| *flow != Flow::Held).await?;
            if flow == Flow::Broken {
                return Ok(());
            }
        }
        copy_bidirectional(&mut client, &mut store).await?;
        Ok(())
    }

    /// Answers 200 to DeleteObjects, with an error for each key, as S3 does where single objects fail.
    async fn keep(&self, mut client: TcpStream, mut request: Vec<u8>) -> Result<()> {
        while !request.windows(9).any(|end| end == b"</Delete>") {
            ensure!(client.read_buf(&mut request).await? > 0, "the request broke off");
        }
        let request = String::from_utf8_lossy(&request);
        let errors: String = request
            .split("<Key>")
            .skip(1)
            .filter_map(|rest| rest.split("</Key>").next())
            .map(|key| {
                format!(
                    "<Error><Key>{key}</Key><Code>InternalError</Code><Message>try again</Message></Error>"
                )
            })
            .collect();
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{errors}</DeleteResult>"
        );
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        client.write_all(format!("{head}{body}").as_bytes()).await?;
        self.kept.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_did_not_delete_is_told_and_swept_again() -> Result<()> {
    let world = World::builder()
        .env("ORRERY_AUTHA__SWEEP_AFTER", "1s")
        .env("ORRERY_AUTHA__SWEEP_EVERY", "500ms")
        .start()
        .await?;
    let door = Door::default();
    let endpoint = format!("http://{}", door.open(world.proxies().storage.addr()).await?);
    door.keeps.store(true, Ordering::SeqCst);
    let service = world.spawn_with(&[], &[("ORRERY_STORAGE__ENDPOINT", &endpoint)]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    client.wait_upload(taken.location()?, SOON).await?;
    eventually(SOON, "the original is swept twice, and is still there", async || {
        (door.kept.load(Ordering::SeqCst) >= 2).then_some(())
    })
    .await?;
    ensure!(world.objects()?.iter().any(|key| key.contains("/original.")), "{:?}", world.objects()?);
    eventually(SOON, "the log tells of it", async || {
        service.log().contains("objects that no row names are still there").then_some(())
    })
    .await?;
    ensure!(!service.log().contains("swept objects that no row names"), "what is there counts as removed");

    door.keeps.store(false, Ordering::SeqCst);
    eventually(SOON, "only the variants are left", async || (world.objects().ok()?.len() == 3).then_some(()))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_read_and_takes_nothing_is_waited_for_and_told() -> Result<()> {
    let world = World::start().await?;
    let door = Door::default();
    let address = door.open(world.proxies().storage.addr()).await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let endpoint = format!("http://{address}");
    let spinoza = world.spawn_with(&["spinoza"], &[("ORRERY_STORAGE__ENDPOINT", &endpoint)]).await?;
    door.refuses.store(true, Ordering::SeqCst);
    let client = world.client()?.signed_up(&Person::new()).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    eventually(SOON, "health says that nothing is taken", async || {
        let health = spinoza.health().await.ok()?;
        let told = health.body["degraded"].as_array()?.iter().any(|name| name == "pictures");
        (health.status == 200 && told && health.body["causes"]["pictures"].is_string()).then_some(())
    })
    .await?;
    let before = door.refused.load(Ordering::SeqCst);
    eventually(SOON, "the store is probed by writing", async || {
        (door.refused.load(Ordering::SeqCst) >= before + PROBES).then_some(())
    })
    .await?;
    ensure!(door.read.load(Ordering::SeqCst) == 1, "the picture was made again and again");
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);

    door.refuses.store(false, Ordering::SeqCst);
    let done = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");
    eventually(SOON, "health is well again", async || {
        let health = spinoza.health().await.ok()?;
        (health.body["status"] == "ready").then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_or_bucket_of_ours_is_no_fault_of_a_picture() -> Result<()> {
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    for (number, setting) in
        [("ORRERY_STORAGE__SECRET_KEY", "wrong"), ("ORRERY_STORAGE__BUCKET", "another")].iter().enumerate()
    {
        let mut spinoza = world.spawn_with(&["spinoza"], &[*setting]).await?;
        let taken = client
            .put_avatar(pictures::gradient_png(64 + u32::try_from(number)?, 64)?, "image/png")
            .await?
            .expect(202)?;
        eventually(SOON, "health says what to set", async || {
            let health = spinoza.health().await.ok()?;
            health.body["causes"]["storage"].as_str()?.contains("storage.").then_some(())
        })
        .await?;
        // It was taken and given back, neither counted nor refused.
        eventually(SOON, "the picture waits", async || {
            spinoza.log().contains("a dependency is away").then_some(())
        })
        .await?;
        ensure!(spinoza.terminate(SOON).await?.success());
        ensure!(
            world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0,
            "{setting:?} made a dead letter"
        );
        let right = world.spawn(&["spinoza"]).await?;
        let done = client.wait_upload(taken.location()?, SOON).await?;
        ensure!(done["status"] == "done", "{setting:?}: {done}");
        drop(right);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_picture_reaches_its_client_as_the_store_gives_it_and_a_part_is_all_that_is_asked_for() -> Result<()>
{
    let world = World::start().await?;
    let door = Door::default();
    let endpoint = format!("http://{}", door.open(world.proxies().storage.addr()).await?);
    let _service = world.spawn_with(&[], &[("ORRERY_STORAGE__ENDPOINT", &endpoint)]).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
    client.wait_upload(taken.location()?, SOON).await?;
    let me = client.me().await?.expect(200)?.body;
    let address = me["icon"][0]["url"].as_str().context("no picture")?.to_owned();
    // The gateway keeps no parts: each of these comes from the store.
    let ask = |range: &str| client.request(reqwest::Method::GET, &address).header("range", range);
    let whole = client.send(ask("bytes=0-")).await?.expect(206)?.bytes;
    ensure!(whole.len() > 4 * FIRST_BYTES, "{} bytes", whole.len());

    let part = client.send(ask("bytes=5000-5099")).await?.expect(206)?;
    ensure!(Some(&*part.bytes) == whole.get(5000..5100));
    let last = client.send(ask("bytes=-10")).await?.expect(206)?;
    ensure!(last.bytes.len() == 10 && whole.ends_with(&last.bytes));
    let end = whole.len() - 1;
    let asked = door.parts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ensure!(
        asked == [format!("bytes=0-{end}"), "bytes=5000-5099".to_owned(), format!("bytes={}-{end}", end - 9)],
        "{asked:?}"
    );

    door.flow.send_replace(Flow::Held);
    let mut answer = ask("bytes=0-").send().await?;
    let mut came = answer.chunk().await?.context("nothing came")?.to_vec();
    ensure!(came.len() < FIRST_BYTES, "{} bytes came of what was held", came.len());
    door.flow.send_replace(Flow::Free);
    while let Some(chunk) = answer.chunk().await? {
        came.extend_from_slice(&chunk);
    }
    ensure!(came == *whole, "{} bytes instead of {}", came.len(), whole.len());

    door.flow.send_replace(Flow::Broken);
    let broken = ask("bytes=0-").send().await?;
    ensure!(broken.bytes().await.is_err(), "half a picture passes as a whole one");
    door.flow.send_replace(Flow::Free);
    let again = client.send(ask("bytes=0-")).await?.expect(206)?;
    ensure!(again.bytes == whole);
    Ok(())
}
