//! The pool of workers: how many there are, how much memory all their jobs may take together, how long one may take, and what a lost
//! worker means for the file that it had.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use orrery_picture::{Limits, Preset, Rejection, Variant, cost, read_header};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::{info, warn};

use crate::{
    process::{Answered, Launch, Worker, describe, was_killed},
    protocol::{Answer, Job},
};

/// What memory is counted in.
const UNIT_BYTES: u64 = 1024 * 1024;

/// How long a worker may take until it greets.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a worker whose output has ended may take until its process has.
const END_LIMIT: Duration = Duration::from_secs(2);

/// The pool's bounds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Workers.
    pub workers: u16,
    /// What all jobs at work may take together, in bytes; a file that needs more is refused.
    pub memory_bytes: u64,
    /// How long one file may take.
    pub time_limit: Duration,
    /// What a file may measure.
    pub limits: Limits,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// Its variants.
    Variants {
        /// Largest first.
        variants: Vec<Variant>,
        /// A placeholder (ThumbHash).
        thumbhash: Vec<u8>,
    },
    /// It will never have any.
    Rejected {
        /// A stable name of the reason.
        code: String,
        /// The reason, a sentence for whoever uploaded it.
        reason: String,
    },
}

impl Made {
    fn rejected(code: &str, reason: impl Into<String>) -> Self {
        Self::Rejected { code: code.to_owned(), reason: reason.into() }
    }
}

/// Why nothing became of a file, which is not the file's fault.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No worker can be started.
    #[error("no picture worker can be started: {0}")]
    Start(#[source] io::Error),
    /// A worker was ended from outside.
    #[error("the picture worker was ended: {0}")]
    Ended(String),
    /// A step of ours failed.
    #[error("a picture could not be made: {0}")]
    Failed(String),
    /// The pool is closed.
    #[error("the pool of picture workers is closed")]
    Closed,
}

/// Workers that wait for files; a clone is the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    launch: Launch,
    settings: Settings,
    idle: Mutex<Vec<Worker>>,
    places: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

impl Pool {
    /// A pool that starts its workers when they are first needed.
    #[must_use]
    pub fn new(launch: Launch, settings: Settings) -> Self {
        let places = Arc::new(Semaphore::new(usize::from(settings.workers)));
        let memory = Arc::new(Semaphore::new(usize::try_from(units(settings.memory_bytes)).unwrap_or(0)));
        Self(Arc::new(Inner { launch, settings, idle: Mutex::default(), places, memory }))
    }

    /// Starts every worker, so that the first files need not wait for it.
    ///
    /// # Errors
    /// None can be started.
    pub async fn warm(&self) -> Result<(), PoolError> {
        while self.0.idle.lock().await.len() < usize::from(self.0.settings.workers) {
            let worker = self.start().await?;
            self.0.idle.lock().await.push(worker);
        }
        Ok(())
    }

    /// Makes the preset's variants of a file, once there is memory and a worker for it.
    ///
    /// # Errors
    /// Nothing became of it, and that is not its fault.
    pub async fn make(&self, file: Bytes, preset: &Preset) -> Result<Made, PoolError> {
        let settings = &self.0.settings;
        let header =
            match read_header(&file).and_then(|header| settings.limits.check(&header).map(|()| header)) {
                Ok(header) => header,
                Err(fault) => {
                    let rejection = Rejection::from(fault);
                    return Ok(Made::rejected(rejection.code(), rejection.to_string()));
                }
            };
        let cost = cost(&header, u64::try_from(file.len()).unwrap_or(u64::MAX), preset).bytes;
        if cost > settings.memory_bytes {
            let megabytes = |bytes: u64| bytes.div_ceil(UNIT_BYTES);
            let reason = format!(
                "The picture needs {} MiB of memory while it is worked on; at most {} are allowed. Make it smaller, or save it with \
                 8 bits a colour, and upload it again.",
                megabytes(cost),
                megabytes(settings.memory_bytes)
            );
            return Ok(Made::rejected("image_needs_too_much_memory", reason));
        }
        // Memory first: who waits for much of it must not hold a place that others could use.
        let _memory = self.reserve(cost).await?;
        let _place = Arc::clone(&self.0.places).acquire_owned().await.map_err(|_| PoolError::Closed)?;
        let idle = self.0.idle.lock().await.pop();
        let mut worker = match idle {
            Some(worker) => worker,
            None => self.start().await?,
        };
        let job = Job {
            file_bytes: u64::try_from(file.len()).unwrap_or(u64::MAX),
            preset: preset.clone(),
            max_pixels: settings.limits.max_pixels,
            max_side: settings.limits.max_side,
            min_side: settings.limits.min_side,
            memory_bytes: cost,
            cpu_seconds: settings.time_limit.as_secs().max(1),
        };
        match timeout(settings.time_limit, worker.run(&job, &file)).await {
            Ok(Ok(answered)) => {
                self.0.idle.lock().await.push(worker);
                made(answered)
            }
            Ok(Err(error)) => lost(worker, &error).await,
            Err(_) => {
                if let Err(error) = worker.end().await {
                    warn!(%error, "a picture worker that took too long could not be ended");
                }
                info!("a picture took too long, its worker is replaced");
                Ok(Made::rejected(
                    "image_takes_too_long",
                    format!(
                        "The picture took longer than {:?} to be worked on. Save it again and upload that.",
                        settings.time_limit
                    ),
                ))
            }
        }
    }

    async fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit, PoolError> {
        let units = u32::try_from(units(bytes)).unwrap_or(u32::MAX);
        Arc::clone(&self.0.memory).acquire_many_owned(units).await.map_err(|_| PoolError::Closed)
    }

    async fn start(&self) -> Result<Worker, PoolError> {
        let start = Worker::start(&self.0.launch, self.0.settings.memory_bytes);
        let worker = timeout(START_LIMIT, start)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(PoolError::Start)?;
        if worker.missing.is_empty() {
            info!("a picture worker is confined by limits, landlock and seccomp");
        } else {
            warn!(missing = worker.missing.join("; "), "a picture worker is confined less than it could be");
        }
        Ok(worker)
    }
}

/// Whole units, rounded so that what is refused never waits for ever: the budget down, a job up to it.
const fn units(bytes: u64) -> u64 {
    bytes / UNIT_BYTES
}

fn made(Answered { answer, files }: Answered) -> Result<Made, PoolError> {
    match answer {
        Answer::Made { variants, thumbhash } => {
            let variants = variants
                .into_iter()
                .zip(files)
                .map(|(variant, bytes)| Variant {
                    width: variant.width,
                    height: variant.height,
                    format: variant.format,
                    bytes,
                })
                .collect();
            Ok(Made::Variants { variants, thumbhash })
        }
        Answer::Rejected { code, reason } => Ok(Made::Rejected { code, reason }),
        Answer::Failed { cause } => Err(PoolError::Failed(cause)),
    }
}

/// The worker went away, or spoke no sense, while it had a file.
async fn lost(mut worker: Worker, error: &io::Error) -> Result<Made, PoolError> {
    let by_itself = timeout(END_LIMIT, worker.ended()).await.ok();
    let status = match by_itself {
        Some(Ok(status)) if was_killed(status) => return Err(PoolError::Ended(describe(status))),
        Some(Ok(status)) => describe(status),
        // It lives, and what it said was no answer.
        _ => {
            worker.end().await.map_err(PoolError::Start)?;
            format!("its answer made no sense: {error}")
        }
    };
    warn!(status, "a picture worker was lost to a picture, which is rejected; the worker is replaced");
    Ok(Made::rejected(
        "image_breaks_decoder",
        "The picture could not be decoded: the decoder failed on it. Save it again as JPEG, PNG or WebP and upload that.",
    ))
}
