//! How spinoza is put together and started.

use std::{sync::Arc, time::Duration};

use orrery_actors::{
    bus::{
        Bus,
        consumer::Consumer,
        relay::{Relay, Wake},
    },
    clock::Clock,
    objects::Objects,
    random::Random,
    store::{Pool, outbox::Outbox},
    supervise::Supervisor,
};
use orrery_schemas::services::Service;

use crate::{
    config::Config,
    notifications,
    optimizer::{Optimizer, threads},
};

/// What spinoza is given.
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// How long events are wanted.
    pub event_lifetime: Duration,
    /// How long sent rows are kept.
    pub keep_sent: Duration,
    /// Its connections.
    pub pool: Pool,
    /// The broker.
    pub bus: Bus,
    /// The bucket.
    pub objects: Objects,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// The bucket whose own notifications tell of uploads, if they do.
    pub notifying_bucket: Option<String>,
}

/// Starts spinoza's actors under `supervisor`.
pub fn start(parts: Parts, supervisor: &Supervisor) {
    let Parts { config, event_lifetime, keep_sent, pool, bus, objects, clock, random, notifying_bucket } =
        parts;
    if let Some(bucket) = notifying_bucket {
        let (bus, clock, random) = (bus.clone(), clock.clone(), random.clone());
        notifications::start(bucket, event_lifetime, bus, clock, random, supervisor);
    }
    let wake = Wake::default();
    let handler = Arc::new(Optimizer {
        threads: threads(&config),
        config,
        pool: pool.clone(),
        objects,
        outbox: Outbox::new(Service::Spinoza, event_lifetime, clock.clone(), random.clone()),
        wake: wake.clone(),
    });
    let signal = supervisor.shutdown_signal();
    supervisor.start("spinoza.relay", {
        let (bus, pool, random, signal) = (bus.clone(), pool.clone(), random.clone(), signal.clone());
        move || {
            Relay {
                bus: bus.clone(),
                pool: pool.clone(),
                producer: Service::Spinoza,
                keep: keep_sent,
                random: random.clone(),
                wake: wake.clone(),
                shutdown: signal.clone(),
            }
            .run()
        }
    });
    supervisor.start("spinoza.images", move || {
        Consumer::new(
            bus.clone(),
            pool.clone(),
            handler.clone(),
            clock.clone(),
            random.clone(),
            signal.clone(),
        )
        .run()
    });
}
