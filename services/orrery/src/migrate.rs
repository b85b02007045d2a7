//! `orrery migrate`: schemas and roles, the broker's topology for every enabled service, the bucket.

use std::process::ExitCode;

use anyhow::Context;
use orrery_actors::{
    bus::{Bus, bridge, topology},
    objects::Objects,
    store::{Pool, migrations, outbox},
};
use orrery_schemas::services::Service;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::{config::Config, wiring};

/// Brings everything up to this version.
pub async fn migrate(config: Config) -> anyhow::Result<ExitCode> {
    let run = migrations::migrate(&config.database).await.context("PostgreSQL")?;
    info!(migrations = run.len(), "PostgreSQL has this version's schema");

    let routing_keys = declare(&config).await.context("RabbitMQ")?;
    let pool = Pool::admin(&config.database, 1, Handle::current())?;
    let mut connection = pool.get().await?;
    let replayed = outbox::replay_unrouted(&mut connection, &routing_keys).await?;
    info!(replayed, "RabbitMQ has the queues of every enabled service");

    if config.enables(Service::Autha) || config.enables(Service::Spinoza) {
        Objects::new(&config.storage)?.create_bucket().await.context("S3")?;
        info!("S3 has the bucket");
    }
    Ok(ExitCode::SUCCESS)
}

/// Declares the topology; returns every routing key that a queue is now bound for.
async fn declare(config: &Config) -> anyhow::Result<Vec<String>> {
    let bus = Bus::new(config.broker.clone());
    let connection = bus.connect("migrate").await?;
    let channel = connection.create_channel().await?;
    topology::declare_exchanges(&channel).await?;
    let specs: Vec<_> =
        config.services.0.iter().flat_map(|service| wiring::handlers(config, *service)).collect();
    let default_limit = match specs.first() {
        Some(spec) => topology::has_default_limit(&bus, spec.name).await?,
        None => false,
    };
    let mut routing_keys = Vec::new();
    for spec in &specs {
        topology::declare_handler(&channel, spec, default_limit)
            .await
            .with_context(|| format!("the queues of {}", spec.name))?;
        routing_keys.push(spec.name.to_owned());
        routing_keys.extend(spec.bindings.iter().map(ToString::to_string));
    }
    for spec in wiring::bridges(config) {
        let declared = bridge::declare(&bus, &spec, default_limit).await;
        if !declared.with_context(|| format!("the queue {}", spec.queue))? {
            warn!(
                queue = spec.queue,
                "stands with arguments of its own, which is no harm: it is read as it is"
            );
        }
    }
    connection.close(200, "".into()).await?;
    Ok(routing_keys)
}
