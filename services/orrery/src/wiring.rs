//! What several commands put together: the main runtime, the handlers of the enabled services, health.

use std::time::Duration;

use anyhow::Context;
use orrery_actors::{
    bus::{Bus, HandlerSpec, bridge::BridgeSpec},
    objects::Objects,
    store::Pool,
    supervise::Limits,
    web::health::Dependency,
};
use orrery_schemas::services::Service;
use tokio::runtime::{Builder, Runtime};

use crate::config::Config;

/// The runtime that owns every client. Leaked: it lives as long as the process, and its handles need no owner.
pub fn main_runtime() -> anyhow::Result<&'static Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(32)
        .thread_name("main")
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    Ok(Box::leak(Box::new(runtime)))
}

/// How long actors may take.
pub fn limits(config: &Config) -> Limits {
    let internal = &config.internal;
    Limits { grace: internal.grace, stall: internal.stall_limit, blocked: internal.blocked_limit }
}

/// Runs a command that needs no actors to its end.
pub fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    main_runtime()?.block_on(command)
}

/// The handlers of a service.
pub fn handlers(config: &Config, service: Service) -> Vec<HandlerSpec> {
    match service {
        Service::Gateway => Vec::new(),
        Service::Autha => vec![orrery_autha::pictures_spec(config.autha.retry_delay)],
        Service::Spinoza => vec![orrery_spinoza::spec(&config.spinoza)],
        Service::Maily => vec![orrery_maily::spec(&config.maily)],
    }
}

/// The bridges that are turned on, here or in another process: their queues are made before anything reads them.
pub fn bridges(config: &Config) -> Vec<BridgeSpec> {
    let legacy = config.maily.legacy_queue.then(orrery_maily::legacy::bridge);
    let notifications = config.storage.notifying_bucket().map(|_| orrery_spinoza::notifications::bridge());
    legacy.into_iter().chain(notifications).collect()
}

/// PostgreSQL, without which nothing works.
pub fn postgresql(pool: Pool) -> Dependency {
    Dependency::new("postgresql", true, move || {
        let pool = pool.clone();
        async move { pool.is_up(Duration::from_millis(900)).await }
    })
}

/// RabbitMQ; who only consumes can do nothing without it, who writes works into the outbox.
pub fn rabbitmq(bus: Bus, required: bool) -> Dependency {
    Dependency::new("rabbitmq", required, move || {
        let up = bus.is_connected();
        async move { up }
    })
}

/// The object store; without it only pictures wait.
pub fn storage(objects: Objects) -> Dependency {
    Dependency::new("storage", false, move || {
        let objects = objects.clone();
        async move { objects.probe().await.is_ok() }
    })
}

#[cfg(test)]
mod tests {
    use orrery_actors::config::partner::is_reserved;

    use super::*;

    #[test]
    fn a_handler_hears_our_own_events_or_foreign_ones_and_never_both() {
        let config = Config::default();
        for spec in Service::ALL.iter().flat_map(|service| handlers(&config, *service)) {
            let ours = spec.bindings.iter().filter(|ty| is_reserved(ty)).count();
            assert!(ours == 0 || ours == spec.bindings.len(), "{} hears both", spec.name);
        }
    }
}
