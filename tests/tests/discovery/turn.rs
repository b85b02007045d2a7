//! Credentials for a TURN server, as a real one (coturn) takes them.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use orrery_tests::{World, eventually, ports::Port};
use tokio::{process::Command, time::timeout};

use crate::{SOON, somebody};

const SECRET: &str = "a secret of the test's own";

/// How long one try to relay may take.
const TRY: Duration = Duration::from_secs(15);

/// Relays packets from one client to another over the server; whether all arrived.
async fn relays(port: &Port, username: &str, credential: &str) -> Result<bool> {
    let mut client = Command::new("turnutils_uclient");
    client.args(["-p", &port.address().port().to_string(), "-u", username, "-w", credential]);
    // Client to client, over UDP, one pair, three packets.
    client.args(["-y", "-c", "-m", "2", "-n", "3", "127.0.0.1"]);
    let run = client.stdin(Stdio::null()).kill_on_drop(true).output();
    let Ok(output) = timeout(TRY, run).await else { return Ok(false) };
    let output = output.context("turnutils_uclient is missing: apt-get install coturn")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(output.status.success() && text.contains("Total lost packets 0 "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coturn_takes_the_credentials_and_relays() -> Result<()> {
    let port = Port::reserve()?;
    let number = port.address().port().to_string();
    let url = format!("turn:127.0.0.1:{number}?transport=udp");
    let world = World::builder()
        .env("ORRERY_DISCOVERY__TURN__URLS", &url)
        .env("ORRERY_DISCOVERY__TURN__SECRET", SECRET)
        .start()
        .await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, client) = somebody(&world).await?;
    let mut server = Command::new("turnserver");
    server.args([
        "-n",
        "--listening-ip",
        "127.0.0.1",
        "--relay-ip",
        "127.0.0.1",
        "--listening-port",
        &number,
    ]);
    server.args(["--use-auth-secret", "--static-auth-secret", SECRET, "--realm", "orrery.example"]);
    server.args([
        "--no-tls",
        "--no-dtls",
        "--no-cli",
        "--allow-loopback-peers",
        "--no-stdout-log",
        "--pidfile",
    ]);
    server.arg(world.folder().join("turn.pid")).arg("--userdb").arg(world.folder().join("turn.db"));
    server.arg("--log-file").arg(world.folder().join("turn.log"));
    let _server = server
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("turnserver is missing: apt-get install coturn")?;

    let made = client.get("/peers/@me/turn").await?.expect(200)?;
    let (username, credential) = (made.text("username")?.to_owned(), made.text("credential")?.to_owned());
    ensure!(made.body["urls"] == serde_json::json!([url]) && made.body["ttl"] == 3600, "{}", made.body);
    ensure!(!username.contains(&ada.id), "the server would learn a name");
    eventually(SOON, "coturn to relay", async || {
        relays(&port, &username, &credential).await.ok()?.then_some(())
    })
    .await?;
    ensure!(!relays(&port, &username, "a wrong one").await?, "a wrong credential was taken");
    let other = username.replacen('1', "2", 1);
    ensure!(!relays(&port, &other, &credential).await?, "another end was taken");
    Ok(())
}
