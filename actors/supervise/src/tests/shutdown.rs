use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Actor, ActorError, ActorRef, ActorState, Handle, LIMIT, Life, Mailbox, Message, Play, SendError, Stage,
    Supervisor, Tick, Work, Worker, only, runtime, supervisor, until,
};

#[test]
fn what_was_taken_is_finished_and_what_waits_is_refused() {
    let main = runtime();
    let (supervisor, stage) = (supervisor(main), Stage::default());
    let player = stage.start(&supervisor, Mailbox { capacity: 1, concurrency: 1 });
    main.block_on(async {
        let send = || {
            let player = player.clone();
            tokio::spawn(async move { player.send(Play, LIMIT).await })
        };
        let at_work = send();
        until(|| only(&supervisor).at_work == 1).await;
        let waits = send();
        until(|| only(&supervisor).waiting == 1).await;
        let ending = tokio::spawn({
            let supervisor = supervisor.clone();
            async move { supervisor.shutdown().await }
        });
        assert_eq!(waits.await.unwrap(), Err(SendError::Closed));
        stage.go.add_permits(9);
        assert_eq!(at_work.await.unwrap(), Ok(0));
        ending.await.unwrap();
        assert_eq!(player.send(Play, LIMIT).await, Err(SendError::Closed));
    });
    assert_eq!((only(&supervisor).state, supervisor.live()), (ActorState::Stopped, 0));
}

/// A subscription that still has to ask another actor when it is told to end.
#[derive(Clone)]
struct Asks {
    player: ActorRef<super::Player>,
    answered: Arc<AtomicBool>,
}

impl Actor for Asks {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let (asks, mut shutdown) = (self.clone(), life.shutdown());
        life.run(async move {
            shutdown.requested().await;
            let answer = asks.player.send(Play, LIMIT).await;
            asks.answered.store(answer == Ok(0), Ordering::SeqCst);
            Ok::<_, io::Error>(())
        });
        Ok(())
    }
}

#[test]
fn who_takes_work_in_ends_before_those_whom_it_asks() {
    let main = runtime();
    let (supervisor, stage) = (supervisor(main), Stage::default());
    stage.go.add_permits(1);
    let player = stage.start(&supervisor, Mailbox { capacity: 0, concurrency: 1 });
    let answered = Arc::new(AtomicBool::new(false));
    let asks = Asks { player, answered: Arc::clone(&answered) };
    supervisor.start_actor("asks", Mailbox::own_work(1), move || asks.clone());
    let begun = Instant::now();
    main.block_on(async {
        // Its subscription is armed.
        until(|| supervisor.live() >= 3).await;
        supervisor.shutdown().await;
    });
    assert!(answered.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(4));
    assert_eq!(supervisor.live(), 0);
}

/// Never comes to an end by itself, in any of its parts.
#[derive(Clone)]
struct Endless;

impl Actor for Endless {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        life.every(Duration::ZERO, Duration::ZERO);
        life.run(pending::<Result<(), io::Error>>());
        Ok(())
    }
}

impl Handle<Tick> for Endless {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        pending()
    }
}

impl Worker for Endless {}

#[derive(Message)]
#[rtype(result = "()")]
struct Sleep;

impl Work<Sleep> for Endless {
    fn work(&mut self, _: Sleep) {
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Every kind of part that an actor can have: messages at work, a timer, a subscription, threads.
async fn start_all(supervisor: &Supervisor) {
    let stage = Stage::default();
    let player = stage.start(supervisor, Mailbox { capacity: 1, concurrency: 1 });
    supervisor.start_actor_within("endless", Mailbox::own_work(1), Duration::MAX, || Endless);
    let threads = supervisor.start_threads("threads", Mailbox { capacity: 0, concurrency: 2 }, || Endless);
    for _ in 0..2 {
        let (player, threads) = (player.clone(), threads.clone());
        tokio::spawn(async move { player.send(Play, LIMIT).await });
        tokio::spawn(async move { threads.send(Sleep, LIMIT).await });
    }
    until(|| supervisor.status().iter().all(|actor| actor.at_work > 0)).await;
    // Three lives, a subscription and two threads.
    assert!(supervisor.live() >= 6, "{}", supervisor.live());
}

#[test]
fn no_actor_outlives_its_supervisor() {
    let main = runtime();
    let supervisor = supervisor(main);
    main.block_on(async {
        start_all(&supervisor).await;
        supervisor.shutdown_within(Duration::from_secs(2)).await;
    });
    assert_eq!(supervisor.live(), 0);
    assert!(supervisor.status().iter().all(|actor| actor.state == ActorState::Stopped));
    assert!(supervisor.is_thread_joined());
}

#[test]
fn no_actor_outlives_a_supervisor_that_is_dropped() {
    let main = runtime();
    let supervisor = supervisor(main);
    let live = main.block_on(async {
        start_all(&supervisor).await;
        let live = supervisor.live_count();
        drop(supervisor);
        live
    });
    main.block_on(until(|| live.load(Ordering::SeqCst) == 0));
}
