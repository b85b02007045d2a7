//! Keeps the pools true: looks their names up again, and asks every replica how it is, side by side.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::future::join_all;
use orrery_supervise::{Actor, ActorError, Life, Shutdown};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{
    link::Tls,
    pool::Pool,
    probe::probe,
    resolve::{Found, Resolver},
};

/// How long a look-up may take; what was known stays meanwhile.
const LOOK_UP: Duration = Duration::from_secs(5);

/// How often names are looked at where replicas are not probed.
const UNPROBED: Duration = Duration::from_secs(1);

/// The pools that are in use now; a reload replaces them.
pub type Pools = watch::Receiver<Vec<Arc<Pool>>>;

/// Watches all pools.
#[derive(Clone)]
pub struct Watch {
    /// The pools.
    pub pools: Pools,
    /// How replicas that speak TLS are verified.
    pub tls: Option<Tls>,
}

impl Actor for Watch {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let shutdown = life.shutdown();
        life.run(self.clone().watch(shutdown));
        Ok(())
    }
}

impl Watch {
    /// Watches until shutdown; what fails is known of a replica.
    async fn watch(mut self, mut shutdown: Shutdown) -> Result<(), Infallible> {
        let resolver = Resolver::new();
        loop {
            let pools = self.pools.borrow_and_update().clone();
            let watching = join_all(pools.iter().map(|pool| watch_one(pool, &resolver, self.tls.as_ref())));
            let watching = async {
                watching.await;
                // There is none: a reload may bring some.
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = watching => {}
                changed = self.pools.changed() => if changed.is_err() { return Ok(()) },
                () = shutdown.requested() => return Ok(()),
            }
        }
    }
}

async fn watch_one(pool: &Pool, resolver: &Resolver, tls: Option<&Tls>) {
    let mut look_up_at = Some(Instant::now());
    let mut known: Vec<Found> = Vec::new();
    let every = pool.settings.probe_every;
    loop {
        let next = Instant::now() + if every.is_zero() { UNPROBED } else { every };
        if look_up_at.is_some_and(|at| at <= Instant::now()) {
            match timeout(LOOK_UP, resolver.answer(&pool.settings.urls, &known)).await {
                Ok(answer) => {
                    pool.set(answer.found.clone());
                    known = answer.found;
                    look_up_at = answer.again.map(|again| Instant::now() + again);
                }
                Err(_) => look_up_at = Some(next),
            }
        }
        let endpoints = pool.endpoints();
        let path = pool.settings.health.as_deref();
        join_all(endpoints.iter().map(|endpoint| async move {
            endpoint.probed(if every.is_zero() { Ok(()) } else { probe(endpoint, path, tls).await });
        }))
        .await;
        sleep_until(next).await;
    }
}
