//! Two web pages in two browsers find each other and open a WebRTC data channel.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use orrery_tests::World;
use serde_json::json;
use tokio::{process::Command, time::timeout};

use crate::somebody;

/// Browsers take their time to start on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_browser_pages_find_each_other_and_open_a_data_channel() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha", "discovery"]).await?;
    let (ada, ada_client) = somebody(&world).await?;
    let (bob, bob_client) = somebody(&world).await?;
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tests.join("../.run/phoenix");
    if !folder.join("node_modules/phoenix").exists() {
        bail!(
            "the client of Phoenix channels is not installed: run tests/phoenix/install, as ./dev test does"
        )
    }
    let page = |me: &str, peer: &str, token: Option<&str>, offers: bool| json!({"me": me, "peer": peer, "token": token, "offers": offers});
    let request = json!({
        "url": format!("{}/socket", world.gateway_url().replacen("http", "ws", 1)),
        "peers": [
            page(&ada.id, &bob.id, ada_client.access_token(), true),
            page(&bob.id, &ada.id, bob_client.access_token(), false),
        ],
    });
    let mut command = Command::new("node");
    command.arg(tests.join("phoenix/browsers.mjs")).arg(folder).arg(request.to_string());
    let run = command.stdin(Stdio::null()).env("TMPDIR", world.folder()).kill_on_drop(true).output();
    let output = timeout(LIMIT, run).await.context("the pages did not find each other")??;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}: {told}", output.status);
    Ok(())
}
