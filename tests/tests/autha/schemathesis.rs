//! Every route of `openapi.yaml` under schemathesis, against the running system: no fault of ours, and no answer that the document does not have.
//! `./dev test schemathesis` installs it and runs this.

#![expect(clippy::print_stdout, reason = "what was asked, and how often, is for who runs it")]

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use orrery_tests::{Client, World};
use serde_json::Value;
use tokio::process::Command;

use crate::{operators, somebody};

/// The longest that one run may take.
const LONG: Duration = Duration::from_secs(1800);
/// What ends the session that all other routes are asked in; asked last.
const LAST: &str = "^(logOut|endSessions)$";
/// What is asked in the first run: all but those, and but an endpoint of a third party, which is called as soon as it is there: one that is made up could be
/// a stranger's. The tests of `partners` ask for that.
const NOT_FIRST: &str = "^(logOut|endSessions|createEndpoint)$";
/// What is looked at in each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";

/// The document as the system serves it, but only what it names one by one is an answer: `default` would document everything.
async fn strict(client: &Client) -> Result<Value> {
    let mut document = client.get("/openapi.json").await?.expect(200)?.body;
    let paths = document["paths"].as_object_mut().context("no paths")?;
    for operation in paths.values_mut().filter_map(Value::as_object_mut).flat_map(|path| path.values_mut()) {
        if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut)
            && let Some(fault) = responses.remove("default")
        {
            responses.insert("405".to_owned(), fault);
        }
    }
    Ok(document)
}

/// Opens every route.
const SCOPE: &str = "read:account write:account write:public_keys admin";

async fn run(program: &str, document: &Path, base: &str, token: &str, choice: [&str; 2]) -> Result<()> {
    let examples = std::env::var("ORRERY_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| "25".to_owned());
    let mut command = Command::new(program);
    command
        .arg("run")
        .arg(document)
        .args(["--url", base, "--checks", CHECKS, "--max-examples", &examples, "--no-shrink"])
        .args(["--phases", "examples,coverage,fuzzing", "--continue-on-failure", "--warnings", "off"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(choice)
        // What it writes for itself lies beside the document.
        .current_dir(document.parent().context("no folder")?)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    let ended = tokio::time::timeout(LONG, command.output()).await.context("it takes too long")??;
    let told = String::from_utf8_lossy(&ended.stdout);
    if !ended.status.success() {
        bail!("{told}\n{}", String::from_utf8_lossy(&ended.stderr));
    }
    println!("{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs schemathesis and some minutes: ./dev test schemathesis"]
async fn no_route_fails_or_answers_what_is_not_documented() -> Result<()> {
    let program =
        std::env::var("ORRERY_SCHEMATHESIS").context("ORRERY_SCHEMATHESIS: run ./dev test schemathesis")?;
    // What is guessed is answered each time, not refused after the fifth.
    let many = "1000000";
    let services = ["autha", "maily", "spinoza", "discovery", "partners", "gateway"];
    let world = World::builder()
        .env("ORRERY_SERVICES", &services.join(","))
        .env("ORRERY_AUTHA__THROTTLE__ACCOUNT_FAILURES", many)
        .env("ORRERY_AUTHA__THROTTLE__ACCOUNT_FAILURES_TOTAL", many)
        .env("ORRERY_AUTHA__THROTTLE__MAILBOX_MAILS", many)
        .capture()
        .start()
        .await?;
    let service = world.spawn(&services).await?;
    let client = operators::operator(&world, SCOPE).await?;
    let folder = world.folder().join("schemathesis");
    std::fs::create_dir(&folder)?;
    let document = folder.join("openapi.json");
    std::fs::write(&document, serde_json::to_vec(&strict(&client).await?)?)?;
    let (base, token) = (world.gateway_url(), client.access_token().context("no token")?.to_owned());
    run(&program, &document, &base, &token, ["--exclude-operation-id-regex", NOT_FIRST]).await?;
    run(&program, &document, &base, &token, ["--include-operation-id-regex", LAST]).await?;
    // It is as well as before.
    somebody(&world).await?;
    drop(service);
    Ok(())
}
