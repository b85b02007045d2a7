//! The client of Phoenix channels from npm (`tests/phoenix`), in both ways of writing frames.

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result, bail, ensure};
use orrery_tests::{Client, Person, World, ports::Port};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{SOON, joined, somebody};

/// A process with the client.
struct Page {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    kept: Vec<Value>,
}

impl Page {
    async fn open(world: &World, client: &Client, version: &str) -> Result<Self> {
        Self::open_at(&world.gateway_url().replacen("http", "ws", 1), None, client, version).await
    }

    /// At this address, whose certificate is signed by `authority`.
    async fn open_at(base: &str, authority: Option<&Path>, client: &Client, version: &str) -> Result<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tests.join("../.run/phoenix");
        if !folder.join("node_modules/phoenix").exists() {
            bail!(
                "the client of Phoenix channels is not installed: run tests/phoenix/install, as ./dev test does"
            )
        }
        let url = format!("{base}/socket");
        let token = client.access_token().context("no token")?;
        let request = json!({"url": url, "token": token, "vsn": version});
        let mut command = Command::new("node");
        command.arg(tests.join("phoenix/peer.mjs")).arg(folder).arg(request.to_string());
        if let Some(authority) = authority {
            command.env("NODE_EXTRA_CA_CERTS", authority);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?).lines();
        let mut page = Self { child, input, output, kept: Vec::new() };
        ensure!(page.told("joined").await? == json!({}));
        Ok(page)
    }

    async fn send(&mut self, event: &str, payload: Value) -> Result<()> {
        let line = format!("{}\n", json!([event, payload]));
        Ok(self.input.write_all(line.as_bytes()).await?)
    }

    /// The data of the next that it tells of this kind, also of those before.
    async fn told(&mut self, what: &str) -> Result<Value> {
        self.until(what, |_| true).await
    }

    async fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let is = |told: &Value| told["what"] == what && fits(&told["data"]);
        if let Some(place) = self.kept.iter().position(&is) {
            return Ok(self.kept.remove(place)["data"].clone());
        }
        loop {
            let line = timeout(SOON, self.output.next_line()).await;
            let line = line.with_context(|| format!("{what} was not told; this was: {:?}", self.kept))??;
            let told: Value = serde_json::from_str(&line.context("the client has ended")?)?;
            if is(&told) {
                return Ok(told["data"].clone());
            }
            self.kept.push(told);
        }
    }
}

async fn both_ways(version: &str) -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let mut page = Page::open(&world, &ada_client, version).await?;
    let (bob, _, mut socket) = joined(&world).await?;
    socket.came(&ada.id).await?;
    if version == "2.0.0" {
        // Its own `Presence` begins with a state, which is the second way's.
        let names = |data: &Value| data.as_array().is_some_and(|names| names.len() == 2);
        let mut both = [ada.id.clone(), bob.id.clone()];
        both.sort();
        ensure!(page.until("present", names).await? == json!(both));
    }
    page.send("message", json!({"content": "hello bob", "recipient": bob.id})).await?;
    ensure!(page.told("ok").await?["id"].is_string());
    ensure!(socket.pending().await?["content"] == "hello bob");
    let offer = json!({"type": "offer", "sdp": "v=0", "recipient": ada.id});
    ensure!(socket.ask("offer", offer).await?["status"] == "ok");
    ensure!(page.told("offer").await? == json!({"type": "offer", "sdp": "v=0", "sender": bob.id}));
    socket.ask("message", json!({"content": "hello ada", "recipient": ada.id})).await?;
    let got = page.until("pending_messages", |data| data["messages"][0].is_object()).await?;
    ensure!(got["messages"][0]["content"] == "hello ada", "{got}");
    page.send("nonsense", json!({})).await?;
    ensure!(page.told("refused").await? == json!({"reason": "unknown event"}));
    page.send("end", json!({})).await?;
    page.told("left").await?;
    socket.left(&ada.id).await?;
    ensure!(timeout(SOON, page.child.wait()).await.context("the client does not end")??.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_current_phoenix_client_joins_and_talks() -> Result<()> {
    both_ways("2.0.0").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phoenix_client_of_the_first_version_joins_and_talks() -> Result<()> {
    both_ways("1.0.0").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn phoenix_clients_of_both_versions_meet_over_tls() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = Command::new("openssl")
        .args(["req", "-x509", "-days", "2", "-keyout", "server.key", "-out", "server.pem", "-nodes"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .current_dir(folder.path())
        .output()
        .await
        .context("running openssl")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let world = World::start().await?;
    let port = Port::reserve()?;
    let (plain, place) = (world.gateway_url().replacen("http://", "", 1), folder.path().display());
    let listeners = format!(
        "[{{ address = '{plain}' }}, {{ address = '{}', tls = {{ certificates = [{{ chain = '{place}/server.pem', key = '{place}/server.key' }}] }} }}]",
        port.address()
    );
    let settings = [("ORRERY_GATEWAY__LISTENERS", listeners.as_str())];
    let _service = world.spawn_with(&["gateway", "autha", "discovery"], &settings).await?;
    let base = format!("wss://localhost:{}", port.address().port());
    let authority = folder.path().join("server.pem");
    let (ada, ada_client) = somebody(&world).await?;
    let (bob, bob_client) = somebody(&world).await?;
    let mut current = Page::open_at(&base, Some(&authority), &ada_client, "2.0.0").await?;
    let mut first = Page::open_at(&base, Some(&authority), &bob_client, "1.0.0").await?;
    tell(&mut current, &mut first, &bob).await?;
    tell(&mut first, &mut current, &ada).await
}

async fn tell(from: &mut Page, to: &mut Page, recipient: &Person) -> Result<()> {
    from.send("message", json!({"content": "over TLS", "recipient": recipient.id})).await?;
    let got = to.until("pending_messages", |data| data["messages"][0].is_object()).await?;
    ensure!(got["messages"][0]["content"] == "over TLS", "{got}");
    Ok(())
}
