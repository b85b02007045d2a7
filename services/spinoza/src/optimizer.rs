//! The handler of uploaded pictures: fetch, have the variants made by a worker process, store, and tell in one transaction. Pixels are
//! `orrery-picture`'s work, the processes `orrery-picture-worker`'s.

use std::time::Instant;

use async_trait::async_trait;
use diesel_async::AsyncConnection;
use orrery_bus::{Delivery, Failure, Handler, HandlerSpec, Once, Outcome, relay::Wake};
use orrery_objects::{ObjectError, Objects};
use orrery_observability::{
    metrics,
    trace::{Kind, Span},
};
use orrery_picture as picture;
use orrery_picture_worker::{Made, Pool as Workers, PoolError};
use orrery_schemas::events::{EventData, ImageOptimized, ImageRejected, ImageUploaded, Variant};
use orrery_seal::sha256;
use orrery_store::{
    Pool, StoreError,
    outbox::{About, Outbox},
};
use orrery_supervise::Mailbox;
use tracing::{error, info};
use uuid::Uuid;

use crate::{config::Config, keys, writes::Writes};

/// The handler's name, which is its queue's.
pub const NAME: &str = "spinoza.images";
/// The largest original that is fetched.
const MAX_BYTES: u64 = 10 * 1024 * 1024;

/// The queue and its limits; `orrery migrate` declares by it.
pub fn spec(config: &Config) -> HandlerSpec {
    HandlerSpec {
        name: NAME,
        mailbox: Mailbox {
            capacity: usize::from(config.capacity),
            concurrency: usize::from(config.concurrency),
        },
        retry_delay: config.retry_delay,
        time_limit: config.time_limit,
        bindings: vec![ImageUploaded::TYPE],
        once: Once::Inbox,
    }
}

/// Optimises, writes its results to `outbox` and then rings `wake`.
pub struct Optimizer {
    pub config: Config,
    pub pool: Pool,
    pub objects: Objects,
    pub writes: Writes,
    pub outbox: Outbox,
    pub wake: Wake,
    pub workers: Workers,
}

/// A try that brought no result.
enum Obstacle {
    Objects(ObjectError),
    /// A variant was not taken.
    Variant(ObjectError),
    Store(StoreError),
    /// The bucket itself cannot be seen.
    Bucket(ObjectError),
    Worker(PoolError),
    Failed(Failure),
}

impl From<PoolError> for Obstacle {
    fn from(error: PoolError) -> Self {
        Self::Worker(error)
    }
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
        let name = keys::preset(&uploaded.key);
        let Some(preset) = self.config.presets.get(name) else {
            return Outcome::Reject(Failure::new(format!("there is no preset 'spinoza.presets.{name}'")));
        };
        let begun = Instant::now();
        let done = self.optimise(delivery, &uploaded, folder, preset).await;
        metrics::image(done.as_ref().map_or("failed", |outcome| *outcome), begun.elapsed());
        match done {
            Ok(_) => {
                self.wake.wake();
                Outcome::Done
            }
            Err(Obstacle::Objects(error)) => objects_outcome(&error),
            Err(Obstacle::Variant(error)) => self.not_taken(&error).await,
            Err(Obstacle::Bucket(error)) => {
                error!(%error, "the bucket cannot be seen: check storage.bucket and its credentials");
                Outcome::Wait(Failure::of(&error))
            }
            // This machine's fault, such as a missing program or no memory for a process: no picture's.
            Err(Obstacle::Worker(error @ PoolError::Start(_))) => {
                error!(%error, "no picture can be worked on");
                Outcome::Wait(Failure::of(&error))
            }
            Err(Obstacle::Worker(error)) => Outcome::Retry(Failure::of(&error)),
            Err(Obstacle::Store(error)) if error.is_outage() => Outcome::Wait(Failure::of(&error)),
            Err(Obstacle::Store(error)) => Outcome::Retry(Failure::of(&error)),
            Err(Obstacle::Failed(failure)) => Outcome::Retry(failure),
        }
    }

    /// As deep as the step that failed: a store that is read and takes nothing is not back.
    async fn probe(&self) -> Result<(), Failure> {
        let probed = match self.writes.refusal() {
            None => self.objects.probe().await,
            Some(_) => self.write_probe().await,
        };
        probed.map_err(|error| Failure::of(&error))
    }
}

impl Optimizer {
    /// What a variant that was not taken leads to: where the store takes other objects, it is the message's own fault.
    async fn not_taken(&self, error: &ObjectError) -> Outcome {
        match self.write_probe().await {
            Ok(()) => objects_outcome(error),
            Err(ObjectError::Unavailable(_)) => Outcome::Wait(Failure::of(error)),
            Err(refused) => {
                error!(error = %refused, "no picture can be written");
                Outcome::Wait(Failure::of(error))
            }
        }
    }

    /// Tries to write, and remembers what came of it.
    async fn write_probe(&self) -> Result<(), ObjectError> {
        let probed = self.objects.probe_write().await;
        match &probed {
            Ok(()) => self.writes.are_taken(),
            Err(error) => self.writes.are_refused(error.to_string()),
        }
        probed
    }

    async fn optimise(
        &self,
        delivery: &Delivery,
        uploaded: &ImageUploaded,
        folder: &str,
        preset: &picture::Preset,
    ) -> Result<&'static str, Obstacle> {
        let made = match self.objects.get(&uploaded.key, MAX_BYTES).await {
            // Gone at the second look as well, while the bucket is there: whoever waits for it is told.
            Err(ObjectError::NotFound) if delivery.attempt() > 0 => {
                self.objects.probe().await.map_err(Obstacle::Bucket)?;
                Made::Rejected {
                    code: "missing".to_owned(),
                    reason: "The uploaded file is not there any more. Upload it again.".to_owned(),
                }
            }
            original => self.make(original?, uploaded, preset).await?,
        };
        match made {
            Made::Rejected { code, reason } => {
                info!(upload = %uploaded.upload, code, "rejected");
                self.tell(delivery, &ImageRejected { upload: uploaded.upload, code, reason }).await?;
                Ok("rejected")
            }
            Made::Variants { variants, thumbhash } => {
                let variants = self.store(folder, variants).await?;
                let thumbhash = Some(hex::encode(thumbhash));
                self.tell(delivery, &ImageOptimized { upload: uploaded.upload, variants, thumbhash }).await?;
                Ok("optimized")
            }
        }
    }

    async fn make(
        &self,
        original: bytes::Bytes,
        uploaded: &ImageUploaded,
        preset: &picture::Preset,
    ) -> Result<Made, Obstacle> {
        metrics::image_bytes("original", u64::try_from(original.len()).unwrap_or(u64::MAX));
        // A store's own notification knows no digest.
        if uploaded.digest.as_ref().is_some_and(|digest| hex::encode(sha256(&original)) != *digest) {
            let why = "the object is not what was uploaded: its digest differs";
            return Err(Obstacle::Failed(Failure::new(why)));
        }
        let span = Span::new(Kind::Internal, || "optimize picture".to_owned());
        Ok(span.run(self.workers.make(original, preset)).await?)
    }

    /// Writes the variants under names made of their content: a second time writes the same.
    async fn store(&self, folder: &str, list: Vec<picture::Variant>) -> Result<Vec<Variant>, Obstacle> {
        let writes = list.into_iter().map(|variant| async move {
            let (format, extension) = (variant.format.media_type(), variant.format.extension());
            let key = keys::variant(folder, variant.width, extension, &variant.bytes);
            let bytes = u64::try_from(variant.bytes.len()).unwrap_or(u64::MAX);
            let put = self.objects.put(&key, format, bytes, variant.bytes.into());
            put.await.map_err(Obstacle::Variant)?;
            metrics::image_bytes("variants", bytes);
            Ok(Variant {
                key,
                format: format.to_owned(),
                width: variant.width,
                height: variant.height,
                bytes,
            })
        });
        futures_util::future::try_join_all(writes).await
    }

    /// The result and the mark that this message is done with: both or neither.
    async fn tell<T: EventData + Sync>(&self, delivery: &Delivery, data: &T) -> Result<(), Obstacle> {
        let about = About { subject: subject(delivery), version: version(delivery), trace: delivery.place() };
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

/// A store that is away, or that refuses *us* (a wrong bucket, key or clock), is waited for; an object that is missing, larger than any upload,
/// or that the store refuses for what it is, is the message's own fault.
pub fn objects_outcome(error: &ObjectError) -> Outcome {
    match error {
        ObjectError::NotFound
        | ObjectError::TooLarge(_)
        | ObjectError::Partly(_)
        | ObjectError::Refused(_) => Outcome::Retry(Failure::of(error)),
        ObjectError::Unavailable(_) => Outcome::Wait(Failure::of(error)),
        ObjectError::Misconfigured(_) | ObjectError::Config(_) => {
            error!(%error, "no picture can be read, written or removed");
            Outcome::Wait(Failure::of(error))
        }
    }
}

/// The version of the account that the upload brought about, as its event carries it: a result changes no account.
fn version(delivery: &Delivery) -> Option<i64> {
    delivery.event().extension("version")?.to_string().parse().ok()
}
