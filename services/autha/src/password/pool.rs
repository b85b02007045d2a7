//! The actors whose threads work on passwords: one hashes, one scores new passwords. A full mailbox refuses at once, no request's own thread ever
//! hashes, and no login waits for a score.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use orrery_observability::metrics;
use orrery_supervise::{
    ActorRef, Mailbox, Message, SendError, Supervisor, Threads, Work, Worker, random::Random,
};
use tracing::error;

use super::{Hasher, Password, Strength, hash::HashError, strength::strength};

/// After so long without a hash their memory goes back to the system; under load it is kept. To have it again costs a hash a fifth more.
const IDLE: Duration = Duration::from_millis(50);
/// Longer than a full mailbox takes.
const LIMIT: Duration = Duration::from_secs(30);

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

/// How a password compares with a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// Another password, or no account.
    Wrong,
    /// The right one.
    Right,
    /// The right one, whose hash is not as new ones are: this is the new one.
    Upgraded(String),
}

/// Hashes a password.
#[derive(Message)]
#[rtype(result = "Option<String>")]
struct Hash {
    password: Password,
}

/// Verifies a password.
#[derive(Message)]
#[rtype(result = "Option<Verified>")]
struct Verify {
    password: Password,
    hash: String,
}

/// Scores a new password.
#[derive(Message)]
#[rtype(result = "Strength")]
struct Score {
    password: Password,
    inputs: Vec<String>,
    least: u8,
}

/// Where passwords are worked on.
#[derive(Clone)]
pub struct PasswordPool {
    hashing: ActorRef<Threads<HashingWorker>>,
    scoring: ActorRef<Threads<ScoringWorker>>,
    /// Verified against when there is no account, so that both take the same time.
    decoy: Arc<str>,
}

/// The state of one thread; the memory is shared, and there is as much of it as threads hash at once.
struct HashingWorker {
    hasher: Hasher,
    random: Random,
}

/// A thread that scores; it keeps nothing.
struct ScoringWorker;

impl PasswordPool {
    /// Starts the threads under `supervisor`: as many for hashing as `mailbox` says, one for scoring.
    ///
    /// # Errors
    /// When the decoy cannot be hashed.
    pub fn start(supervisor: &Supervisor, mailbox: Mailbox, random: &Random) -> std::io::Result<Self> {
        let hasher = Hasher::new();
        let decoy = hasher.hash(&random.bytes::<16>(), &random.bytes()).map_err(std::io::Error::other)?;
        hasher.release(Duration::ZERO);
        let random = random.clone();
        let hashing = supervisor.start_threads("autha.passwords", mailbox, move || HashingWorker {
            hasher: hasher.clone(),
            random: random.clone(),
        });
        let one = Mailbox { concurrency: 1, ..mailbox };
        let scoring = supervisor.start_threads("autha.strength", one, || ScoringWorker);
        Ok(Self { hashing, scoring, decoy: decoy.into() })
    }

    /// Whether a new password's zxcvbn score is at least `least`; `inputs` are words that make it easy to guess.
    ///
    /// # Errors
    /// When as many wait as may.
    pub async fn score(
        &self,
        password: Password,
        inputs: Vec<String>,
        least: u8,
    ) -> Result<Strength, PoolError> {
        let begun = Instant::now();
        let scored = self.scoring.send(Score { password, inputs, least }, LIMIT).await?;
        metrics::password("score", begun.elapsed());
        Ok(scored)
    }

    /// Hashes a password to a PHC string.
    ///
    /// # Errors
    /// When as many wait as may.
    pub async fn hash(&self, password: Password) -> Result<String, PoolError> {
        let begun = Instant::now();
        let hashed = self.hashing.send(Hash { password }, LIMIT).await?;
        metrics::password("hash", begun.elapsed());
        hashed.ok_or(PoolError::Failed)
    }

    /// Whether the password is the one of `hash`; without one it takes the same time and is wrong.
    ///
    /// # Errors
    /// When as many wait as may.
    pub async fn verify(&self, password: Password, hash: Option<String>) -> Result<Verified, PoolError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.to_string());
        let begun = Instant::now();
        let verified = self.hashing.send(Verify { password, hash }, LIMIT).await?;
        metrics::password("verify", begun.elapsed());
        let verified = verified.ok_or(PoolError::Failed)?;
        Ok(if known { verified } else { Verified::Wrong })
    }
}

impl From<SendError> for PoolError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Failed => Self::Failed,
            SendError::Full
            | SendError::Closed
            | SendError::Waited(_)
            | SendError::NoAnswer(_)
            | SendError::Ended => Self::Full,
        }
    }
}

impl Worker for HashingWorker {
    const REST_AFTER: Option<Duration> = Some(IDLE);

    fn rest(&mut self) {
        self.hasher.release(IDLE);
    }
}

impl Worker for ScoringWorker {}

impl Work<Hash> for HashingWorker {
    fn work(&mut self, Hash { password }: Hash) -> Option<String> {
        logged(self.hasher.hash(password.as_bytes(), &self.random.bytes()))
    }
}

impl Work<Verify> for HashingWorker {
    fn work(&mut self, Verify { password, hash }: Verify) -> Option<Verified> {
        logged(self.verify(&password, &hash))
    }
}

impl Work<Score> for ScoringWorker {
    fn work(&mut self, Score { password, inputs, least }: Score) -> Strength {
        strength(&password, &inputs, least)
    }
}

impl HashingWorker {
    fn verify(&self, password: &Password, hash: &str) -> Result<Verified, HashError> {
        if !self.hasher.verify(password.as_bytes(), hash)? {
            return Ok(Verified::Wrong);
        }
        if Hasher::is_current(hash) {
            return Ok(Verified::Right);
        }
        Ok(Verified::Upgraded(self.hasher.hash(password.as_bytes(), &self.random.bytes())?))
    }
}

fn logged<T>(result: Result<T, impl std::fmt::Display>) -> Option<T> {
    result.map_err(|error| error!(%error, "a password was not hashed")).ok()
}

#[cfg(test)]
mod tests {
    use orrery_supervise::Limits;

    use super::*;

    fn pool(mailbox: Mailbox) -> (Supervisor, PasswordPool) {
        let main = Box::leak(Box::new(tokio::runtime::Runtime::new().unwrap()));
        let random = Random::seeded(1);
        let supervisor = Supervisor::new(main, random.clone(), Limits::default()).unwrap();
        let pool = PasswordPool::start(&supervisor, mailbox, &random).unwrap();
        (supervisor, pool)
    }

    fn password() -> Password {
        Password::prepare("correct horse").unwrap()
    }

    #[tokio::test]
    async fn a_hash_of_another_system_is_upgraded_when_its_password_is_right() {
        let (_supervisor, pool) = pool(Mailbox { capacity: 4, concurrency: 1 });
        let foreign =
            "$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$cBg8D2DungRB9k76szThf5ehfyBz991ay6PT8Srwk4M"
                .to_owned();
        let upgraded = pool.verify(password(), Some(foreign)).await;
        let Ok(Verified::Upgraded(new)) = upgraded else { panic!("{upgraded:?}") };
        assert_eq!(pool.verify(password(), Some(new)).await, Ok(Verified::Right));
    }

    #[tokio::test]
    async fn an_unknown_account_verifies_nothing() {
        let (_supervisor, pool) = pool(Mailbox { capacity: 4, concurrency: 1 });
        assert_eq!(pool.verify(password(), None).await, Ok(Verified::Wrong));
    }

    #[tokio::test]
    async fn one_more_than_may_wait_is_refused_at_once() {
        let (_supervisor, pool) = pool(Mailbox { capacity: 0, concurrency: 1 });
        let verify = || pool.verify(password(), None);
        assert_eq!(tokio::join!(verify(), verify()), (Ok(Verified::Wrong), Err(PoolError::Full)));
    }
}
