//! The handler of receipts: a service says that it holds nothing of a deleted account any more, and the operator can see it.

use async_trait::async_trait;
use diesel::{ExpressionMethods, QueryDsl};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use orrery_bus::{Delivery, Failure, Handler, HandlerSpec, Once, Outcome};
use orrery_schemas::events::{AccountErased, EventData};
use orrery_store::{Pool, StoreError};
use orrery_supervise::{Mailbox, clock::Clock};
use std::time::Duration;

use crate::schema::{deletion_receipts, deletions};

/// The longest name of a holder that is kept.
const LONGEST_HOLDER: usize = 64;

/// Writes receipts down.
pub struct Receipts {
    /// Autha's connections.
    pub pool: Pool,
    /// The time.
    pub clock: Clock,
    /// How long a failed try waits.
    pub retry_delay: Duration,
}

/// The handler's name, which is its queue's.
pub const NAME: &str = "autha.receipts";

/// The queue and its limits; `orrery migrate` declares by it.
pub fn spec(retry_delay: Duration) -> HandlerSpec {
    HandlerSpec {
        name: NAME,
        mailbox: Mailbox { capacity: 0, concurrency: 4 },
        retry_delay,
        time_limit: Duration::from_secs(20),
        bindings: vec![AccountErased::TYPE],
        once: Once::Inbox,
    }
}

#[async_trait]
impl Handler for Receipts {
    fn spec(&self) -> HandlerSpec {
        spec(self.retry_delay)
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let erased = match delivery.data::<AccountErased>() {
            Ok(erased) if erased.holder.chars().count() <= LONGEST_HOLDER => erased,
            Ok(_) => return Outcome::Reject(Failure::new("the holder's name is too long")),
            Err(failure) => return Outcome::Reject(failure),
        };
        let written = async {
            let mut connection = self.pool.get().await?;
            self.write(&mut connection, delivery, &erased).await
        };
        match written.await {
            Ok(true) => Outcome::Done,
            Ok(false) => Outcome::Reject(Failure::new("no account of this id was deleted")),
            Err(error) if error.is_outage() => Outcome::Wait(Failure::of(&error)),
            Err(error) => Outcome::Retry(Failure::of(&error)),
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        // The consumer asks the database itself, and there is nothing else.
        Ok(())
    }
}

impl Receipts {
    async fn write(
        &self,
        connection: &mut AsyncPgConnection,
        delivery: &Delivery,
        erased: &AccountErased,
    ) -> Result<bool, StoreError> {
        let now = self.clock.now();
        connection
            .transaction::<_, StoreError, _>(async |connection| {
                let known: i64 =
                    deletions::table.find(erased.account.0).count().get_result(connection).await?;
                if known == 0 {
                    return Ok(false);
                }
                diesel::insert_into(deletion_receipts::table)
                    .values((
                        deletion_receipts::account.eq(erased.account.0),
                        deletion_receipts::holder.eq(&erased.holder),
                        deletion_receipts::received_at.eq(now),
                    ))
                    .on_conflict_do_nothing()
                    .execute(connection)
                    .await?;
                delivery.settle(connection).await?;
                Ok(true)
            })
            .await
    }
}
