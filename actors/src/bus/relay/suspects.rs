//! Suspects: rows on which the broker closed a channel or the connection, one of them for its own sake. Each is published alone and on a
//! connection that nothing else is on, so that the guilty one takes nobody with it.

use std::{convert::Infallible, slice, time::Duration};

use lapin::{Channel, Connection};

use super::{
    Relay,
    batch::{self, Blame, Fate, blame},
};
use crate::{
    bus::{BusError, connection::close},
    store::outbox,
};

/// How often suspects are looked for; there are none in an ordinary life.
const LOOK: Duration = Duration::from_secs(2);

impl Relay {
    /// Publishes suspects for ever.
    pub(super) async fn publish_suspects(&self) -> Result<Infallible, BusError> {
        let mut alone: Option<(Connection, Channel)> = None;
        loop {
            let token = self.random.uuid_v4();
            let found = {
                let mut connection = self.pool.get().await?;
                outbox::suspects(&mut connection, &self.producers(), token, self.lease_seconds()).await?
            };
            let Some(mut row) = found else {
                if let Some((connection, _)) = alone.take() {
                    close(&connection).await;
                }
                tokio::time::sleep(LOOK).await;
                continue;
            };
            let (_, channel) = match alone.take().filter(|(_, channel)| channel.status().connected()) {
                Some(open) => alone.insert(open),
                None => {
                    let connection =
                        self.bus.connect_aside(&format!("relay-{}-suspects", self.producer)).await?;
                    let channel = self.bus.confirming(&connection).await?;
                    alone.insert((connection, channel))
                }
            };
            let fates = batch::publish(&self.bus, channel, slice::from_mut(&mut row)).await;
            let Some(fate) = fates.into_iter().next() else { continue };
            if let Fate::Broken(_) = fate
                && let Some((connection, _)) = alone.take()
            {
                close(&connection).await;
            }
            let is_lost = match &fate {
                Fate::Broken(error) => blame(error) == Blame::Nobody,
                Fate::Silent => true,
                _ => false,
            };
            if let Some(error) = self.write_down_suspect(token, &row, fate).await?
                && is_lost
            {
                return Err(error);
            }
        }
    }
}
