//! The claims of one consumer: gathers what its deliveries ask of the inbox, so that many share a statement and its commit, and prolongs
//! what is held. The statements live in `orrery_store::inbox`.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use orrery_observability::trace::{Place, Span};
use orrery_store::{
    Pool, StoreError,
    inbox::{self, Claim, Claimed, Release},
};
use orrery_supervise::{Progress, backoff::Backoff, random::Random};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::warn;
use uuid::Uuid;

use crate::spans;

/// How long a claim lasts without being prolonged; what a killed process was at work on waits so long.
pub const LEASE: Duration = Duration::from_secs(4);
/// How often what is held is prolonged: three times before a claim ends.
const RENEWAL: Duration = Duration::from_secs(1);
/// How long it may take to tell a message that cannot be claimed from a database where none can.
const PROBE: Duration = Duration::from_secs(1);
/// The most that share one statement.
const BATCH: usize = 256;

/// An answer that several share.
pub type Answer<T> = Result<T, Arc<StoreError>>;

/// With where each was asked, if that is recorded: the statement that they share is linked to it.
enum Request {
    Claim(Claim, Option<Place>, oneshot::Sender<Answer<Claimed>>),
    Done(Happened),
    Release { claim: Claim, how: Release, place: Option<Place>, answer: oneshot::Sender<()> },
    Forget(Uuid),
}

/// Where deliveries ask; clones ask at the same place.
#[derive(Clone)]
pub struct Claims(mpsc::Sender<Request>);

/// What answers them.
pub struct ClaimBatcher {
    handler: &'static str,
    pool: Pool,
    random: Random,
    progress: Progress,
    requests: mpsc::Receiver<Request>,
    /// What is claimed and not yet answered for.
    held: HeldClaims,
    /// Effects that happened and are not written down yet.
    happened: Vec<Happened>,
    /// The pauses between tries to write them down.
    backoff: Backoff,
    next_try: Instant,
}

/// A claim whose effect happened.
struct Happened {
    claim: Claim,
    place: Option<Place>,
    answer: oneshot::Sender<()>,
}

/// Claims by their tokens, shared with who prolongs them.
type HeldClaims = Arc<Mutex<HashMap<Uuid, Claim>>>;

fn lock(held: &HeldClaims) -> MutexGuard<'_, HashMap<Uuid, Claim>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The requests of one round that are answered in it.
#[derive(Default)]
struct Round {
    claims: Vec<(Claim, oneshot::Sender<Answer<Claimed>>)>,
    released: Vec<(Claim, Release, oneshot::Sender<()>)>,
    /// Where they were asked.
    claim_places: Vec<Place>,
    release_places: Vec<Place>,
}

/// The batcher has ended, and with it the consumer.
fn ended<E>(_: E) -> Arc<StoreError> {
    Arc::new(StoreError::ClaimsEnded)
}

impl Claims {
    /// Claims a message.
    ///
    /// # Errors
    /// When the database refuses or is away.
    pub async fn claim(&self, claim: Claim) -> Answer<Claimed> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Request::Claim(claim, Place::recorded(), answer)).await.map_err(ended)?;
        answered.await.map_err(ended)?
    }

    /// Writes down that an effect happened. While the database is away this waits, since handing the message back would double it.
    pub async fn done(&self, claim: Claim) {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Done(Happened { claim, place: Place::recorded(), answer }), answered).await;
    }

    /// Gives a claim back. A failure costs only time: the claim ends by itself.
    pub async fn release(&self, claim: Claim, how: Release) {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Release { claim, how, place: Place::recorded(), answer }, answered).await;
    }

    /// Prolongs a claim no longer: its handler settled it.
    pub async fn forget(&self, token: Uuid) {
        // A batcher that has ended prolongs nothing.
        let _ended = self.0.send(Request::Forget(token)).await.is_err();
    }

    async fn ask(&self, request: Request, answered: oneshot::Receiver<()>) {
        // A batcher that has ended writes nothing more, and its consumer ends with it.
        let _ended = self.0.send(request).await.is_err() || answered.await.is_err();
    }
}

impl ClaimBatcher {
    /// A batcher for the deliveries of `handler`, and where they ask.
    pub fn new(handler: &'static str, pool: Pool, random: Random, progress: Progress) -> (Claims, Self) {
        let (sender, requests) = mpsc::channel(BATCH);
        let batcher = Self {
            handler,
            pool,
            random,
            progress,
            requests,
            held: HeldClaims::default(),
            happened: Vec::new(),
            backoff: Backoff::dependency(),
            next_try: Instant::now(),
        };
        (Claims(sender), batcher)
    }

    /// Answers until nobody can ask any more. What is held is prolonged beside that: a claim that waits for the database must not cost those that are at work.
    pub async fn run(self) {
        let renewing = renew(self.handler, self.pool.clone(), Arc::clone(&self.held));
        tokio::select! {
            () = self.answer() => {}
            () = renewing => {}
        }
    }

    async fn answer(mut self) {
        let mut requests = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                taken = self.requests.recv_many(&mut requests, BATCH) => {
                    if taken == 0 {
                        return;
                    }
                    let mut round = Round::default();
                    for request in requests.drain(..) {
                        self.sort(&mut round, request);
                    }
                    let Round { claims, released, claim_places, release_places } = round;
                    self.batch("release", &release_places, released.len()).run(self.release(released)).await;
                    self.write_happened().await;
                    self.batch("claim", &claim_places, claims.len()).run(self.claim(claims)).await;
                }
                () = tokio::time::sleep_until(self.next_try), if !self.happened.is_empty() => {
                    self.write_happened().await;
                }
            }
        }
    }

    fn batch(&self, name: &str, places: &[Place], messages: usize) -> Span {
        spans::batch(places, messages, || format!("{name} {}", self.handler))
    }

    fn sort(&mut self, round: &mut Round, request: Request) {
        match request {
            Request::Claim(claim, place, answer) => {
                round.claim_places.extend(place);
                round.claims.push((claim, answer));
            }
            Request::Done(happened) => {
                lock(&self.held).remove(&happened.claim.token);
                self.happened.push(happened);
            }
            Request::Release { claim, how, place, answer } => {
                lock(&self.held).remove(&claim.token);
                round.release_places.extend(place);
                round.released.push((claim, how, answer));
            }
            Request::Forget(token) => {
                lock(&self.held).remove(&token);
            }
        }
    }

    async fn claim(&mut self, asked: Vec<(Claim, oneshot::Sender<Answer<Claimed>>)>) {
        let mut keys = HashSet::new();
        // The same message twice in one round: the second meets the first at work.
        let (first, again): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|(claim, _)| keys.insert(claim.key.clone()));
        again.into_iter().for_each(|(_, answer)| tell(answer, Ok(Claimed::Live)));
        if first.is_empty() {
            return;
        }
        let (claims, answers): (Vec<_>, Vec<_>) = first.into_iter().unzip();
        let claims: Arc<[Claim]> = claims.into();
        match self.claim_all(Arc::clone(&claims)).await {
            Ok(claimed) => {
                for ((claim, answer), claimed) in claims.iter().zip(answers).zip(claimed) {
                    self.claimed(claim, answer, Ok(claimed));
                }
            }
            Err(error) if error.is_outage() => refuse(answers, error),
            Err(error) => match inbox::is_writable(&self.pool, PROBE).await {
                Ok(false) => refuse(answers, StoreError::Unwritable(Box::new(error))),
                // One that the database cannot take must not cost the others.
                _ if claims.len() > 1 => self.claim_each(&claims, answers).await,
                Ok(true) => refuse(answers, error),
                // Whose fault it was cannot be told, so it is not the message's.
                Err(unknown) => refuse(answers, unknown),
            },
        }
    }

    /// Claims one after another, until the database is away.
    async fn claim_each(&mut self, claims: &[Claim], answers: Vec<oneshot::Sender<Answer<Claimed>>>) {
        let mut claims = claims.iter().zip(answers);
        while let Some((claim, answer)) = claims.next() {
            let alone = self.claim_all(Arc::from([claim.clone()])).await;
            let claimed =
                alone.map_err(Arc::new).and_then(|claimed| claimed.first().copied().ok_or_else(|| ended(())));
            let away = claimed.as_ref().err().filter(|error| error.is_outage()).map(Arc::clone);
            self.claimed(claim, answer, claimed);
            if let Some(away) = away {
                return claims.for_each(|(_, answer)| tell(answer, Err(Arc::clone(&away))));
            }
        }
    }

    fn claimed(&mut self, claim: &Claim, answer: oneshot::Sender<Answer<Claimed>>, claimed: Answer<Claimed>) {
        if matches!(claimed, Ok(Claimed::Ours)) {
            lock(&self.held).insert(claim.token, claim.clone());
        }
        tell(answer, claimed);
    }

    async fn claim_all(&self, claims: Arc<[Claim]>) -> Result<Vec<Claimed>, StoreError> {
        let (handler, asked) = (self.handler, Instant::now());
        let of = Arc::clone(&claims);
        let claimed = self.pool.retry(move |mut connection| {
            let claims = Arc::clone(&of);
            async move { inbox::claim(&mut connection, handler, &claims, LEASE.as_secs_f64()).await }
        });
        let claimed = claimed.await?;
        // The lease runs since the server began. With half of it gone somebody else may soon have it: nothing is begun on it.
        if asked.elapsed() > LEASE / 2 {
            let ours = claims.iter().zip(&claimed).filter(|(_, claimed)| **claimed == Claimed::Ours);
            let ours: Vec<Claim> = ours.map(|(claim, _)| claim.clone()).collect();
            let released = self.pool.run(move |mut connection| async move {
                let untouched = vec![Release::Untouched; ours.len()];
                inbox::release(&mut connection, handler, &ours, &untouched).await
            });
            if let Err(error) = released.await {
                warn!(handler, %error, "claims that came late were not given back, they end by themselves");
            }
            return Err(StoreError::Silent(asked.elapsed()));
        }
        Ok(claimed)
    }

    async fn write_happened(&mut self) {
        if self.happened.is_empty() || Instant::now() < self.next_try {
            return;
        }
        let handler = self.handler;
        let claims: Vec<Claim> = self.happened.iter().map(|happened| happened.claim.clone()).collect();
        let places: Vec<Place> = self.happened.iter().filter_map(|happened| happened.place.clone()).collect();
        let written = self.pool.run(move |mut connection| async move {
            inbox::record_done(&mut connection, handler, &claims).await
        });
        match self.batch("settle", &places, self.happened.len()).run(written).await {
            Ok(()) => {
                self.backoff.reset();
                self.happened.drain(..).for_each(|happened| tell(happened.answer, ()));
            }
            Err(error) => {
                warn!(handler, %error, "effects happened and are not written down yet");
                // To wait for the database is all that can be done.
                self.progress.advance();
                self.next_try = Instant::now() + self.backoff.next(&self.random);
            }
        }
    }

    async fn release(&self, asked: Vec<(Claim, Release, oneshot::Sender<()>)>) {
        if asked.is_empty() {
            return;
        }
        let handler = self.handler;
        let claims: Vec<Claim> = asked.iter().map(|(claim, ..)| claim.clone()).collect();
        let releases: Vec<Release> = asked.iter().map(|(_, how, _)| *how).collect();
        let released = self.pool.run(move |mut connection| async move {
            inbox::release(&mut connection, handler, &claims, &releases).await
        });
        if let Err(error) = released.await {
            warn!(handler, %error, "claims were not given back, they end by themselves");
        }
        asked.into_iter().for_each(|(.., answer)| tell(answer, ()));
    }
}

/// Prolongs what is held, for ever. A claim that is lost all the same costs nothing here: an effect in the database rolls back at its mark.
async fn renew(handler: &'static str, pool: Pool, held: HeldClaims) {
    let mut renewal = tokio::time::interval(RENEWAL);
    renewal.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        renewal.tick().await;
        let claims: Vec<Claim> = lock(&held).values().cloned().collect();
        if claims.is_empty() {
            continue;
        }
        let renewed = pool.retry(move |mut connection| {
            let claims = claims.clone();
            async move { inbox::renew(&mut connection, handler, &claims, LEASE.as_secs_f64()).await }
        });
        if let Err(error) = renewed.await {
            warn!(handler, %error, "claims could not be prolonged");
        }
    }
}

fn refuse(answers: Vec<oneshot::Sender<Answer<Claimed>>>, error: StoreError) {
    let error = Arc::new(error);
    answers.into_iter().for_each(|answer| tell(answer, Err(Arc::clone(&error))));
}

/// Who asked may have been cut off meanwhile.
fn tell<T>(answer: oneshot::Sender<T>, value: T) {
    let _gone = answer.send(value).is_err();
}
