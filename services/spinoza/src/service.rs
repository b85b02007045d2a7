//! How spinoza is put together and started.

use std::{sync::Arc, time::Duration};

use orrery_bus::{Dependencies, Handler, consumer::QueueKind, relay::Wake};
use orrery_objects::Objects;
use orrery_picture::Limits;
use orrery_picture_worker::{Launch, Pool as Workers, Settings};
use orrery_store::outbox::Outbox;
use orrery_supervise::Supervisor;
use tokio::runtime::Handle;
use tracing::error;

use crate::{
    accounts::DeletedAccounts, config::Config, definition::SPINOZA, notifications, optimizer::Optimizer,
    writes::Writes,
};

/// What spinoza is given.
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// How long events are wanted.
    pub event_lifetime: Duration,
    /// How long sent rows are kept.
    pub keep_sent: Duration,
    /// The bucket.
    pub objects: Objects,
    /// The bucket whose own notifications tell of uploads, if they do.
    pub notifying_bucket: Option<String>,
    /// The broker, its connections, time and randomness.
    pub dependencies: Dependencies,
    /// How a worker process is started.
    pub launch: Launch,
    /// Whether the bucket takes what is written, for health.
    pub writes: Writes,
    /// The runtime that the workers' pipes belong to.
    pub main: Handle,
}

/// The handler of uploaded pictures, which rings `wake` after a commit. Its workers are started at once.
pub fn handler(parts: &Parts, wake: Wake) -> Arc<dyn Handler> {
    let Dependencies { pool, clock, random, .. } = parts.dependencies.clone();
    let settings = Settings {
        workers: parts.config.concurrency,
        memory_bytes: parts.config.memory.as_u64(),
        time_limit: parts.config.decode_limit,
        limits: Limits::default(),
    };
    let workers = Workers::new(parts.launch.clone(), settings);
    let warm = workers.clone();
    parts.main.spawn(async move {
        if let Err(error) = warm.warm().await {
            error!(%error, "no picture can be worked on");
        }
    });
    let outbox = Outbox::new(SPINOZA, parts.event_lifetime, clock, random);
    Arc::new(Optimizer {
        config: parts.config.clone(),
        pool,
        objects: parts.objects.clone(),
        writes: parts.writes.clone(),
        outbox,
        wake,
        workers,
    })
}

/// The handler of deleted accounts, which rings `wake` after a commit.
pub fn deleted_accounts(parts: &Parts, wake: Wake) -> Arc<dyn Handler> {
    let Dependencies { pool, clock, random, .. } = parts.dependencies.clone();
    let outbox = Outbox::new(SPINOZA, parts.event_lifetime, clock, random);
    Arc::new(DeletedAccounts {
        config: parts.config.clone(),
        pool,
        objects: parts.objects.clone(),
        outbox,
        wake,
    })
}

/// Starts spinoza's actors under `supervisor`.
pub fn start(parts: &Parts, supervisor: &Supervisor) {
    if let Some(bucket) = &parts.notifying_bucket {
        notifications::start(bucket.clone(), parts.event_lifetime, &parts.dependencies, supervisor);
    }
    let wake = Wake::default();
    let handler = handler(parts, wake.clone());
    parts.dependencies.relay(supervisor, SPINOZA, parts.keep_sent, wake.clone());
    parts.dependencies.consume(supervisor, deleted_accounts(parts, wake), QueueKind::Main);
    parts.dependencies.consume(supervisor, handler, QueueKind::Main);
}
