//! The tail of the log: one reader in each process gives positions to what was committed, and keeps the newest events in memory for all who follow the log. Who
//! is further behind reads PostgreSQL by itself.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use orrery_store::{Pool, StoreError};
use orrery_supervise::{Actor, ActorError, Life, Shutdown};
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tracing::warn;
use uuid::Uuid;

use crate::{publish::request::attributes, records::log};

/// How often the log is looked at when nobody rings.
const POLL: Duration = Duration::from_millis(200);
/// Pauses while the database is away.
const AWAY: Duration = Duration::from_secs(1);
/// Events that are placed, and read, at once.
const BATCH: i32 = 1_000;
const READ: i64 = 500;
/// What is kept in memory.
const KEPT: usize = 8_192;
const KEPT_BYTES: usize = 16 * 1024 * 1024;

/// Tells that a transaction with events was committed. Many rings at once count as one.
#[derive(Clone, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Rings.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for the next ring.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// An event of the log, read once for all.
#[derive(Debug)]
pub struct Entry {
    /// Its place.
    pub position: i64,
    /// Under which it is delivered.
    pub key: Uuid,
    /// Its type.
    pub ty: String,
    /// Its attributes, as filters see them.
    pub attributes: Map<String, Value>,
    /// In the JSON format.
    pub event: Bytes,
    /// When it was written, by the database's clock.
    pub logged_at: DateTime<Utc>,
}

impl Entry {
    fn of(mut logged: log::Logged) -> Self {
        let attributes = attributes(&logged.event);
        Self {
            position: logged.position,
            key: logged.key,
            attributes,
            logged_at: logged.logged_at,
            event: logged.take_bytes(),
            ty: logged.ty,
        }
    }

    /// Its subject.
    pub fn subject(&self) -> Option<&str> {
        self.attributes.get("subject").and_then(Value::as_str)
    }
}

#[derive(Default)]
struct Ring {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

/// What is followed.
pub struct Tail {
    pool: Pool,
    ring: RwLock<Ring>,
    head: watch::Sender<i64>,
}

impl Tail {
    /// Nothing yet.
    pub fn new(pool: Pool) -> Arc<Self> {
        Arc::new(Self { pool, ring: RwLock::default(), head: watch::Sender::new(0) })
    }

    /// Hears of the last position that can be read.
    pub fn subscribe(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// At most `limit` events after a position, from memory or from PostgreSQL.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn after(&self, position: i64, limit: usize) -> Result<Vec<Arc<Entry>>, StoreError> {
        if position >= *self.head.borrow() {
            return Ok(Vec::new());
        }
        if let Some(entries) = self.remembered(position, limit) {
            return Ok(entries);
        }
        let rows = self
            .pool
            .run(move |mut connection| async move {
                log::after(&mut connection, position, i64::try_from(limit).unwrap_or(READ)).await
            })
            .await?;
        Ok(rows.into_iter().map(|row| Arc::new(Entry::of(row))).collect())
    }

    fn remembered(&self, position: i64, limit: usize) -> Option<Vec<Arc<Entry>>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let first = ring.entries.front()?.position;
        // Positions in memory have no gap.
        let skip = usize::try_from(position.checked_sub(first)?.checked_add(1)?).ok()?;
        if skip >= ring.entries.len() {
            return None;
        }
        Some(ring.entries.iter().skip(skip).take(limit).cloned().collect())
    }

    fn add(&self, entries: Vec<Arc<Entry>>) {
        let Some(last) = entries.last().map(|entry| entry.position) else { return };
        {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            for entry in entries {
                let follows = ring.entries.back().is_none_or(|back| back.position + 1 == entry.position);
                if !follows {
                    *ring = Ring::default();
                }
                ring.bytes += entry.event.len();
                ring.entries.push_back(entry);
            }
            while ring.entries.len() > KEPT || (ring.bytes > KEPT_BYTES && ring.entries.len() > 1) {
                if let Some(gone) = ring.entries.pop_front() {
                    ring.bytes -= gone.event.len();
                }
            }
        }
        self.head.send_replace(last);
    }
}

/// Places and reads.
#[derive(Clone)]
pub struct Reader {
    /// What it fills.
    pub tail: Arc<Tail>,
    /// Who rings it.
    pub bell: Bell,
    /// When to end.
    pub shutdown: Shutdown,
}

impl Actor for Reader {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let (reader, progress) = (self.clone(), life.progress());
        let mut shutdown = self.shutdown.clone();
        life.run(async move {
            let mut last = None;
            loop {
                let work = progress.begin();
                let read = reader.read(&mut last).await;
                work.done();
                let pause = match read {
                    Ok(true) => continue,
                    Ok(false) => POLL,
                    Err(error) if error.is_outage() => {
                        warn!(%error, "the log cannot be read, tried again");
                        AWAY
                    }
                    Err(error) => return Err(error),
                };
                tokio::select! {
                    () = reader.bell.rung() => {}
                    () = tokio::time::sleep(pause) => {}
                    () = shutdown.requested() => return Ok::<(), StoreError>(()),
                }
            }
        });
        Ok(())
    }
}

impl Reader {
    /// Places what was committed and reads what is new; returns whether there may be more.
    async fn read(&self, last: &mut Option<i64>) -> Result<bool, StoreError> {
        let known = *last;
        let (head, rows) = self
            .tail
            .pool
            .run(move |mut connection| async move {
                let head = log::place(&mut connection, BATCH).await?;
                let rows = match known {
                    Some(known) if known < head => log::after(&mut connection, known, READ).await?,
                    _ => Vec::new(),
                };
                Ok::<_, StoreError>((head, rows))
            })
            .await?;
        let Some(known) = known else {
            // What was before is read by those who want it.
            self.tail.head.send_replace(head);
            *last = Some(head);
            return Ok(false);
        };
        let entries: Vec<_> = rows.into_iter().map(|row| Arc::new(Entry::of(row))).collect();
        // What another process has placed and pruned meanwhile is not there any more.
        let reached = entries.last().map_or(head, |entry| entry.position);
        self.tail.add(entries);
        *last = Some(reached.max(known));
        Ok(reached < head || head - known >= i64::from(BATCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(position: i64) -> Arc<Entry> {
        let event = Bytes::from(vec![b'x'; 1_000]);
        Arc::new(Entry {
            position,
            key: Uuid::nil(),
            ty: "t".to_owned(),
            attributes: Map::new(),
            event,
            logged_at: DateTime::UNIX_EPOCH,
        })
    }

    fn positions(ring: &Ring) -> (i64, i64, usize) {
        (ring.entries.front().unwrap().position, ring.entries.back().unwrap().position, ring.bytes)
    }

    #[tokio::test]
    async fn the_ring_keeps_the_newest_without_a_gap() {
        let database = orrery_config::database::Database::default();
        let pool = Pool::new(&database, crate::PARTNERS, tokio::runtime::Handle::current()).unwrap();
        let tail = Tail::new(pool);
        tail.add((1..=10).map(entry).collect());
        assert_eq!(positions(&tail.ring.read().unwrap()), (1, 10, 10_000));
        let read = tail.after(7, 2).await.unwrap();
        assert_eq!(read.iter().map(|entry| entry.position).collect::<Vec<_>>(), [8, 9]);
        assert!(tail.after(10, 2).await.unwrap().is_empty());
        assert!(tail.remembered(0, 5).is_some(), "the first is remembered");
        tail.add((12..=13).map(entry).collect());
        assert_eq!(positions(&tail.ring.read().unwrap()), (12, 13, 2_000));
        assert!(tail.remembered(10, 5).is_none(), "what lies in the gap is not known");
        tail.add((14..=14 + i64::try_from(KEPT).unwrap()).map(entry).collect());
        assert_eq!(tail.ring.read().unwrap().entries.len(), KEPT);
    }
}
