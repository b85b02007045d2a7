//! What an operator does, each with its line in the audit log: letters are tried again or dropped, rows are published again, queues are emptied, actors are restarted. The
//! command line and the console are faces of this. How many letters are dealt with at a pace lives in `batches`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use orrery_bus::{Bus, BusError};
use orrery_store::{
    Pool, StoreError,
    dead_letters::Filter,
    outbox::{self, Which},
};
use orrery_supervise::random::Random;
use uuid::Uuid;

use crate::{
    audit::{self, Actor},
    batches::{Batches, Deed},
    purge,
};

/// Rows that one transaction publishes again.
const ROWS: i64 = 1000;

/// Somebody who acts, with what is acted by.
#[derive(Clone)]
pub struct Operator {
    pool: Pool,
    random: Random,
    actor: Actor,
}

/// Something was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The database, and with it the audit log.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// A thing that was begun, to be told how it ended.
pub struct Begun {
    pool: Pool,
    line: Uuid,
}

impl Begun {
    /// Writes how it ended.
    ///
    /// # Errors
    /// When the database refuses; what was done stays done.
    pub async fn end(self, outcome: &str) -> Result<(), StoreError> {
        let mut connection = self.pool.get().await?;
        audit::end(&mut connection, self.line, outcome).await
    }
}

/// What is done with rows of the outbox.
#[derive(Clone, Copy)]
enum RowDeed {
    /// They are published again, those that had failed for so long.
    Replay(Which, Duration),
    /// Those that could not be published are kept no longer.
    GiveUp,
}

impl RowDeed {
    const fn name(self) -> &'static str {
        match self {
            Self::Replay(..) => "outbox.replay",
            Self::GiveUp => "outbox.drop",
        }
    }

    const fn which(self) -> Which {
        match self {
            Self::Replay(which, _) => which,
            Self::GiveUp => Which::Failed,
        }
    }

    fn outcome(self, rows: u64) -> String {
        match self {
            Self::Replay(..) => format!("published {rows} again"),
            Self::GiveUp => format!("dropped {rows}"),
        }
    }

    async fn batch(
        self,
        connection: &mut AsyncPgConnection,
        ty: Option<&str>,
        moment: DateTime<Utc>,
    ) -> Result<usize, StoreError> {
        match self {
            Self::Replay(which, lifetime) => {
                outbox::replay(connection, which, ty, moment, ROWS, lifetime).await
            }
            Self::GiveUp => outbox::give_up(connection, ty, moment, ROWS).await,
        }
    }
}

impl Operator {
    /// `actor`, by connections of the console's role.
    pub fn new(pool: Pool, random: Random, actor: Actor) -> Self {
        Self { pool, random, actor }
    }

    /// The connections.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Writes that something is begun.
    ///
    /// # Errors
    /// When it cannot be written down: then it must not be done.
    pub async fn begin(&self, action: &str, target: &str) -> Result<Begun, StoreError> {
        let mut connection = self.pool.get().await?;
        let line = audit::begin(&mut connection, &self.random, &self.actor, action, target).await?;
        Ok(Begun { pool: self.pool.clone(), line })
    }

    /// Begins to try letters again or to drop them; they are dealt with by `Batches::next`.
    ///
    /// # Errors
    /// When it cannot be written down.
    pub async fn letters(
        &self,
        filter: Filter,
        until: DateTime<Utc>,
        deed: Deed,
        rate: Option<u32>,
    ) -> Result<(Batches, Begun), StoreError> {
        let begun = self.begin(deed.name(), &told(&filter, rate)).await?;
        Ok((Batches::new(self.pool.clone(), filter, until, deed, rate), begun))
    }

    /// Has `most` rows of the outbox, or some more, published again that were there at `moment`; returns how many. `each` hears how far it is.
    ///
    /// # Errors
    /// When it cannot be written down, or the database refuses midway: what was done stays done.
    pub async fn replay(
        &self,
        which: Which,
        ty: Option<&str>,
        moment: DateTime<Utc>,
        lifetime: Duration,
        most: u64,
        each: impl FnMut(u64),
    ) -> Result<u64, StoreError> {
        self.rows(RowDeed::Replay(which, lifetime), ty, moment, most, each).await
    }

    /// Keeps rows of the outbox no longer that could not be published, and that were there at `moment`; returns how many. `each` hears how far it is.
    ///
    /// # Errors
    /// As `replay`.
    pub async fn give_up(
        &self,
        ty: Option<&str>,
        moment: DateTime<Utc>,
        each: impl FnMut(u64),
    ) -> Result<u64, StoreError> {
        self.rows(RowDeed::GiveUp, ty, moment, u64::MAX, each).await
    }

    /// Deals with rows of the outbox, one batch after the other, until there are no more or `most` were dealt with; returns how many.
    async fn rows(
        &self,
        deed: RowDeed,
        ty: Option<&str>,
        moment: DateTime<Utc>,
        most: u64,
        mut each: impl FnMut(u64),
    ) -> Result<u64, StoreError> {
        let target = format!("{} {}", name(deed.which()), ty.unwrap_or("of every type"));
        let begun = self.begin(deed.name(), &target).await?;
        let mut done = 0;
        while done < most {
            let mut connection = self.pool.get().await?;
            let batch = deed.batch(&mut connection, ty, moment).await;
            drop(connection);
            match batch {
                Ok(0) => break,
                Ok(rows) => done += u64::try_from(rows).unwrap_or_default(),
                Err(error) => {
                    begun.end(&format!("failed after {done}")).await?;
                    return Err(error);
                }
            }
            each(done);
        }
        begun.end(&deed.outcome(done)).await?;
        Ok(done)
    }

    /// Throws away what waits in `queue`; returns how much that was.
    ///
    /// # Errors
    /// When it cannot be written down, or the broker is away.
    pub async fn purge(
        &self,
        bus: &Bus,
        connection: &lapin::Connection,
        queue: &str,
    ) -> Result<u64, OperatorError> {
        let begun = self.begin("queue.purge", queue).await?;
        let purged = purge::purge(bus, connection, queue).await;
        let outcome = match &purged {
            Ok(messages) => format!("purged {messages}"),
            Err(_) => "failed".to_owned(),
        };
        begun.end(&outcome).await?;
        Ok(purged?)
    }
}

/// Rows in a word.
pub fn name(which: Which) -> &'static str {
    match which {
        Which::Unrouted => "unrouted",
        Which::Unwanted => "unwanted",
        Which::Failed => "failed",
        Which::SentSince(_) => "sent",
    }
}

/// A choice of letters in words, as the audit log has it.
pub fn told(filter: &Filter, rate: Option<u32>) -> String {
    let mut told = Vec::new();
    match filter.ids.as_deref() {
        Some([id]) => told.push(format!("id {id}")),
        Some(ids) => {
            let first: Vec<_> = ids.iter().take(10).map(Uuid::to_string).collect();
            told.push(format!("{} ids: {}", ids.len(), first.join(" ")));
        }
        None => {}
    }
    // The text that is looked for in reasons could be anything, and is kept as it was typed.
    for (name, value) in [("handler", &filter.handler), ("type", &filter.ty), ("reason", &filter.reason)] {
        told.extend(value.as_ref().map(|value| format!("{name} {value}")));
    }
    told.extend(filter.older_than.map(|age| format!("older than {age:?}")));
    told.extend(filter.newer_than.map(|age| format!("newer than {age:?}")));
    if told.is_empty() {
        told.push("all".to_owned());
    }
    told.extend(rate.map(|rate| format!("at {rate} a second")));
    told.join(", ")
}
