//! Which upstream is asked next: round robin over those that took connections lately. How one is asked lives in `proxy`.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use url::Url;

/// How long an upstream that refused a connection is passed over, when there is another.
const ASIDE: Duration = Duration::from_secs(1);

/// One replica of a service.
#[derive(Debug)]
pub struct Upstream {
    /// `http://host:port`, with no slash at its end.
    base: String,
    /// Milliseconds after the balancer's start until which it is passed over.
    aside_until_ms: AtomicU64,
}

/// The replicas of one service, shared by the workers.
#[derive(Debug)]
pub struct Balancer {
    upstreams: Vec<Upstream>,
    next: AtomicUsize,
    start: Instant,
}

impl Upstream {
    /// The URL of a path and query at this replica.
    pub fn url(&self, path: &str, query: Option<&str>) -> String {
        query.map_or_else(|| format!("{}{path}", self.base), |query| format!("{}{path}?{query}", self.base))
    }
}

impl Balancer {
    /// Balances over these.
    pub fn new(urls: &[Url]) -> Self {
        let upstreams = urls
            .iter()
            .map(|url| Upstream {
                base: url.as_str().trim_end_matches('/').to_owned(),
                aside_until_ms: AtomicU64::new(0),
            })
            .collect();
        Self { upstreams, next: AtomicUsize::new(0), start: Instant::now() }
    }

    /// Every upstream once, in the order in which to try them: the next one first, those set aside last.
    pub fn order(&self) -> Vec<&Upstream> {
        self.order_at(self.now_ms(Duration::ZERO))
    }

    fn order_at(&self, now_ms: u64) -> Vec<&Upstream> {
        let first = self.next.fetch_add(1, Ordering::Relaxed) % self.upstreams.len().max(1);
        let mut order: Vec<_> =
            self.upstreams.iter().cycle().skip(first).take(self.upstreams.len()).collect();
        order.sort_by_key(|upstream| upstream.aside_until_ms.load(Ordering::Relaxed) > now_ms);
        order
    }

    /// Passes this one over for a second.
    pub fn set_aside(&self, upstream: &Upstream) {
        upstream.aside_until_ms.store(self.now_ms(ASIDE), Ordering::Relaxed);
    }

    fn now_ms(&self, ahead: Duration) -> u64 {
        u64::try_from((self.start.elapsed() + ahead).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balancer(count: u16) -> Balancer {
        let urls: Vec<_> = (1..=count).map(|port| Url::parse(&format!("http://a:{port}")).unwrap()).collect();
        Balancer::new(&urls)
    }

    fn ports(order: &[&Upstream]) -> String {
        order.iter().filter_map(|upstream| upstream.base.chars().last()).collect()
    }

    #[test]
    fn upstreams_take_turns() {
        let balancer = balancer(3);
        let turns: Vec<_> = (0..4).map(|_| ports(&balancer.order())).collect();
        assert_eq!(turns, ["123", "231", "312", "123"]);
    }

    #[test]
    fn one_that_refused_is_last_for_a_second() {
        let balancer = balancer(2);
        balancer.set_aside(&balancer.upstreams[0]);
        assert_eq!(ports(&balancer.order()), "21");
        assert_eq!(ports(&balancer.order()), "21");
        let later = balancer.now_ms(ASIDE) + 1;
        assert_eq!(ports(&balancer.order_at(later)), "12");
    }

    #[test]
    fn no_upstream_is_an_empty_order() {
        assert!(balancer(0).order().is_empty());
    }

    #[test]
    fn urls_keep_the_query_as_it_came() {
        let balancer = balancer(1);
        assert_eq!(balancer.upstreams[0].url("/x", Some("a=%2F")), "http://a:1/x?a=%2F");
        assert_eq!(balancer.upstreams[0].url("/x", None), "http://a:1/x");
    }
}
