//! The bounded pool of hashing threads: a full queue refuses at once, and no request's own thread ever hashes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvError, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use orrery_actors::{
    random::Random,
    supervise::{Held, Threads},
};
use tokio::sync::oneshot;
use tracing::error;
use zeroize::Zeroizing;
use zxcvbn::zxcvbn;

use super::Hasher;

/// After so long without a hash their memory goes back to the system; under load it is kept. To have it again costs a hash a fifth more.
const IDLE: Duration = Duration::from_millis(50);

/// A password was not worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// More wait than may.
    #[error("too many passwords wait to be hashed")]
    Full,
    /// The work failed; it was logged.
    #[error("the password could not be hashed")]
    Failed,
}

enum Job {
    Hash {
        password: Zeroizing<String>,
        inputs: Vec<String>,
        score: u8,
        answer: oneshot::Sender<Option<Hashed>>,
    },
    Verify {
        password: Zeroizing<String>,
        phc: String,
        answer: oneshot::Sender<Option<bool>>,
    },
}

/// What became of a new password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hashed {
    /// Its PHC string.
    Phc(String),
    /// Too easily guessed; what would make it better.
    Weak(String),
}

/// Threads that hash.
#[derive(Clone)]
pub struct PasswordPool {
    queue: mpsc::SyncSender<(Job, Held)>,
    /// Where they are shown and watched.
    threads: Threads,
    /// Verified against when there is no account, so that both take the same time.
    decoy: Arc<str>,
}

impl PasswordPool {
    /// Starts `workers` threads behind a queue of `capacity`. They end when the last handle is dropped.
    ///
    /// # Errors
    /// When a thread cannot be started, or the decoy not be hashed.
    pub fn start(workers: usize, capacity: usize, random: Random, threads: Threads) -> std::io::Result<Self> {
        let hasher = Hasher::new();
        let decoy = hasher.hash(&random.bytes::<16>(), &random.bytes()).map_err(std::io::Error::other)?;
        let (queue, jobs) = mpsc::sync_channel(capacity);
        let jobs = Arc::new(Jobs { queue: Mutex::new(jobs), at_work: AtomicUsize::new(0) });
        for n in 0..workers {
            let (jobs, random, hasher) = (Arc::clone(&jobs), random.clone(), hasher.clone());
            let threads = threads.clone();
            thread::Builder::new()
                .name(format!("password-{n}"))
                .spawn(move || work(&jobs, &hasher, &random, &threads))?;
        }
        Ok(Self { queue, threads, decoy: decoy.into() })
    }

    /// Hashes a new password whose zxcvbn score is at least `score`; `inputs` are words that make it easy to guess.
    ///
    /// # Errors
    /// When the queue is full.
    pub async fn hash(
        &self,
        password: Zeroizing<String>,
        inputs: Vec<String>,
        score: u8,
    ) -> Result<Hashed, PoolError> {
        let (answer, answered) = oneshot::channel();
        self.submit(Job::Hash { password, inputs, score, answer })?;
        answered.await.ok().flatten().ok_or(PoolError::Failed)
    }

    /// Whether the password is the one of `phc`; without one it takes the same time and is wrong.
    ///
    /// # Errors
    /// When the queue is full.
    pub async fn verify(&self, password: Zeroizing<String>, phc: Option<String>) -> Result<bool, PoolError> {
        let known = phc.is_some();
        let phc = phc.unwrap_or_else(|| self.decoy.to_string());
        let (answer, answered) = oneshot::channel();
        self.submit(Job::Verify { password, phc, answer })?;
        let matches = answered.await.ok().flatten().ok_or(PoolError::Failed)?;
        Ok(matches && known)
    }

    fn submit(&self, job: Job) -> Result<(), PoolError> {
        self.queue.try_send((job, self.threads.take())).map_err(|_| PoolError::Full)
    }
}

/// What the threads take their jobs from.
struct Jobs<T> {
    queue: Mutex<mpsc::Receiver<T>>,
    /// Jobs that were taken and are not finished.
    at_work: AtomicUsize,
}

fn work(jobs: &Jobs<(Job, Held)>, hasher: &Hasher, random: &Random, threads: &Threads) {
    loop {
        let Ok((job, held)) = jobs.next(hasher) else { return };
        // A panic costs one password; the thread goes on.
        let answered = threads.run(|| answer(hasher, job, random)).is_some();
        jobs.at_work.fetch_sub(1, Ordering::Relaxed);
        if answered {
            held.done();
        }
    }
}

impl<T> Jobs<T> {
    /// The next one. One thread waits for it, and for the time to give memory back; the others wait for that one.
    fn next(&self, hasher: &Hasher) -> Result<T, RecvError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let job = loop {
            // Where nobody hashes and nothing is kept, nothing will be until the next job.
            if self.at_work.load(Ordering::Relaxed) == 0 && !hasher.keeps_memory() {
                break queue.recv()?;
            }
            match queue.recv_timeout(IDLE) {
                Ok(job) => break job,
                Err(RecvTimeoutError::Timeout) => hasher.release(IDLE),
                Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
            }
        };
        self.at_work.fetch_add(1, Ordering::Relaxed);
        Ok(job)
    }
}

/// Answers one job; a caller that has gone needs none.
fn answer(hasher: &Hasher, job: Job, random: &Random) {
    match job {
        Job::Hash { answer, .. } if answer.is_closed() => {}
        Job::Verify { answer, .. } if answer.is_closed() => {}
        Job::Hash { password, inputs, score, answer } => {
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let strength = zxcvbn(&password, &inputs);
            let hashed = if u8::from(strength.score()) < score {
                let advice = strength.feedback().map_or_else(String::new, |feedback| {
                    let warning = feedback.warning().map(|warning| warning.to_string());
                    let suggestions = feedback.suggestions().iter().map(ToString::to_string);
                    warning.into_iter().chain(suggestions).collect::<Vec<_>>().join(" ")
                });
                Some(Hashed::Weak(advice))
            } else {
                logged(hasher.hash(password.as_bytes(), &random.bytes())).map(Hashed::Phc)
            };
            let _gone = answer.send(hashed).is_err();
        }
        Job::Verify { password, phc, answer } => {
            let _gone = answer.send(logged(hasher.verify(password.as_bytes(), &phc))).is_err();
        }
    }
}

fn logged<T>(result: Result<T, impl std::fmt::Display>) -> Option<T> {
    result.map_err(|error| error!(%error, "a password was not hashed")).ok()
}

#[cfg(test)]
mod tests {
    use orrery_actors::supervise::{Limits, Supervisor};

    use super::*;

    fn threads() -> Threads {
        let main = Box::leak(Box::new(tokio::runtime::Runtime::new().unwrap()));
        Supervisor::new(main, Random::seeded(1), Limits::default()).unwrap().threads("passwords")
    }

    #[tokio::test]
    async fn a_weak_password_is_told_how_to_be_better() {
        let pool = PasswordPool::start(1, 4, Random::seeded(1), threads()).unwrap();
        let hashed = pool.hash("password1".to_owned().into(), vec![], 3).await.unwrap();
        assert!(matches!(hashed, Hashed::Weak(advice) if !advice.is_empty()));
    }

    #[tokio::test]
    async fn an_unknown_account_verifies_nothing() {
        let pool = PasswordPool::start(1, 4, Random::seeded(1), threads()).unwrap();
        assert_eq!(pool.verify("x".to_owned().into(), None).await, Ok(false));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (queue, _jobs) = mpsc::sync_channel(0);
        let pool = PasswordPool { queue, threads: threads(), decoy: "".into() };
        assert_eq!(pool.verify("x".to_owned().into(), None).await, Err(PoolError::Full));
    }
}
