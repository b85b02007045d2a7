//! The process is killed during thousands of deliveries: each event comes at least once, a doubled one under one id, none is lost.
//! `ORRERY_LONG=1` makes it 10,000 events and more kills.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use orrery_tests::{Dice, deadline::until};
use serde_json::json;

use crate::{
    receiver::Receiver,
    setting::{Party, SOON, Setting, event, text},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_during_deliveries_lose_nothing_and_doubles_have_one_id() -> Result<()> {
    let is_long = std::env::var_os("ORRERY_LONG").is_some();
    let (count, kills) = if is_long { (10_000, 20) } else { (1_500, 4) };
    let mut setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    // A rate that leaves work for each kill to interrupt: 300 a second.
    acme.endpoint(&receiver, json!({"concurrency": 16, "rate": 18_000})).await?;
    let events: Vec<_> = (0..count).map(|number| event(&number.to_string())).collect();
    let distinct = || {
        let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for delivery in receiver.deliveries() {
            let id = delivery.event().ok().and_then(|event| text(&event, "id").ok().map(str::to_owned));
            ids.entry(id.unwrap_or_default()).or_default().push(delivery.header("webhook-id").to_owned());
        }
        ids
    };
    let (mut sent, mut interrupted) = (0, 0);
    let step = count / (kills + 1);
    for kill in 0..=kills {
        let seen = receiver.deliveries().len();
        let until_sent = if kill == kills { count } else { sent + step };
        for batch in events[sent..until_sent].chunks(250) {
            acme.send_all(batch).await?.expect(202)?;
        }
        sent = until_sent;
        if kill < kills {
            // Somewhere in the middle of its work.
            let more = Dice::new(u64::try_from(kill)?).below(50) + 1;
            receiver.wait(seen + usize::try_from(more)?, SOON).await?;
            setting.service.kill();
            interrupted += sent - distinct().len();
            setting.service.restart().await?;
        }
    }
    let deadline = if is_long { Duration::from_secs(600) } else { Duration::from_secs(90) };
    until(deadline, "every event came", async || distinct().len() == count).await?;
    ensure!(interrupted > 0, "every kill came when all was delivered");
    let doubled = distinct();
    ensure!(doubled.values().all(|ids| ids.iter().all(|id| *id == ids[0])), "an event came under two ids");
    let ids: std::collections::BTreeSet<_> = doubled.values().map(|ids| ids[0].clone()).collect();
    ensure!(ids.len() == count, "two events came under one id");
    Ok(())
}
