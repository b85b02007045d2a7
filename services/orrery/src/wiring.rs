//! What several commands put together: the main runtime, what a service is given, health.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use futures_util::future::join_all;
use orrery_bus::{Bus, Dependencies};
use orrery_config::shared::Shared;
use orrery_objects::Objects;
use orrery_store::Pool;
use orrery_supervise::{Limits, clock::Clock, random::Random};
use orrery_web::health::Dependency;
use tokio::runtime::{Builder, Runtime};

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
pub fn limits(shared: &Shared) -> Limits {
    let internal = &shared.internal;
    Limits { grace: internal.grace, stall: internal.stall_limit, blocked: internal.blocked_limit }
}

/// Runs a command that needs no actors to its end.
pub fn block_on<T>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    main_runtime()?.block_on(command)
}

/// What a service with that pool stands on.
pub fn dependencies(bus: &Bus, pool: Pool, random: &Random) -> Dependencies {
    Dependencies { bus: bus.clone(), pool, clock: Clock::System, random: random.clone() }
}

/// PostgreSQL, without which nothing works.
pub fn postgresql(pool: Pool) -> Dependency {
    Dependency::new("postgresql", true, move || {
        let pool = pool.clone();
        async move { pool.state(Duration::from_millis(900)).await }
    })
}

/// The connections of each service: one may have none to be had while others have theirs, behind a pooler or at the limit of a role.
pub fn pools(pools: Vec<(&'static str, Pool)>) -> Dependency {
    Dependency::new("database connections", false, move || {
        let asked = pools.clone().into_iter().map(|(name, pool)| async move {
            let had = pool.has_connection(Duration::from_millis(900)).await;
            had.err().map(|error| format!("{name}: {error}"))
        });
        let asked = join_all(asked);
        async move {
            let away: Vec<_> = asked.await.into_iter().flatten().collect();
            if away.is_empty() { Ok(()) } else { Err(away.join("; ")) }
        }
    })
}

/// RabbitMQ; who only consumes can do nothing without it, who writes works into the outbox. That it takes no messages, being short of memory or
/// disk, is told and makes nobody unready: what is to be published waits. A process without one of its queues is not ready.
pub fn rabbitmq(bus: &Bus, required: bool) -> [Dependency; 3] {
    let (connected, blocked, queues) = (bus.clone(), bus.clone(), bus.clone());
    [
        Dependency::new("rabbitmq", required, move || {
            let away = connected.away();
            async move { away.map_or(Ok(()), Err) }
        }),
        Dependency::new("publishing", false, move || {
            let blocked = blocked.blocked();
            async move { blocked.map_or(Ok(()), |reason| Err(format!("the broker takes no messages: {reason}"))) }
        }),
        Dependency::new("queues", true, move || {
            let (faults, is_connected) = (queues.standing().faults(), queues.is_connected());
            async move {
                match faults {
                    Some(faults) if !faults.is_empty() => Err(faults.join("; ")),
                    // They cannot be looked at while the broker is away, which its own line tells.
                    None if is_connected => Err("the queues are being looked at".to_owned()),
                    _ => Ok(()),
                }
            }
        }),
    ]
}

/// The object store; without it only pictures wait.
pub fn storage(shared: &Arc<Shared>) -> anyhow::Result<Dependency> {
    let objects = Objects::new(&shared.storage)?;
    Ok(Dependency::new("storage", false, move || {
        let objects = objects.clone();
        async move { objects.probe().await.map_err(|error| error.to_string()) }
    }))
}
