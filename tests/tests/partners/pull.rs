//! Pull instead of push: `GET /events` from a cursor on, and server-sent events.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Response;
use serde_json::{Value, json};

use crate::setting::{Party, SOON, Setting, event, text};

async fn pull(party: &Party, query: &str) -> Result<Value> {
    Ok(party.client.get(&format!("/events?{query}")).await?.expect(200)?.body)
}

fn ids(answer: &Value) -> Vec<&str> {
    let events = answer["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().filter_map(|event| event["id"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_misses_nothing_and_repeats_nothing() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let begin = pull(&acme, "").await?;
    ensure!(ids(&begin).is_empty(), "without a cursor it begins with what comes");
    let events: Vec<_> = (0..25).map(|number| event(&number.to_string())).collect();
    acme.send_all(&events).await?.expect(202)?;
    let (mut cursor, mut seen) = (text(&begin, "cursor")?.to_owned(), Vec::new());
    while seen.len() < 25 {
        let page = pull(&acme, &format!("after={cursor}&limit=10&wait=10")).await?;
        ensure!(!ids(&page).is_empty(), "nothing came after {cursor}");
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        cursor = text(&page, "cursor")?.to_owned();
    }
    ensure!(seen == (0..25).map(|number| number.to_string()).collect::<Vec<_>>(), "{seen:?}");
    // A waiting request is answered by what comes.
    let waiting = pull(&acme, "wait=20");
    let sending = async {
        tokio::task::yield_now().await;
        let mut number = 0;
        loop {
            acme.send(&event(&format!("late-{number}"))).await?;
            number += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        #[expect(unreachable_code, reason = "names the type of its error")]
        Ok::<(), anyhow::Error>(())
    };
    let answer = tokio::select! {
        answer = waiting => answer?,
        sent = sending => return sent,
    };
    ensure!(ids(&answer).first().is_some_and(|id| id.starts_with("late-")), "{answer}");
    let chosen = pull(&acme, "after=0&limit=1000&filter=id%20IN%20('3','5')").await?;
    ensure!(ids(&chosen) == ["3", "5"], "{chosen}");
    for (query, status) in
        [("after=x", 400), ("after=99999999", 400), ("limit=0", 400), ("filter=ABS(x)%3D1", 422)]
    {
        acme.client.get(&format!("/events?{query}")).await?.expect(status)?;
    }
    let stranger = setting.party("stranger", &["--receive", "com.beta.#"]).await?;
    ensure!(ids(&pull(&stranger, "after=0").await?).is_empty());
    // A cursor whose successor is gone must not skip what was pruned.
    setting.world.database().execute("DELETE FROM partners.log WHERE position <= 10").await?;
    acme.client.get("/events?after=5").await?.expect(410)?;
    ensure!(!ids(&pull(&acme, "after=0").await?).is_empty());
    Ok(())
}

/// Reads a stream until it has this text.
async fn read_until(stream: &mut Response, wanted: &str) -> Result<String> {
    let mut all = String::new();
    let read = async {
        while let Some(chunk) = stream.chunk().await? {
            all.push_str(std::str::from_utf8(&chunk)?);
            if all.contains(wanted) {
                return Ok(());
            }
        }
        anyhow::bail!("the stream ended")
    };
    tokio::time::timeout(SOON, read).await.with_context(|| format!("no {wanted}"))??;
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_on_where_it_broke() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let open = async |last: Option<&str>| -> Result<Response> {
        let mut request = reqwest::Client::new()
            .get(format!("{}/events/stream", setting.url()))
            .bearer_auth(acme.client.access_token().context("no token")?);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        Ok(request.send().await?.error_for_status()?)
    };
    let mut stream = open(None).await?;
    ensure!(stream.headers()["content-type"] == "text/event-stream");
    read_until(&mut stream, ": connected").await?;
    acme.send(&event("1")).await?.expect(202)?;
    let told = read_until(&mut stream, "\"total\":12").await?;
    let last =
        told.split("id: ").nth(1).and_then(|rest| rest.split('\n').next()).context("no id")?.to_owned();
    ensure!(told.contains("event: cloudevent\ndata: {"), "{told}");
    drop(stream);
    acme.send(&event("2")).await?.expect(202)?;
    let mut stream = open(Some(&last)).await?;
    let told = read_until(&mut stream, "\"id\":\"2\"").await?;
    ensure!(!told.contains("\"id\":\"1\""), "{told}");
    // A client that is disabled hears nothing more.
    setting.command(&["disable", "acme"]).await?;
    let ended = async {
        while stream.chunk().await?.is_some() {}
        Ok::<_, anyhow::Error>(())
    };
    tokio::time::timeout(SOON, ended).await.context("the stream goes on")??;
    ensure!(json!(acme.client.get("/events").await?.status) == 401);
    Ok(())
}
