//! A dead endpoint beside a hundred healthy ones: theirs do not wait for it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;

use crate::{
    receiver::{Behaviour, Receiver},
    setting::{SOON, Setting, builder, event},
};

/// The 99th percentile of the time from the request to each of the deliveries.
async fn p99(acme: &crate::setting::Party, receivers: &[Receiver], round: &str) -> Result<Duration> {
    let mut times = Vec::new();
    for number in 0..5 {
        let before: Vec<usize> = receivers.iter().map(|receiver| receiver.deliveries().len()).collect();
        let begun = Instant::now();
        acme.send(&event(&format!("{round}-{number}"))).await?.expect(202)?;
        let waits = receivers.iter().zip(&before).map(|(receiver, before)| receiver.wait(before + 1, SOON));
        for (deliveries, before) in try_join_all(waits).await?.iter().zip(before) {
            times.push(deliveries[before].at - begun);
        }
    }
    times.sort();
    Ok(times[times.len() * 99 / 100])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_slows_none_of_a_hundred_others() -> Result<()> {
    let builder = builder()
        .env("ORRERY_PARTNERS__DELIVERY__TIMEOUT", "10s")
        .env("ORRERY_PARTNERS__MAX_ENDPOINTS", "200");
    let setting = Setting::of(builder, &["partners"]).await?;
    let acme = crate::setting::Party::acme(&setting).await?;
    let mut receivers = Vec::new();
    for _ in 0..100 {
        let receiver = Receiver::start().await?;
        acme.endpoint(&receiver, json!({})).await?;
        receivers.push(receiver);
    }
    let alone = p99(&acme, &receivers, "alone").await?;
    let mut dead = Vec::new();
    for behaviour in [Behaviour::Hang, Behaviour::Drip, Behaviour::status(500)] {
        let receiver = Receiver::start().await?;
        acme.endpoint(&receiver, json!({"concurrency": 64})).await?;
        receiver.behave(behaviour);
        dead.push(receiver);
    }
    let beside = p99(&acme, &receivers, "beside").await?;
    // Another tenth of the machine's noise is no waiting: a try at the dead one takes ten seconds.
    ensure!(
        beside < alone * 3 + Duration::from_secs(2),
        "p99 was {alone:?}, and is {beside:?} beside dead ones"
    );
    for receiver in &dead {
        receiver.wait(1, SOON).await?;
    }
    Ok(())
}
