//! One replica: where it is, how much it has at work, and whether it is worth asking. Which one is asked lives in `pool`.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::pki_types::ServerName;

/// The first pause of a replica that failed; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// So many answers in a row that were broken, late or faults of the replica's make an outlier.
const FAILURES: u32 = 5;

/// One replica.
#[derive(Debug)]
pub struct Endpoint {
    /// Its number in this process, by which connections are kept.
    pub id: u64,
    /// Where it takes connections.
    pub address: SocketAddr,
    /// Its `Host`.
    pub authority: String,
    /// The name on its certificate, if it speaks TLS.
    pub tls: Option<ServerName<'static>>,
    outstanding: AtomicUsize,
    /// Upgraded connections, such as WebSockets, which are no requests at work.
    tunnels: AtomicUsize,
    healthy: AtomicBool,
    /// Why it is not ready.
    away: Mutex<Option<String>>,
    failures: AtomicU32,
    ejections: AtomicU32,
    ejected_until_ms: AtomicU64,
    start: Instant,
}

/// A request that a replica has at work.
#[derive(Debug)]
pub struct Outstanding(Arc<Endpoint>);

impl Endpoint {
    /// A replica of which nothing is known: it may be asked.
    pub fn new(id: u64, address: SocketAddr, authority: String, tls: Option<ServerName<'static>>) -> Self {
        Self {
            id,
            address,
            authority,
            tls,
            outstanding: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            away: Mutex::new(Some("it was not asked yet".to_owned())),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until_ms: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    /// The host by which the worker's client keeps connections to it; nobody resolves it.
    pub fn host(&self) -> String {
        format!("replica-{}", self.id)
    }

    /// Requests at work.
    pub fn outstanding(&self) -> usize {
        self.outstanding.load(Ordering::Relaxed)
    }

    /// How many upgraded connections it has.
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Ordering::Relaxed)
    }

    /// Takes one more to work.
    pub fn begin(self: &Arc<Self>) -> Outstanding {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Outstanding(Arc::clone(self))
    }

    /// Whether it is worth asking.
    pub fn usable(&self) -> bool {
        self.healthy.load(Ordering::Relaxed) && self.ejected_until_ms.load(Ordering::Relaxed) <= self.now_ms()
    }

    /// Why it is not ready, as it was last asked; none when it is.
    pub fn away(&self) -> Option<String> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a probe found. A replica that is back is asked again at once.
    pub fn probed(&self, found: Result<(), String>) {
        let before = self.healthy.swap(found.is_ok(), Ordering::Relaxed);
        let is_back = found.is_ok() && !before;
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = found.err();
        if is_back {
            self.ejected_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// It answered.
    pub fn succeeded(&self) {
        self.failures.store(0, Ordering::Relaxed);
        if self.ejected_until_ms.load(Ordering::Relaxed) <= self.now_ms() {
            self.ejections.store(0, Ordering::Relaxed);
        }
    }

    /// It answered wrongly, or not in time. Several in a row set it aside.
    pub fn failed(&self) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
            self.eject();
        }
    }

    /// It took no connection: it is set aside at once, each time for longer.
    pub fn eject(&self) {
        let now = self.now_ms();
        // Several requests that fail at once are one failure.
        if self.ejected_until_ms.load(Ordering::Relaxed) > now {
            return;
        }
        let times = self.ejections.fetch_add(1, Ordering::Relaxed).min(6);
        let pause = (FIRST_PAUSE * 2_u32.pow(times)).min(LONGEST_PAUSE);
        self.failures.store(0, Ordering::Relaxed);
        self.ejected_until_ms.store(now + millis(pause), Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        millis(self.start.elapsed()) + 1
    }
}

impl Outstanding {
    /// The replica that has it.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An upgraded connection at a replica, until it is dropped.
pub struct Tunnel(Arc<Endpoint>);

impl Outstanding {
    /// The request was answered with an upgrade: it is at work no more, and its connection stays.
    pub fn upgraded(self) -> Tunnel {
        self.0.tunnels.fetch_add(1, Ordering::Relaxed);
        Tunnel(Arc::clone(&self.0))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Arc<Endpoint> {
        Arc::new(Endpoint::new(1, ([127, 0, 0, 1], 1).into(), "a:1".to_owned(), None))
    }

    #[test]
    fn one_that_takes_no_connection_is_set_aside_for_longer_each_time() {
        let endpoint = endpoint();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            endpoint.eject();
            let until = endpoint.ejected_until_ms.swap(0, Ordering::Relaxed);
            pauses.push((until - endpoint.now_ms() + 500) / 1000);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn five_wrong_answers_in_a_row_set_one_aside_and_a_right_one_between_does_not() {
        let endpoint = endpoint();
        for _ in 0..4 {
            endpoint.failed();
        }
        endpoint.succeeded();
        for _ in 0..4 {
            endpoint.failed();
            assert!(endpoint.usable());
        }
        endpoint.failed();
        assert!(!endpoint.usable());
    }

    #[test]
    fn a_probe_takes_one_out_and_brings_it_back() {
        let endpoint = endpoint();
        assert!(endpoint.usable() && endpoint.away().is_some());
        endpoint.probed(Err("status 503".to_owned()));
        endpoint.eject();
        assert!(!endpoint.usable());
        endpoint.probed(Ok(()));
        assert!(endpoint.usable() && endpoint.away().is_none());
    }
}
