//! The handler of deleted accounts: what still waits for one is dropped when its turn comes, what failed for good is removed, and a receipt says so.
//! Maily can read no table of accounts, so it keeps a list of its own.

use std::time::Duration;

use async_trait::async_trait;
use diesel_async::AsyncConnection as _;
use orrery_bus::{Delivery, Failure, Handler, HandlerSpec, Once, Outcome, relay::Wake};
use orrery_schemas::{
    email,
    events::{AccountDeleted, AccountErased, EventData as _},
};
use orrery_store::{
    Pool, StoreError,
    outbox::{About, Outbox},
};
use orrery_supervise::{Mailbox, clock::Clock};

use crate::{config::Config, definition::MAILY, records};

/// Its name, which is its queue's.
pub const QUEUE: &str = "maily.accounts";

/// The queue and its limits; `orrery migrate` declares by it.
pub fn spec(config: &Config) -> HandlerSpec {
    HandlerSpec {
        name: QUEUE,
        mailbox: Mailbox { capacity: 0, concurrency: 8 },
        retry_delay: config.retry_delay,
        time_limit: Duration::from_secs(20),
        bindings: vec![AccountDeleted::TYPE],
        once: Once::Inbox,
    }
}

/// Remembers deleted accounts.
pub struct DeletedAccounts {
    /// Its settings.
    pub config: Config,
    /// Where they are kept.
    pub pool: Pool,
    /// Where receipts are written.
    pub outbox: Outbox,
    /// Rung after a commit.
    pub wake: Wake,
    /// The time.
    pub clock: Clock,
}

#[async_trait]
impl Handler for DeletedAccounts {
    fn spec(&self) -> HandlerSpec {
        spec(&self.config)
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let account = match delivery.data::<AccountDeleted>() {
            Ok(data) => data.account,
            Err(failure) => return Outcome::Reject(failure),
        };
        let now = self.clock.now();
        let kept = async {
            let mut connection = self.pool.get().await?;
            connection
                .transaction::<_, StoreError, _>(async |connection| {
                    records::forget_account(connection, account, now).await?;
                    records::remove_letters(connection, email::QUEUE, account).await?;
                    let erased = AccountErased { account, holder: MAILY.name().to_owned() };
                    let about = About { subject: Some(account.0), version: None, trace: delivery.trace() };
                    self.outbox.event(connection, &erased, about).await?;
                    delivery.settle(connection).await
                })
                .await
        };
        match kept.await {
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
