//! A lane of the relay: leases a batch, publishes it on a channel of its own, has it settled. While one lane's batch is
//! being confirmed the next one leases, so that database and broker are both at work.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use orrery_store::outbox::{self, Place, Row};
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

use super::{
    POLL, Relay,
    batch::{self, RowOutcome},
};
use crate::{
    BusError, Patience,
    channels::{Link, Taken},
    connection::soft,
    spans,
};

/// Places of rows are given out in order and committed in any: one that is committed so many places late still counts as new.
const REORDERED: i64 = 1000;
/// The shortest time from one look to the next, unless the first one found much.
const PACE: Duration = Duration::from_millis(4);
/// How often the lease of what is on its way is renewed while the broker takes nothing.
const RENEW: Duration = Duration::from_secs(2);
/// A look at the whole index, dead entries and all, may take one part in so many of the time.
const SWEEP_SHARE: u32 = 20;

/// Where the next lease looks, for all lanes. Each goes on where the last one ended; every now and then one begins at the start, for rows
/// that were given back or committed late.
pub(super) struct Window {
    place: Place,
    sweep_at: Instant,
    look_at: Instant,
}

impl Window {
    pub fn new() -> Self {
        Self { place: Place::default(), sweep_at: Instant::now(), look_at: Instant::now() }
    }
}

impl Relay {
    /// Works until shutdown or until `ending` says that another lane failed. The first lane looks by itself, the others when woken.
    pub(super) async fn lane(
        &self,
        is_first: bool,
        window: &Mutex<Window>,
        ending: &watch::Sender<bool>,
    ) -> Result<(), BusError> {
        let result = self.work(is_first, window, ending.subscribe()).await;
        if let Err(error) = &result {
            if matches!(error, BusError::Timeout(_)) {
                // A connection that does not answer is no good for the next life.
                self.bus.channels().forget(&self.connection_name());
            }
            ending.send_replace(true);
        }
        result
    }

    async fn work(
        &self,
        is_first: bool,
        window: &Mutex<Window>,
        mut ending: watch::Receiver<bool>,
    ) -> Result<(), BusError> {
        let mut shutdown = self.shutdown.clone();
        let patience = Patience::of(&self.progress, &self.shutdown);
        let mut channel = self.take(&patience).await?;
        while !*ending.borrow() {
            // Asked before the look: what was committed before the shutdown is seen by it.
            let is_last = shutdown.is_requested();
            if channel.get()?.1.is_blocked() && !is_last {
                // Nothing is leased that could not be published; what is known of the connection stays.
                tokio::select! {
                    () = tokio::time::sleep(POLL) => {}
                    () = shutdown.requested() => {}
                    _ = ending.changed() => {}
                }
                continue;
            }
            let token = self.random.uuid_v4();
            // A look at the database is work as well: one that never ends is a stall.
            let look = self.progress.begin();
            let mut rows = self.lease(window, token).await?;
            let held: Vec<_> = rows.iter().map(|_| self.progress.begin()).collect();
            let more = outbox::may_have_more(&rows);
            if more {
                self.wake.wake();
            }
            if !rows.is_empty() {
                let batch = spans::publishing(&rows);
                let outcomes = self.publish(token, &channel, &patience, &mut rows).await?;
                match batch.run(self.write_down(token, &rows, outcomes)).await? {
                    None => {}
                    // The broker closed the channel for one of the messages, which are suspects now. The messages hear of it before
                    // the channel does.
                    Some(BusError::Amqp(error))
                        if channel.get()?.1.status().connected()
                            && (soft(&error).is_some() || !channel.get()?.0.status().connected()) =>
                    {
                        channel = self.take(&patience).await?;
                    }
                    Some(error) => return Err(error),
                }
            }
            drop(held);
            look.done();
            if is_last {
                break;
            }
            if more {
                continue;
            }
            tokio::select! {
                () = self.wake.0.notified() => {}
                () = tokio::time::sleep(POLL), if is_first => {
                    if !channel.get()?.1.status().connected() {
                        return Err(BusError::Cancelled("relay".to_owned()));
                    }
                }
                () = shutdown.requested() => {}
                _ = ending.changed() => {}
            }
        }
        // Nothing is under way on it.
        channel.give_back();
        Ok(())
    }

    fn connection_name(&self) -> String {
        format!("relay-{}", self.producer)
    }

    async fn take(&self, patience: &Patience) -> Result<Taken, BusError> {
        let name = self.connection_name();
        let taken = self.bus.channels().take(&name, patience).await?;
        self.bus.register(&name, taken.get()?.1.status().clone());
        Ok(taken)
    }

    /// Publishes; what the broker does not take meanwhile stays leased, or another relay would publish it as well.
    pub(super) async fn publish(
        &self,
        token: Uuid,
        channel: &Taken,
        patience: &Patience,
        rows: &mut [Row],
    ) -> Result<Vec<RowOutcome>, BusError> {
        let seqs: Vec<_> = rows.iter().map(|row| row.seq).collect();
        let link = channel.get()?.1;
        tokio::select! {
            biased;
            outcomes = batch::publish(&self.bus, channel, patience, rows) => outcomes,
            never = self.keep_leased(&seqs, token, link) => match never? {},
        }
    }

    async fn keep_leased(&self, seqs: &[i64], token: Uuid, link: &Link) -> Result<Infallible, BusError> {
        loop {
            tokio::time::sleep(RENEW).await;
            if link.is_blocked() {
                let mut connection = self.pool.get().await?;
                outbox::renew(&mut connection, seqs, token, self.lease_seconds()).await?;
            }
        }
    }

    async fn lease(&self, window: &Mutex<Window>, token: Uuid) -> Result<Vec<Row>, BusError> {
        // One look at a time: two would lock each other's rows and skip them.
        let mut window = window.lock().await;
        // Many small commits share a look; the first after a pause does not wait.
        tokio::time::sleep_until(window.look_at.into()).await;
        let mut connection = self.pool.get().await?;
        let (producers, seconds, begun) = (self.producers(), self.lease_seconds(), Instant::now());
        let rows = if begun >= window.sweep_at {
            let (rows, place) = outbox::sweep(&mut connection, &producers, token, seconds, REORDERED).await?;
            window.place = place;
            window.sweep_at = Instant::now() + POLL.max(begun.elapsed() * SWEEP_SHARE);
            rows
        } else {
            outbox::lease(&mut connection, &producers, token, seconds, window.place).await?
        };
        window.look_at = if outbox::may_have_more(&rows) { begun } else { begun + PACE };
        let backlog = rows.first().and_then(|row| row.backlog);
        window.place.after = backlog.unwrap_or(window.place.after.max(window.place.recent));
        Ok(rows)
    }
}
