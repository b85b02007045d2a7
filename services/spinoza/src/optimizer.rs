//! The handler of uploaded pictures: fetch, optimise on the bounded pool, store, and tell in one transaction. Pixels are `orrery-picture`'s work.

use std::sync::Arc;

use async_trait::async_trait;
use diesel_async::AsyncConnection;
use orrery_actors::{
    bus::{Delivery, Failure, Handler, HandlerSpec, Once, Outcome, relay::Wake},
    objects::{ObjectError, Objects},
    seal::sha256,
    store::{
        Pool, StoreError,
        outbox::{About, Outbox},
    },
    supervise::Threads,
};
use orrery_picture::{self as picture, Limits, Rejection};
use orrery_schemas::events::{EventData, ImageOptimized, ImageRejected, ImageUploaded, Variant};
use tokio::sync::Semaphore;
use tracing::info;
use uuid::Uuid;

use crate::{config::Config, keys};

/// The handler's name, which is its queue's.
pub const NAME: &str = "spinoza.images";
/// Sides of the variants, in pixels, largest first.
const SIDES: [u32; 3] = [512, 256, 64];
/// The largest original that is fetched.
const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// The queue and its limits; `orrery migrate` declares by it.
pub fn spec(config: &Config) -> HandlerSpec {
    HandlerSpec {
        name: NAME,
        prefetch: config.concurrency,
        retry_delay: config.retry_delay,
        time_limit: config.time_limit,
        bindings: vec![ImageUploaded::TYPE],
        once: Once::Inbox,
    }
}

/// Optimises.
pub struct Optimizer {
    config: Config,
    pool: Pool,
    objects: Objects,
    outbox: Outbox,
    wake: Wake,
    /// Where the threads that decode are shown and watched.
    threads: Threads,
    /// How many decodings may hold a thread: those at work, and as many again that ran out of time.
    permits: Arc<Semaphore>,
}

enum Found {
    Variants(Vec<picture::Variant>),
    Rejected { code: String, reason: String },
}

/// A try that brought no result.
enum Obstacle {
    Objects(ObjectError),
    Store(StoreError),
    Failed(Failure),
}

impl From<ObjectError> for Obstacle {
    fn from(error: ObjectError) -> Self {
        Self::Objects(error)
    }
}

impl From<StoreError> for Obstacle {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

#[async_trait]
impl Handler for Optimizer {
    fn spec(&self) -> HandlerSpec {
        spec(&self.config)
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let uploaded: ImageUploaded = match delivery.data() {
            Ok(uploaded) => uploaded,
            Err(failure) => return Outcome::Reject(failure),
        };
        let Some(folder) = keys::folder(&uploaded.key, uploaded.upload) else {
            return Outcome::Reject(Failure::new("the key is not in the folder of its upload"));
        };
        match self.optimise(delivery, &uploaded, folder).await {
            Ok(()) => {
                self.wake.wake();
                Outcome::Done
            }
            Err(Obstacle::Objects(error @ ObjectError::Unavailable(_))) => Outcome::Wait(Failure::of(&error)),
            Err(Obstacle::Objects(error)) => Outcome::Retry(Failure::of(&error)),
            Err(Obstacle::Store(error)) if error.is_outage() => Outcome::Wait(Failure::of(&error)),
            Err(Obstacle::Store(error)) => Outcome::Retry(Failure::of(&error)),
            Err(Obstacle::Failed(failure)) => Outcome::Retry(failure),
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        self.objects.probe().await.map_err(|error| Failure::of(&error))
    }
}

impl Optimizer {
    /// An optimiser that writes its results to `outbox` and then rings `wake`.
    pub fn new(
        config: Config,
        pool: Pool,
        objects: Objects,
        outbox: Outbox,
        wake: Wake,
        threads: Threads,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(usize::from(config.concurrency) * 2));
        Self { config, pool, objects, outbox, wake, threads, permits }
    }

    async fn optimise(
        &self,
        delivery: &Delivery,
        uploaded: &ImageUploaded,
        folder: &str,
    ) -> Result<(), Obstacle> {
        let found = match self.objects.get(&uploaded.key, MAX_BYTES).await {
            // Gone at the second look as well: whoever waits for it is told.
            Err(ObjectError::NotFound) if delivery.attempt() > 0 => Found::Rejected {
                code: "missing".to_owned(),
                reason: "The uploaded file is not there any more. Upload it again.".to_owned(),
            },
            original => self.decode(original?, uploaded).await?,
        };
        match found {
            Found::Rejected { code, reason } => {
                info!(upload = %uploaded.upload, code, "rejected");
                self.tell(delivery, &ImageRejected { upload: uploaded.upload, code, reason }).await
            }
            Found::Variants(list) => {
                let variants = self.store(folder, list).await?;
                self.tell(delivery, &ImageOptimized { upload: uploaded.upload, variants }).await
            }
        }
    }

    async fn decode(&self, original: bytes::Bytes, uploaded: &ImageUploaded) -> Result<Found, Obstacle> {
        let closed = |_| Obstacle::Failed(Failure::new("the decoding pool is closed"));
        let held = self.threads.take();
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(closed)?;
        let (threads, expected) = (self.threads.clone(), uploaded.digest.clone());
        let decoded = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let found = threads.run(|| decode(&original, expected.as_deref()));
            held.done();
            found
        });
        match decoded.await {
            Ok(Some(found)) => found.map_err(Obstacle::Failed),
            Ok(None) | Err(_) => Err(Obstacle::Failed(Failure::new("the decoder panicked"))),
        }
    }

    /// Writes the variants under names made of their content: a second time writes the same.
    async fn store(&self, folder: &str, list: Vec<picture::Variant>) -> Result<Vec<Variant>, Obstacle> {
        let writes = list.into_iter().map(|variant| async move {
            let key = keys::variant(folder, variant.side, &variant.bytes);
            let bytes = u64::try_from(variant.bytes.len()).unwrap_or(u64::MAX);
            self.objects.put(&key, "image/webp", bytes, variant.bytes.into()).await?;
            Ok(Variant { key, format: "image/webp".to_owned(), width: variant.side, bytes })
        });
        futures_util::future::try_join_all(writes).await
    }

    /// The result and the mark that this message is done with: both or neither.
    async fn tell<T: EventData + Sync>(&self, delivery: &Delivery, data: &T) -> Result<(), Obstacle> {
        let about = About { subject: subject(delivery), version: version(delivery), trace: delivery.trace() };
        let mut connection = self.pool.get().await?;
        connection
            .transaction::<_, StoreError, _>(async |connection| {
                self.outbox.event(connection, data, about).await?;
                delivery.settle(connection).await
            })
            .await?;
        Ok(())
    }
}

fn subject(delivery: &Delivery) -> Option<Uuid> {
    cloudevents::AttributesReader::subject(delivery.event()).and_then(|subject| subject.parse().ok())
}

/// `expected` is the digest of what was uploaded; a store's own notification knows none.
fn decode(original: &[u8], expected: Option<&str>) -> Result<Found, Failure> {
    if expected.is_some_and(|digest| hex::encode(sha256(original)) != digest) {
        return Err(Failure::new("the object is not what was uploaded: its digest differs"));
    }
    match picture::optimise(original, &SIDES, &Limits::default()) {
        Ok(variants) => Ok(Found::Variants(variants)),
        Err(error @ Rejection::Failed { .. }) => Err(Failure::of(&error)),
        Err(error) => Ok(Found::Rejected { code: error.code().to_owned(), reason: error.to_string() }),
    }
}

/// The version of the account that the upload brought about, as its event carries it: a result changes no account.
fn version(delivery: &Delivery) -> Option<i64> {
    delivery.event().extension("version")?.to_string().parse().ok()
}
