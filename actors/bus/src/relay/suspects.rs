//! Suspects: rows on which the broker closed a channel or the connection, one of them for its own sake. Each is published alone and on a
//! connection that nothing else is on, so that the guilty one takes nobody with it.

use std::{convert::Infallible, slice, time::Duration};

use orrery_store::outbox;

use super::{
    Relay,
    batch::{Blame, RowOutcome, blame},
};
use crate::{BusError, Patience, channels::Taken};

/// How often suspects are looked for; there are none in an ordinary life.
const LOOK: Duration = Duration::from_secs(2);

impl Relay {
    /// Publishes suspects for ever.
    pub(super) async fn publish_suspects(&self) -> Result<Infallible, BusError> {
        let patience = Patience::of(&self.progress, &self.shutdown);
        let name = format!("relay-{}-suspects", self.producer);
        let mut alone: Option<Taken> = None;
        loop {
            let token = self.random.uuid_v4();
            let found = {
                let mut connection = self.pool.get().await?;
                outbox::suspects(&mut connection, &self.producers(), token, self.lease_seconds()).await?
            };
            let Some(mut row) = found else {
                if alone.take().is_some() {
                    self.bus.channels().forget(&name);
                }
                tokio::time::sleep(LOOK).await;
                continue;
            };
            let is_open = |taken: &Taken| taken.get().is_ok_and(|(channel, _)| channel.status().connected());
            let channel = match alone.take().filter(is_open) {
                Some(open) => alone.insert(open),
                None => alone.insert(self.bus.channels().take(&name, &patience).await?),
            };
            let outcomes = self.publish(token, channel, &patience, slice::from_mut(&mut row)).await?;
            let Some(outcome) = outcomes.into_iter().next() else { continue };
            if let RowOutcome::Broken(_) | RowOutcome::Silent = outcome {
                // The next one has a connection that nothing of this one is on.
                alone = None;
                self.bus.channels().forget(&name);
            }
            let is_lost = match &outcome {
                RowOutcome::Broken(error) => blame(error) == Blame::Nobody,
                RowOutcome::Silent => true,
                _ => false,
            };
            if let Some(error) = self.write_down_suspect(token, &row, outcome).await?
                && is_lost
            {
                return Err(error);
            }
        }
    }
}
