//! The official SDKs as senders and receivers: `cloudevents` and `standardwebhooks` for JavaScript and Python (`tests/partners`).

use std::{path::Path, process::Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    receiver::{Received, Receiver},
    setting::{Party, SOON, Setting, text},
};

/// Runs the SDKs of a language.
async fn sdk(language: &str, request: Value) -> Result<Value> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tests.join("../.run/partners").canonicalize();
    let Ok(folder) = folder else {
        bail!("the SDKs are not installed: run tests/partners/install, as ./dev test does")
    };
    let (program, script) = match language {
        "JavaScript" => ("node", "partners/sdk.mjs"),
        _ => ("python3", "partners/sdk.py"),
    };
    let mut command = Command::new(program);
    command.arg(tests.join(script)).arg(folder).arg(request.to_string());
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(SOON, run).await.context("it hangs")??;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{language} says {}", String::from_utf8_lossy(&output.stderr)))
}

fn received(delivery: &Received, secret: &str) -> Result<Value> {
    Ok(
        json!({"receive": {"secret": secret, "headers": delivery.headers, "body": std::str::from_utf8(&delivery.body)?}}),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_sdks_send_and_receive() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    let endpoint = acme.endpoint(&receiver, json!({})).await?;
    let secret = text(&endpoint, "secret")?;
    setting.world.secret(secret);
    let url = format!("{}/events", setting.url());
    let token = acme.client.access_token().context("no token")?;
    for (number, language) in ["JavaScript", "Python"].into_iter().enumerate() {
        let ids = [format!("{language}-binary"), format!("{language}-structured")];
        let sent = sdk(language, json!({"send": {"url": url, "token": token, "ids": ids}})).await?;
        ensure!(sent == json!({"statuses": [202, 202]}), "{language}: {sent}");
        let deliveries = receiver.wait(2 * (number + 1), SOON).await?;
        for id in &ids {
            let delivery = deliveries.iter().find(|one| one.event().is_ok_and(|event| event["id"] == **id));
            let delivery = delivery.with_context(|| format!("no {id}"))?;
            ensure!(delivery.event()?["subject"] == "é", "{:?}", delivery.event()?);
            for reader in ["JavaScript", "Python"] {
                let read = sdk(reader, received(delivery, secret)?).await?;
                ensure!(read["id"] == **id && read["data"] == json!({"total": 12}), "{reader}: {read}");
                ensure!(read["sourceclient"] == "acme", "{reader}: {read}");
                let wrong =
                    sdk(reader, received(delivery, "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")?)
                        .await?;
                ensure!(wrong == json!({"error": "WebhookVerificationError"}), "{reader}: {wrong}");
            }
        }
    }
    Ok(())
}
