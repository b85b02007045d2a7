//! Counts in Redis, by Redis' own clock. While it cannot be asked PostgreSQL counts instead.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::{
    Client, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use secrecy::{ExposeSecret, SecretString};
use tokio::{runtime::Handle, sync::OnceCell, time::timeout};
use tracing::warn;

use super::Budget;

/// How long Redis is left alone after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Counts one hit: the milliseconds to wait. A hash holds the hits of the window and until when the key is blocked.
const COUNT: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local limit, grows = tonumber(ARGV[1]), ARGV[2] == '1'
local window, longest = tonumber(ARGV[3]), tonumber(ARGV[4])
local hits = redis.call('HINCRBY', KEYS[1], 'hits', 1)
local left = redis.call('PTTL', KEYS[1])
if hits == 1 or left < 0 or grows then
  redis.call('PEXPIRE', KEYS[1], window)
  left = window
end
if hits < limit then return 0 end
local wait = left
if grows then wait = math.min(1000 * 2 ^ math.min(hits - limit, 20), longest) end
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + wait))
if grows and wait > left then redis.call('PEXPIRE', KEYS[1], math.ceil(wait)) end
if hits == limit then return 0 end
return math.ceil(wait)
";

/// The milliseconds that keys have to wait, the longest of them. Nothing is counted.
const WAIT: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local longest = 0
for _, key in ipairs(KEYS) do
  local till = tonumber(redis.call('HGET', key, 'until') or 0)
  longest = math.max(longest, till - now)
end
return math.ceil(longest)
";

/// Counts in Redis.
#[derive(Clone)]
pub struct RedisCounts {
    inner: Arc<Inner>,
    main: Handle,
}

struct Inner {
    url: SecretString,
    limit: Duration,
    count: Script,
    wait: Script,
    connection: OnceCell<ConnectionManager>,
    start: Instant,
    paused_until_ms: AtomicU64,
}

impl RedisCounts {
    /// Counts at this address; connected when first asked.
    pub fn new(url: SecretString, limit: Duration, main: Handle) -> Self {
        let inner = Inner {
            url,
            limit,
            count: Script::new(COUNT),
            wait: Script::new(WAIT),
            connection: OnceCell::new(),
            start: Instant::now(),
            paused_until_ms: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner), main }
    }

    /// How long the budgets have to be waited for; the outer none while Redis cannot be asked.
    pub async fn wait(&self, budgets: Vec<Budget>) -> Option<Option<Duration>> {
        self.ask(|inner| async move { inner.wait(&budgets).await }).await.map(duration)
    }

    /// Counts one hit for each budget; the outer none while Redis cannot be asked.
    pub async fn count(
        &self,
        budgets: Vec<Budget>,
        window: Duration,
        longest: Duration,
    ) -> Option<Option<Duration>> {
        self.ask(move |inner| async move { inner.count(&budgets, window, longest).await }).await.map(duration)
    }

    /// Forgets counts.
    pub async fn forget(&self, keys: Vec<Vec<u8>>) -> Option<()> {
        self.ask(|inner| async move { inner.forget(&keys).await }).await.map(drop)
    }

    async fn ask<F, Fut>(&self, question: F) -> Option<u64>
    where
        F: FnOnce(Arc<Inner>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<u64, RedisError>> + Send,
    {
        let now = || millis(self.inner.start.elapsed());
        if self.inner.paused_until_ms.load(Ordering::Relaxed) > now() {
            return None;
        }
        let inner = Arc::clone(&self.inner);
        // The connection's driver lives on the main runtime, whatever becomes of this request.
        let asked = self.main.spawn(async move { timeout(inner.limit, question(Arc::clone(&inner))).await });
        let failure = match asked.await {
            Ok(Ok(Ok(answer))) => return Some(answer),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "it did not answer in time".to_owned(),
            Err(error) => error.to_string(),
        };
        // Counted from the failure, which may have taken longer than the pause.
        let now = now();
        if self.inner.paused_until_ms.swap(now + millis(PAUSE), Ordering::Relaxed) <= now {
            warn!(failure, "Redis cannot be asked: attempts are counted in PostgreSQL");
        }
        None
    }
}

impl Inner {
    async fn connection(&self) -> Result<ConnectionManager, RedisError> {
        // Who is asked does not wait for Redis to come back: the next question, after the pause, tries again.
        let config = ConnectionManagerConfig::new().set_number_of_retries(0);
        let connect = || async {
            Client::open(self.url.expose_secret())?.get_connection_manager_with_config(config).await
        };
        Ok(self.connection.get_or_try_init(connect).await?.clone())
    }

    async fn wait(&self, budgets: &[Budget]) -> Result<u64, RedisError> {
        let mut connection = self.connection().await?;
        let mut longest = 0;
        for budget in budgets {
            let wait: i64 = self.wait.key(key(&budget.key)).invoke_async(&mut connection).await?;
            longest = longest.max(u64::try_from(wait).unwrap_or(0));
        }
        Ok(longest)
    }

    async fn count(
        &self,
        budgets: &[Budget],
        window: Duration,
        longest: Duration,
    ) -> Result<u64, RedisError> {
        let mut connection = self.connection().await?;
        let mut most = 0;
        for budget in budgets {
            let wait: i64 = self
                .count
                .key(key(&budget.key))
                .arg(budget.limit)
                .arg(u8::from(budget.is_growing))
                .arg(millis(window))
                .arg(millis(longest))
                .invoke_async(&mut connection)
                .await?;
            most = most.max(u64::try_from(wait).unwrap_or(0));
        }
        Ok(most)
    }

    async fn forget(&self, keys: &[Vec<u8>]) -> Result<u64, RedisError> {
        let mut connection = self.connection().await?;
        let mut command = redis::cmd("DEL");
        for name in keys {
            command.arg(key(name));
        }
        command.query_async(&mut connection).await
    }
}

fn key(digest: &[u8]) -> String {
    format!("orrery:autha:throttle:{}", hex::encode(digest.get(..16).unwrap_or(digest)))
}

fn duration(millis: u64) -> Option<Duration> {
    (millis > 0).then(|| Duration::from_millis(millis))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
