use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use actix::{Actor, Context, Handler, ResponseFuture};
use actix_rt::Arbiter;
use tokio::runtime::Runtime;

use super::*;
use crate::random::Random;

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

async fn until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "the condition did not come true in 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Starts a child that only waits for the end.
fn start_idle(supervisor: &Supervisor) {
    let signal = supervisor.shutdown_signal();
    supervisor.start("idle", move |_| {
        let mut signal = signal.clone();
        async move {
            signal.requested().await;
            Ok::<_, Infallible>(())
        }
    });
}

#[test]
fn a_child_that_panics_is_built_anew_and_its_neighbour_lives_on() {
    let main = runtime();
    let supervisor = supervisor(main);
    let lives = Arc::new(AtomicU32::new(0));
    let (counted, shutdown) = (Arc::clone(&lives), supervisor.shutdown_signal());
    supervisor.start("panics", move |_| {
        let life = counted.fetch_add(1, Ordering::Relaxed);
        assert!(life != 1, "in its factory");
        let mut shutdown = shutdown.clone();
        async move {
            assert!(life >= 2, "life {life}");
            shutdown.requested().await;
            Ok::<_, Infallible>(())
        }
    });
    start_idle(&supervisor);
    main.block_on(until(|| lives.load(Ordering::Relaxed) == 3));
    let status = supervisor.status();
    assert_eq!((status[0].restarts, status[1].restarts), (2, 0));
    assert_eq!(status[0].last_error.as_deref(), Some("panicked: its factory panicked"));
    main.block_on(supervisor.shutdown());
    assert!(supervisor.status().iter().all(|child| child.state == ChildState::Stopped));
}

#[test]
fn a_child_without_progress_is_cancelled_and_an_idle_one_is_not() {
    let main = runtime();
    let supervisor = supervisor(main);
    let lives = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&lives);
    supervisor.start("stalls", move |pulse| {
        let life = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let _held = (life == 0).then(|| pulse.take());
            std::future::pending::<Result<(), Infallible>>().await
        }
    });
    start_idle(&supervisor);
    main.block_on(until(|| lives.load(Ordering::Relaxed) == 2));
    let status = supervisor.status();
    assert_eq!((status[0].restarts, status[0].depth, status[1].restarts), (1, 0, 0));
    let error = status[0].last_error.as_deref().unwrap_or_default();
    assert!(error.starts_with("no progress for 0 s with 1 at hand"), "{error}");
}

struct Moody {
    life: u32,
}

impl Actor for Moody {
    type Context = Context<Self>;
}

impl Handler<Ping> for Moody {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Ping, _: &mut Self::Context) -> Self::Result {
        match self.life {
            0 => Box::pin(std::future::pending()),
            1 => panic!("in a bad mood"),
            _ => Box::pin(std::future::ready(())),
        }
    }
}

#[test]
fn an_actor_that_never_answers_or_panics_is_built_anew() {
    let main = runtime();
    let supervisor = supervisor(main);
    let lives = Arc::new(AtomicU32::new(0));
    let (counted, kept) = (Arc::clone(&lives), supervisor.clone());
    let system = std::thread::spawn(move || {
        actix_rt::System::with_tokio_rt(|| main).block_on(async move {
            let arbiter = Arbiter::with_tokio_rt(move || main);
            let actor = kept.start_actor("moody", arbiter, move || Moody {
                life: counted.fetch_add(1, Ordering::Relaxed),
            });
            until(|| lives.load(Ordering::Relaxed) == 3).await;
            assert_eq!(actor.send(Ping, Duration::from_secs(5)).await, Ok(()));
        });
    });
    system.join().unwrap();
    let status = supervisor.status();
    assert_eq!(status[0].restarts, 2);
    assert_eq!(status[0].last_error.as_deref(), Some("panicked: in a bad mood"));
}

#[test]
fn a_job_that_panics_costs_its_thread_nothing() {
    let supervisor = supervisor(runtime());
    let threads = supervisor.threads("pool");
    let held = threads.take();
    assert_eq!(supervisor.status()[0].depth, 1);
    assert_eq!(threads.run(|| -> u8 { panic!("a bad job") }), None);
    assert_eq!(threads.run(|| 7), Some(7));
    held.done();
    let status = supervisor.status().remove(0);
    assert_eq!((status.restarts, status.depth), (1, 0));
    assert_eq!(status.last_error.as_deref(), Some("panicked: a bad job"));
}
