//! What an actor promises. What several files need lives here.

mod lives;
mod mailbox;
mod shutdown;
mod threads;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix::Message;
use tokio::{runtime::Runtime, sync::Semaphore};

use super::*;
use crate::random::Random;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(20);

fn runtime() -> &'static Runtime {
    Box::leak(Box::new(Runtime::new().unwrap()))
}

fn supervisor(main: &'static Runtime) -> Supervisor {
    let limits = Limits {
        grace: Duration::from_secs(5),
        stall: Duration::from_millis(300),
        blocked: Duration::from_secs(60),
    };
    Supervisor::new(main, Random::seeded(1), limits).unwrap()
}

fn only(supervisor: &Supervisor) -> ActorStatus {
    let mut status = supervisor.status();
    assert_eq!(status.len(), 1);
    status.remove(0)
}

async fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "the condition did not come true in {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What the tests see of an actor, and how they let its messages go on.
#[derive(Clone)]
struct Stage {
    lives: Arc<AtomicUsize>,
    /// A message goes on for each permit.
    go: Arc<Semaphore>,
    at_work: Arc<AtomicUsize>,
    most_at_work: Arc<AtomicUsize>,
    effects: Arc<AtomicU64>,
}

impl Default for Stage {
    fn default() -> Self {
        Self {
            lives: Arc::default(),
            go: Arc::new(Semaphore::new(0)),
            at_work: Arc::default(),
            most_at_work: Arc::default(),
            effects: Arc::default(),
        }
    }
}

impl Stage {
    fn effects(&self) -> u64 {
        self.effects.load(Ordering::SeqCst)
    }

    fn start(&self, supervisor: &Supervisor, mailbox: Mailbox) -> ActorRef<Player> {
        self.start_as("player", supervisor, mailbox)
    }

    fn start_as(&self, name: &str, supervisor: &Supervisor, mailbox: Mailbox) -> ActorRef<Player> {
        let stage = self.clone();
        supervisor.start_actor(name, mailbox, move || Player {
            life: stage.lives.fetch_add(1, Ordering::SeqCst),
            stage: stage.clone(),
        })
    }
}

/// An actor that does what its messages say.
struct Player {
    life: usize,
    stage: Stage,
}

impl Actor for Player {}

/// Waits for a permit, then has an effect and answers with the number of the life that began it.
#[derive(Message)]
#[rtype(result = "usize")]
struct Play;

/// Panics in the future of the message.
#[derive(Message)]
#[rtype(result = "()")]
struct Fail;

/// Panics while the state is held, once it is told to.
#[derive(Message)]
#[rtype(result = "()")]
struct Break(std::sync::mpsc::Receiver<()>);

impl Handle<Play> for Player {
    fn handle(&mut self, _: Play) -> impl Future<Output = usize> + 'static {
        let (life, stage) = (self.life, self.stage.clone());
        async move {
            let at_work = stage.at_work.fetch_add(1, Ordering::SeqCst) + 1;
            stage.most_at_work.fetch_max(at_work, Ordering::SeqCst);
            stage.go.acquire().await.unwrap().forget();
            stage.effects.fetch_add(1, Ordering::SeqCst);
            stage.at_work.fetch_sub(1, Ordering::SeqCst);
            life
        }
    }
}

impl Handle<Fail> for Player {
    #[expect(clippy::manual_async_fn, reason = "an async function would borrow the actor")]
    fn handle(&mut self, _: Fail) -> impl Future<Output = ()> + 'static {
        async { panic!("as told") }
    }
}

impl Handle<Break> for Player {
    fn handle(&mut self, Break(now): Break) -> impl Future<Output = ()> + 'static {
        now.recv_timeout(LIMIT).unwrap();
        assert!(self.stage.lives.load(Ordering::SeqCst) == 0, "the state is broken");
        std::future::ready(())
    }
}
