//! Every metric that a flow brings about arrives with the unit and the labels that the one file of metrics says.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use orrery_observability::names::{self, Metric};
use orrery_tests::{Person, eventually, pictures};

use super::{
    LONG,
    rotel::Rotel,
    sending,
    sink::{Seen, Sink},
};

/// No listener of the flow has a certificate, and it has no third parties: their tests see their metrics.
fn is_absent(metric: &Metric) -> bool {
    *metric == names::CERTIFICATE || metric.name.starts_with("orrery.webhooks.")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_arrives_with_its_unit_and_its_labels() -> Result<()> {
    let sink = Sink::start().await?;
    let rotel = Rotel::start(&sink).await?;
    let world = sending(&rotel.grpc_url(), "grpc").start().await?;
    let _service = world.spawn(&[]).await?;
    let person = Person::new();
    let client = world.client()?.signed_up(&person).await?;
    client.logged_in(&person).await?;
    client.put_avatar(pictures::gradient_png(64, 64)?, "image/png").await?.expect(202)?;
    client.user(&person.id).await?.expect(200)?;
    world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&person.email)), LONG).await?;
    let ours = |seen: &BTreeMap<String, Seen>| {
        let expected = names::ALL.iter().filter(|metric| !is_absent(metric));
        expected
            .filter(|metric| !seen.contains_key(metric.name))
            .map(|metric| metric.name)
            .collect::<Vec<_>>()
    };
    let mut missing = Vec::new();
    let all = eventually(LONG, "every metric", async || {
        missing = ours(&sink.metrics());
        missing.is_empty().then_some(())
    });
    let all = all.await;
    ensure!(all.is_ok(), "these did not come: {missing:?}");
    for (name, seen) in sink.metrics() {
        let Some(metric) = names::ALL.iter().find(|metric| metric.name == name) else {
            anyhow::bail!("{name} is not in the list");
        };
        ensure!(seen.unit == metric.unit, "{name} came in '{}'", seen.unit);
        let unknown: Vec<_> = seen
            .labels
            .iter()
            .filter(|label| metric.labels.iter().all(|known| known.name != **label))
            .collect();
        ensure!(unknown.is_empty(), "{name} has {unknown:?}");
    }
    Ok(())
}
