//! How spinoza is put together and started.

use std::{sync::Arc, time::Duration};

use orrery_actors::{
    bus::{Footing, Handler, consumer::Source, relay::Wake},
    objects::Objects,
    store::outbox::Outbox,
    supervise::Supervisor,
};
use orrery_schemas::services::Service;

use crate::{config::Config, notifications, optimizer::Optimizer};

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
    pub footing: Footing,
}

/// The handler of uploaded pictures, whose threads are among the children of `supervisor`; it rings `wake` after a commit.
pub fn handler(parts: &Parts, supervisor: &Supervisor, wake: Wake) -> Arc<dyn Handler> {
    let Footing { pool, clock, random, .. } = parts.footing.clone();
    let threads = supervisor.threads("spinoza.decoders");
    let outbox = Outbox::new(Service::Spinoza, parts.event_lifetime, clock, random);
    Arc::new(Optimizer::new(parts.config.clone(), pool, parts.objects.clone(), outbox, wake, threads))
}

/// Starts spinoza's actors under `supervisor`.
pub fn start(parts: &Parts, supervisor: &Supervisor) {
    if let Some(bucket) = &parts.notifying_bucket {
        notifications::start(bucket.clone(), parts.event_lifetime, &parts.footing, supervisor);
    }
    let wake = Wake::default();
    let handler = handler(parts, supervisor, wake.clone());
    parts.footing.relay(supervisor, Service::Spinoza, parts.keep_sent, wake);
    parts.footing.consume(supervisor, handler, Source::Main);
}
