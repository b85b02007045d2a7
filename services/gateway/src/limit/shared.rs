//! Buckets in Redis, one for all replicas of the gateway (GCRA, by Redis' own clock). While Redis is away each replica counts for itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use redis::{
    Client, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{runtime::Handle, sync::OnceCell, time::timeout};
use tracing::warn;

use super::{Level, period};
use crate::{config::limits::Bucket, listen::network::Network};

/// How long Redis is left alone after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes one request: whether it may pass, how many more may, and the microseconds until the bucket is full or one may pass.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local period = tonumber(ARGV[1])
local burst = tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or now)
if full < now then full = now end
local after = full + period
local allowed_at = after - period * burst
if allowed_at > now then return {0, 0, allowed_at - now} end
redis.call('SET', KEYS[1], string.format('%.0f', after), 'PX', math.ceil((after - now) / 1000) + 1)
return {1, math.floor((period * burst - (after - now)) / period), after - now}
";

/// The buckets.
pub struct Shared {
    inner: Arc<Inner>,
    main: Handle,
}

struct Inner {
    url: SecretString,
    limit: Duration,
    script: Script,
    connection: OnceCell<ConnectionManager>,
    start: Instant,
    paused_until_ms: AtomicU64,
}

impl Shared {
    /// Buckets at this address; connected with the first request.
    pub fn new(url: SecretString, limit: Duration, main: Handle) -> Self {
        let inner = Inner {
            url,
            limit,
            script: Script::new(TAKE),
            connection: OnceCell::new(),
            start: Instant::now(),
            paused_until_ms: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner), main }
    }

    /// Takes one request; none while Redis cannot be asked.
    pub async fn take(&self, class: &'static str, bucket: Bucket, network: Network) -> Option<Level> {
        let now = || millis(self.inner.start.elapsed());
        if self.inner.paused_until_ms.load(Ordering::Relaxed) > now() {
            return None;
        }
        let inner = Arc::clone(&self.inner);
        // The connection's driver lives on the main runtime, whatever becomes of this request.
        let asked =
            self.main.spawn(async move { timeout(inner.limit, inner.ask(class, bucket, network)).await });
        let failure = match asked.await {
            Ok(Ok(Ok(level))) => return Some(level),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "it did not answer in time".to_owned(),
            Err(error) => error.to_string(),
        };
        // Counted from the failure, which may have taken longer than the pause.
        let now = now();
        if self.inner.paused_until_ms.swap(now + millis(PAUSE), Ordering::Relaxed) <= now {
            warn!(failure, "Redis cannot be asked: this replica counts callers' requests for itself");
        }
        None
    }
}

impl Inner {
    async fn ask(&self, class: &str, bucket: Bucket, network: Network) -> Result<Level, RedisError> {
        // Who is asked does not wait for Redis to come back: the next question, after the pause, tries again.
        let config = ConnectionManagerConfig::new().set_number_of_retries(0);
        let connect = || async {
            Client::open(self.url.expose_secret())?.get_connection_manager_with_config(config).await
        };
        let mut connection = self.connection.get_or_try_init(connect).await?.clone();
        let period_micros = u64::try_from(period(bucket).as_micros()).unwrap_or(u64::MAX).max(1);
        let (allowed, left, micros): (u8, u32, u64) = self
            .script
            .key(key(class, network))
            .arg(period_micros)
            .arg(bucket.burst)
            .invoke_async(&mut connection)
            .await?;
        Ok(Level { allowed: allowed == 1, left, after: Duration::from_micros(micros) })
    }
}

/// The key of a bucket, in which no address can be read.
fn key(class: &str, network: Network) -> String {
    let digest = digest(&SHA256, &[class.as_bytes(), &network.0.to_be_bytes()].concat());
    let short = digest.as_ref().get(..16).unwrap_or_default();
    format!("orrery:rate:{}", hex::encode(short))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
