//! The handler of deleted accounts: removes what lies of one in the bucket, and a receipt says so. Autha empties the folders that it knows; a picture that
//! was at work meanwhile wrote its variants afterwards.

use std::time::Duration;

use async_trait::async_trait;
use diesel_async::AsyncConnection;
use orrery_bus::{Delivery, Failure, Handler, HandlerSpec, Once, Outcome, relay::Wake};
use orrery_objects::{ObjectError, Objects};
use orrery_schemas::{
    events::{AccountDeleted, AccountErased, EventData},
    ids::AccountId,
};
use orrery_store::{
    Pool, StoreError,
    outbox::{About, Outbox},
};
use orrery_supervise::Mailbox;

use crate::{config::Config, definition::SPINOZA, optimizer::objects_outcome};

/// Its name, which is its queue's.
pub const NAME: &str = "spinoza.accounts";

/// The queue and its limits; `orrery migrate` declares by it.
pub fn spec(config: &Config) -> HandlerSpec {
    HandlerSpec {
        name: NAME,
        mailbox: Mailbox { capacity: 0, concurrency: 2 },
        retry_delay: config.retry_delay,
        time_limit: Duration::from_secs(60),
        bindings: vec![AccountDeleted::TYPE],
        once: Once::Inbox,
    }
}

/// Removes the pictures of deleted accounts.
pub struct DeletedAccounts {
    /// Its settings.
    pub config: Config,
    /// Where the receipt is written.
    pub pool: Pool,
    /// The bucket.
    pub objects: Objects,
    /// Writes receipts.
    pub outbox: Outbox,
    /// Rung after a commit.
    pub wake: Wake,
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
        // Twice is as once: what is gone is not listed again.
        for preset in self.config.presets.keys() {
            if let Err(error) = self.empty(&format!("{preset}/{account}/")).await {
                return objects_outcome(&error);
            }
        }
        match self.tell(delivery, account).await {
            Ok(()) => {
                self.wake.wake();
                Outcome::Done
            }
            Err(error) if error.is_outage() => Outcome::Wait(Failure::of(&error)),
            Err(error) => Outcome::Retry(Failure::of(&error)),
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        self.objects.probe().await.map_err(|error| Failure::of(&error))
    }
}

impl DeletedAccounts {
    async fn empty(&self, folder: &str) -> Result<(), ObjectError> {
        let mut from = None;
        loop {
            let page = self.objects.list(folder, from).await?;
            let keys: Vec<String> = page.objects.into_iter().map(|object| object.key).collect();
            if !keys.is_empty() {
                self.objects.delete(&keys).await?;
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }

    async fn tell(&self, delivery: &Delivery, account: AccountId) -> Result<(), StoreError> {
        let erased = AccountErased { account, holder: SPINOZA.name().to_owned() };
        let about = About { subject: Some(account.0), version: None, trace: delivery.trace() };
        let mut connection = self.pool.get().await?;
        connection
            .transaction::<_, StoreError, _>(async |connection| {
                self.outbox.event(connection, &erased, about).await?;
                delivery.settle(connection).await
            })
            .await
    }
}
