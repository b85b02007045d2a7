//! The handler of spinoza's results: applied in one transaction, only if the upload is still the wanted one.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use cloudevents::AttributesReader;
use diesel::{ExpressionMethods, Insertable, OptionalExtension, QueryDsl};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use orrery_bus::{Delivery, Failure, Handler, HandlerSpec, Once, Outcome, relay::Wake};
use orrery_schemas::{
    events::{Changed, EventData, ImageOptimized, ImageRejected, Variant},
    ids::{AccountId, UploadId},
};
use orrery_store::{Pool, StoreError, outbox::Outbox};
use orrery_supervise::{Mailbox, clock::Clock};
use std::time::Duration;
use tracing::info;
use uuid::Uuid;

use crate::{
    account::change,
    config::Config,
    schema::{accounts, uploads, variants},
};

/// Applies results.
pub struct PictureResults {
    /// Autha's connections.
    pub pool: Pool,
    /// Where messages are written.
    pub outbox: Outbox,
    /// Rung after a commit.
    pub wake: Wake,
    /// The time.
    pub clock: Clock,
    /// Its queue and limits.
    pub spec: HandlerSpec,
}

/// The queue and its limits; `orrery migrate` declares by it.
pub fn spec(config: &Config) -> HandlerSpec {
    HandlerSpec {
        name: "autha.pictures",
        mailbox: Mailbox { capacity: config.pictures_capacity, concurrency: config.pictures_concurrency },
        retry_delay: config.retry_delay,
        time_limit: Duration::from_secs(20),
        bindings: vec![ImageOptimized::TYPE, ImageRejected::TYPE],
        once: Once::Inbox,
    }
}

/// What became of a result.
enum Applied {
    /// It is done with: in the profile, or discarded.
    Settled,
    /// Nothing knows its upload yet.
    Unknown,
}

enum Found {
    Optimized(Vec<Variant>),
    Rejected { code: String, reason: String },
}

#[derive(Insertable)]
#[diesel(table_name = variants)]
struct NewVariant {
    upload: Uuid,
    width: i32,
    object_key: String,
    media_type: String,
    size_bytes: i64,
}

#[async_trait]
impl Handler for PictureResults {
    fn spec(&self) -> HandlerSpec {
        self.spec.clone()
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let result = match delivery.event().ty() {
            ImageOptimized::TYPE => {
                delivery.data::<ImageOptimized>().map(|data| (data.upload, Found::Optimized(data.variants)))
            }
            _ => delivery
                .data::<ImageRejected>()
                .map(|data| (data.upload, Found::Rejected { code: data.code, reason: data.reason })),
        };
        let (upload, found) = match result {
            Ok(result) => result,
            Err(failure) => return Outcome::Reject(failure),
        };
        let applied = async {
            let mut connection = self.pool.get().await?;
            self.apply(&mut connection, delivery, upload, &found).await
        };
        match applied.await {
            Ok(Applied::Settled) => {
                self.wake.wake();
                Outcome::Done
            }
            Ok(Applied::Unknown) => Outcome::Retry(Failure::new("no row names the upload yet")),
            Err(error) if error.is_outage() => Outcome::Wait(Failure::of(&error)),
            Err(error) => Outcome::Retry(Failure::of(&error)),
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        // The consumer asks the database itself, and there is nothing else.
        Ok(())
    }
}

impl PictureResults {
    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        delivery: &Delivery,
        upload: UploadId,
        found: &Found,
    ) -> Result<Applied, StoreError> {
        let now = self.clock.now();
        connection
            .transaction::<_, StoreError, _>(async |connection| {
                let owner: Option<Uuid> = uploads::table
                    .find(upload.0)
                    .select(uploads::account)
                    .first(connection)
                    .await
                    .optional()?;
                // The object is written before the row, and the store tells of it at once: the row may be about to come. If it has
                // not at the second try, the upload broke off in between; then the sweeper takes its objects.
                if owner.is_none() && delivery.attempt() == 0 {
                    return Ok(Applied::Unknown);
                }
                let wanted: Option<Option<Uuid>> = match owner {
                    Some(owner) => accounts::table
                        .find(owner)
                        .filter(accounts::purge_at.is_null())
                        .select(accounts::avatar_upload)
                        .for_update()
                        .first(connection)
                        .await
                        .optional()?,
                    None => None,
                };
                let is_wanted = wanted.flatten() == Some(upload.0) && is_pending(connection, upload).await?;
                match owner {
                    Some(owner) if is_wanted => {
                        self.settle_upload(connection, delivery, AccountId(owner), upload, found, now)
                            .await?;
                    }
                    _ => info!("the upload is not waited for any more: its result is discarded"),
                }
                delivery.settle(connection).await?;
                Ok(Applied::Settled)
            })
            .await
    }

    async fn settle_upload(
        &self,
        connection: &mut AsyncPgConnection,
        delivery: &Delivery,
        account: AccountId,
        upload: UploadId,
        found: &Found,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let row = diesel::update(uploads::table.find(upload.0));
        match found {
            Found::Rejected { code, reason } => {
                row.set((
                    uploads::state.eq("rejected"),
                    uploads::code.eq(code),
                    uploads::reason.eq(reason),
                    uploads::settled_at.eq(now),
                ))
                .execute(connection)
                .await?;
                // What is shown stays shown, and is the wanted one again.
                diesel::update(accounts::table.find(account.0))
                    .set(accounts::avatar_upload.eq(accounts::icon_upload))
                    .execute(connection)
                    .await?;
            }
            Found::Optimized(list) => {
                let rows: Vec<_> = list.iter().map(|variant| new_variant(upload, variant)).collect();
                diesel::insert_into(variants::table)
                    .values(rows)
                    .on_conflict_do_nothing()
                    .execute(connection)
                    .await?;
                row.set((uploads::state.eq("done"), uploads::settled_at.eq(now))).execute(connection).await?;
                diesel::update(accounts::table.find(account.0))
                    .set(accounts::icon_upload.eq(upload.0))
                    .execute(connection)
                    .await?;
            }
        }
        change::raise(connection, &self.outbox, account.0, &[Changed::Icon], delivery.place()).await?;
        Ok(())
    }
}

/// Whether the upload still waits for its result. A store that tells of one object twice has it optimised twice; the account's row,
/// which is locked, makes the second find the first one's mark.
async fn is_pending(connection: &mut AsyncPgConnection, upload: UploadId) -> Result<bool, StoreError> {
    let state: String = uploads::table.find(upload.0).select(uploads::state).first(connection).await?;
    Ok(state == "pending")
}

fn new_variant(upload: UploadId, variant: &Variant) -> NewVariant {
    NewVariant {
        upload: upload.0,
        width: i32::try_from(variant.width).unwrap_or(i32::MAX),
        object_key: variant.key.clone(),
        media_type: variant.format.clone(),
        size_bytes: i64::try_from(variant.bytes).unwrap_or(i64::MAX),
    }
}
