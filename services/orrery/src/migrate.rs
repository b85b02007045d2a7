//! `orrery migrate`: schemas and roles, the broker's users and topology for every enabled service, the bucket.

use std::process::ExitCode;

use anyhow::Context;
use orrery_objects::Objects;
use orrery_store::{Pool, migrations, outbox};
use tokio::runtime::Handle;
use tracing::{error, info};

use crate::{broker, config::Config, keys};

/// Brings everything up to this version.
pub async fn migrate(config: Config) -> anyhow::Result<ExitCode> {
    let run = migrations::migrate(&config.shared.database).await.context("PostgreSQL")?;
    info!(migrations = run.len(), "PostgreSQL has this version's schema");
    keys::hold(&config).await?;

    let declared = broker::migrate(&config).await.context("RabbitMQ")?;
    let pool = Pool::admin(&config.shared.database, 1, Handle::current())?;
    let mut connection = pool.get().await?;
    outbox::know_handlers(&mut connection, &config.known_handlers()).await?;
    outbox::want(&mut connection, &config.wanted()).await?;
    let replayed = outbox::replay_unrouted(&mut connection, &declared.routing_keys).await?;
    info!(replayed, "RabbitMQ has the queues of every enabled service");

    if config.needs(|needs| needs.storage) {
        Objects::new(&config.shared.storage)?.create_bucket().await.context("S3")?;
        info!("S3 has the bucket");
    }
    // Told last, where it is seen: everything that could be done is.
    for difference in &declared.differences {
        error!("{difference}");
    }
    Ok(if declared.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
