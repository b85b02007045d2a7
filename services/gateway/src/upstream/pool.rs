//! The replicas of one service or application, shared by the workers: the one with the least at work is asked. Where they are lives in
//! `resolve`, whether they are healthy in `probe`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use url::Url;

use super::{
    budget::Budget,
    endpoint::{Endpoint, Outstanding},
};

/// What a pool is told of its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// Its name, for health and logs.
    pub name: String,
    /// Where its replicas are; each name may stand for several.
    pub urls: Vec<Url>,
    /// The path by which a replica tells that it is ready; none: it is when it takes a connection.
    pub health: Option<String>,
    /// Requests that one replica has at work at most.
    pub outstanding: usize,
    /// How often replicas are asked whether they are ready; zero for never.
    pub probe_every: Duration,
}

/// The replicas.
#[derive(Debug)]
pub struct Pool {
    /// What it was told.
    pub settings: PoolSettings,
    /// Retries.
    pub budget: Budget,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    turn: AtomicUsize,
}

/// Why no replica is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// There is none left that was not tried.
    None,
    /// Each has as much at work as it may.
    Full,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Pool {
    /// A pool whose replicas are not known yet.
    pub fn new(settings: PoolSettings) -> Self {
        Self { settings, budget: Budget::default(), endpoints: ArcSwap::default(), turn: AtomicUsize::new(0) }
    }

    /// The replicas as they are known.
    pub fn endpoints(&self) -> Arc<Vec<Arc<Endpoint>>> {
        self.endpoints.load_full()
    }

    /// Takes what the names stand for now: replicas that stay keep what is known of them.
    pub fn set(&self, found: Vec<super::resolve::Found>) {
        let before = self.endpoints.load();
        let endpoints = found
            .into_iter()
            .map(|found| {
                let known = before.iter().find(|known| {
                    known.address == found.address
                        && known.authority == found.authority
                        && known.tls == found.tls
                });
                known.cloned().unwrap_or_else(|| {
                    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
                    Arc::new(Endpoint::new(id, found.address, found.authority, found.tls))
                })
            })
            .collect();
        self.endpoints.store(Arc::new(endpoints));
    }

    /// The replica to ask: the one with the least at work of those that are worth it, and of all when none is. `tried` are left out.
    ///
    /// # Errors
    /// When there is none.
    pub fn pick(&self, tried: &[u64]) -> Result<Outstanding, Unavailable> {
        self.pick_by(tried, |endpoint| (endpoint.outstanding(), 0))
    }

    /// The replica to open an upgraded connection at: the one with the fewest of them. They are not counted among requests at work.
    ///
    /// # Errors
    /// As `pick`.
    pub fn pick_for_upgrade(&self, tried: &[u64]) -> Result<Outstanding, Unavailable> {
        self.pick_by(tried, |endpoint| (endpoint.tunnels(), endpoint.outstanding()))
    }

    fn pick_by(
        &self,
        tried: &[u64],
        load: impl Fn(&Endpoint) -> (usize, usize),
    ) -> Result<Outstanding, Unavailable> {
        let endpoints = self.endpoints.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = endpoints.len();
        let left = || {
            (0..count)
                .filter_map(|place| endpoints.get((place + turn) % count))
                .filter(|endpoint| !tried.contains(&endpoint.id))
        };
        let least = |endpoints: &mut dyn Iterator<Item = &Arc<Endpoint>>| {
            endpoints.min_by_key(|endpoint| load(endpoint)).cloned()
        };
        let chosen = least(&mut left().filter(|endpoint| endpoint.usable())).or_else(|| least(&mut left()));
        match chosen {
            None => Err(Unavailable::None),
            Some(chosen) if chosen.outstanding() >= self.settings.outstanding => Err(Unavailable::Full),
            Some(chosen) => Ok(chosen.begin()),
        }
    }

    /// Why no replica is ready, each in its own words; none when one at least is.
    pub fn away(&self) -> Option<String> {
        let endpoints = self.endpoints.load();
        if endpoints.is_empty() {
            return Some("its name leads to no address".to_owned());
        }
        let each =
            endpoints.iter().map(|endpoint| Some(format!("{}: {}", endpoint.authority, endpoint.away()?)));
        each.collect::<Option<Vec<_>>>().map(|all| all.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::resolve::Found, *};

    fn pool(count: u16) -> Pool {
        let pool = Pool::new(PoolSettings {
            name: "autha".to_owned(),
            urls: Vec::new(),
            health: None,
            outstanding: 2,
            probe_every: Duration::ZERO,
        });
        pool.set(found(1..=count));
        pool
    }

    fn found(ports: impl Iterator<Item = u16>) -> Vec<Found> {
        ports
            .map(|port| Found {
                address: ([127, 0, 0, 1], port).into(),
                authority: format!("a:{port}"),
                tls: None,
            })
            .collect()
    }

    fn port(outstanding: &Outstanding) -> u16 {
        outstanding.endpoint().address.port()
    }

    #[test]
    fn the_one_with_the_least_at_work_is_asked() {
        let pool = pool(3);
        let held: Vec<_> = (0..3).map(|_| pool.pick(&[]).unwrap()).collect();
        let mut ports: Vec<_> = held.iter().map(port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [1, 2, 3]);
        let mut held = held;
        let free = port(&held.remove(1));
        assert_eq!(port(&pool.pick(&[]).unwrap()), free);
    }

    #[test]
    fn one_that_was_set_aside_is_asked_only_when_all_are() {
        let pool = pool(2);
        let endpoints = pool.endpoints();
        endpoints[0].eject();
        for _ in 0..4 {
            assert_eq!(port(&pool.pick(&[]).unwrap()), 2);
        }
        assert_eq!(port(&pool.pick(&[endpoints[1].id]).unwrap()), 1);
        assert_eq!(pool.pick(&[endpoints[0].id, endpoints[1].id]).unwrap_err(), Unavailable::None);
    }

    #[test]
    fn replicas_with_as_much_at_work_as_they_may_are_full() {
        let pool = pool(2);
        let held: Vec<_> = (0..4).map(|_| pool.pick(&[]).unwrap()).collect();
        assert_eq!(pool.pick(&[]).unwrap_err(), Unavailable::Full);
        drop(held);
        assert!(pool.pick(&[]).is_ok());
    }

    #[test]
    fn upgraded_connections_are_spread_and_are_no_requests_at_work() {
        let pool = pool(2);
        let opened: Vec<_> = (0..6).map(|_| pool.pick_for_upgrade(&[]).unwrap().upgraded()).collect();
        assert_eq!(pool.endpoints().iter().map(|endpoint| endpoint.tunnels()).collect::<Vec<_>>(), [3, 3]);
        assert!(pool.pick(&[]).is_ok());
        drop(opened);
        assert!(pool.endpoints().iter().all(|endpoint| endpoint.tunnels() == 0));
    }

    #[test]
    fn what_is_known_of_a_replica_outlives_a_look_up() {
        let pool = pool(2);
        pool.endpoints()[1].eject();
        pool.set(found(2..=3));
        assert_eq!(
            pool.endpoints().iter().map(|endpoint| endpoint.usable()).collect::<Vec<_>>(),
            [false, true]
        );
    }

    #[test]
    fn no_replica_is_no_answer() {
        assert_eq!(pool(0).pick(&[]).unwrap_err(), Unavailable::None);
    }
}
