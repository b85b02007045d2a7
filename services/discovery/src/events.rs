//! The handler of what autha tells: sessions that ended, whose tokens are believed no more, and accounts that are gone, of which nothing is kept.

use std::time::Duration;

use async_trait::async_trait;
use cloudevents::AttributesReader;
use diesel_async::AsyncConnection as _;
use orrery_bus::{Delivery, Failure, Handler, HandlerSpec, Once, Outcome, relay::Wake};
use orrery_schemas::{
    events::{AccountDeleted, AccountErased, EventData, SessionsEnded},
    ids::AccountId,
};
use orrery_store::{
    Pool, StoreError,
    outbox::{About, Outbox},
};
use orrery_supervise::{Mailbox, clock::Clock};
use uuid::Uuid;

use crate::{config::Config, definition::DISCOVERY, store};

/// Its name, which is its queue's.
pub const QUEUE: &str = "discovery.accounts";

/// The queue and its limits; `orrery migrate` declares by it.
pub fn spec(config: &Config) -> HandlerSpec {
    HandlerSpec {
        name: QUEUE,
        mailbox: Mailbox { capacity: 0, concurrency: 4 },
        retry_delay: config.retry_delay,
        time_limit: Duration::from_secs(20),
        bindings: vec![SessionsEnded::TYPE, AccountDeleted::TYPE],
        once: Once::Inbox,
    }
}

/// Hears of accounts.
pub struct Accounts {
    /// Its settings.
    pub config: Config,
    /// Where it is written.
    pub pool: Pool,
    /// Where receipts are written.
    pub outbox: Outbox,
    /// Rung after a commit.
    pub wake: Wake,
    /// The time.
    pub clock: Clock,
}

/// What is told.
enum Told {
    Ended(AccountId, Vec<Uuid>),
    Deleted(AccountId),
}

#[async_trait]
impl Handler for Accounts {
    fn spec(&self) -> HandlerSpec {
        spec(&self.config)
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let told = if delivery.event().ty() == SessionsEnded::TYPE {
            delivery.data::<SessionsEnded>().map(|data| Told::Ended(data.account, data.sessions))
        } else {
            delivery.data::<AccountDeleted>().map(|data| Told::Deleted(data.account))
        };
        let told = match told {
            Ok(Told::Ended(_, sessions)) if sessions.len() > SessionsEnded::MOST => {
                return Outcome::Reject(Failure::new("it names too many sessions"));
            }
            Ok(told) => told,
            Err(failure) => return Outcome::Reject(failure),
        };
        match self.write(delivery, &told).await {
            Ok(()) => {
                self.wake.wake();
                Outcome::Done
            }
            Err(error) if error.is_outage() => Outcome::Wait(Failure::of(&error)),
            Err(error) => Outcome::Retry(Failure::of(&error)),
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        // The consumer asks the database itself, and there is nothing else.
        Ok(())
    }
}

impl Accounts {
    async fn write(&self, delivery: &Delivery, told: &Told) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut connection = self.pool.get().await?;
        connection
            .transaction::<_, StoreError, _>(async |connection| {
                match told {
                    Told::Ended(account, sessions) => {
                        store::end_sessions(connection, *account, sessions, now).await?;
                    }
                    Told::Deleted(account) => {
                        store::erase(connection, *account, now).await?;
                        let receipt =
                            AccountErased { account: *account, holder: DISCOVERY.name().to_owned() };
                        let about =
                            About { subject: Some(account.0), version: None, trace: delivery.trace() };
                        self.outbox.event(connection, &receipt, about).await?;
                    }
                }
                delivery.settle(connection).await
            })
            .await
    }
}
