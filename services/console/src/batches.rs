//! Redriving and dropping many dead letters: in batches, each a transaction of its own, at a chosen pace.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use orrery_store::{
    Pool, StoreError,
    dead_letters::{Filter, act, read},
};
use uuid::Uuid;

/// Letters in one transaction.
const BATCH: u32 = 500;
/// Batches in a second when a rate is set, so that it is even.
const BATCHES_PER_SECOND: u32 = 10;
/// The longest that one batch may take; it is then unknown whether it was done.
const LIMIT: Duration = Duration::from_secs(60);

/// What becomes of the letters.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    /// Back through the outbox, wanted for so long.
    Redrive(Duration),
    /// Gone for good.
    Drop,
}

impl Deed {
    /// What the audit log calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redrive(_) => "dead.redrive",
            Self::Drop => "dead.drop",
        }
    }
}

/// Letters that are being dealt with.
pub struct Batches {
    pool: Pool,
    filter: Filter,
    deed: Deed,
    rate: Option<u32>,
    begun: Instant,
    after: Option<Uuid>,
    done: u64,
}

impl Batches {
    /// Deals with the letters that `filter` chooses and that were in the table at `until`, at most `rate` of them a second.
    pub fn new(pool: Pool, filter: Filter, until: DateTime<Utc>, deed: Deed, rate: Option<u32>) -> Self {
        let filter = Filter { until: Some(until), ..filter };
        Self { pool, filter, deed, rate, begun: Instant::now(), after: None, done: 0 }
    }

    /// How many have been dealt with.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Deals with the next ones, when their time has come; false when there are no more. Dropped midway, its batch may have been done.
    ///
    /// # Errors
    /// When the database is away or refuses; what was done before stays done.
    pub async fn next(&mut self) -> Result<bool, StoreError> {
        let size = match self.rate {
            Some(rate) => {
                let due = self.begun + Duration::from_secs(self.done) / rate.max(1);
                tokio::time::sleep_until(due.into()).await;
                (rate / BATCHES_PER_SECOND).clamp(1, BATCH)
            }
            None => BATCH,
        };
        let work = async {
            let mut connection = self.pool.get().await?;
            let (filter, after, limit) = (&self.filter, self.after, i64::from(size));
            match self.deed {
                Deed::Redrive(lifetime) => {
                    act::redrive(&mut connection, filter, after, limit, lifetime).await
                }
                Deed::Drop => act::remove(&mut connection, filter, after, limit).await,
            }
        };
        let ids = tokio::time::timeout(LIMIT, work).await.unwrap_or(Err(StoreError::Silent(LIMIT)))?;
        self.done += u64::try_from(ids.len()).unwrap_or_default();
        self.after = ids.last().copied().or(self.after);
        Ok(!ids.is_empty())
    }
}

/// The letters that `filter` chooses, by handler, and the time at which they were counted: what is archived later is not meant.
///
/// # Errors
/// When the database is away or refuses.
pub async fn chosen(pool: &Pool, filter: &Filter) -> Result<(Vec<(String, u64)>, DateTime<Utc>), StoreError> {
    let mut connection = pool.get().await?;
    let until = read::now(&mut connection).await?;
    let filter = Filter { until: Some(until), ..filter.clone() };
    let counts = read::counts(&mut connection, &filter).await?;
    let counts = counts
        .into_iter()
        .map(|count| (count.handler, u64::try_from(count.letters).unwrap_or_default()))
        .collect();
    Ok((counts, until))
}
