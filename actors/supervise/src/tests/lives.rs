use std::{
    convert::Infallible,
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use super::{
    Actor, ActorError, Break, Handle, LIMIT, Life, Mailbox, Play, SendError, Stage, Tick, only, runtime,
    supervisor, until,
};

#[test]
fn a_panic_that_may_have_broken_the_state_is_followed_by_a_new_one() {
    let main = runtime();
    let (supervisor, stage) = (supervisor(main), Stage::default());
    let player = stage.start(&supervisor, Mailbox { capacity: 1, concurrency: 1 });
    stage.go.add_permits(9);
    let (now, told) = mpsc::channel();
    now.send(()).unwrap();
    main.block_on(async {
        assert_eq!(player.send(Play, LIMIT).await, Ok(0));
        assert_eq!(player.send(Break(told), LIMIT).await, Err(SendError::Ended));
        // Sent between two lives, and answered by the next one.
        assert_eq!(player.send(Play, LIMIT).await, Ok(1));
    });
    let status = only(&supervisor);
    assert_eq!((status.restarts, status.failures, status.at_work), (1, 0, 0));
    assert_eq!(status.last_error.as_deref(), Some("panicked: the state is broken"));
}

#[test]
fn a_message_that_was_not_begun_outlives_the_life() {
    let main = runtime();
    let (supervisor, stage) = (supervisor(main), Stage::default());
    let player = stage.start(&supervisor, Mailbox { capacity: 1, concurrency: 2 });
    let (now, told) = mpsc::channel();
    main.block_on(async {
        let send = |message| {
            let player = player.clone();
            tokio::spawn(async move { player.send(message, LIMIT).await })
        };
        let breaks = tokio::spawn({
            let player = player.clone();
            async move { player.send(Break(told), LIMIT).await }
        });
        until(|| only(&supervisor).at_work == 1).await;
        // One lies before the actor, which is not free to begin it; the other waits for its place.
        let before = send(Play);
        until(|| only(&supervisor).at_work == 2).await;
        let waits = send(Play);
        until(|| only(&supervisor).waiting == 1).await;
        stage.go.add_permits(2);
        now.send(()).unwrap();
        assert_eq!(breaks.await.unwrap(), Err(SendError::Ended));
        assert_eq!((before.await.unwrap(), waits.await.unwrap()), (Ok(1), Ok(1)));
    });
    assert_eq!(stage.effects(), 2);
}

#[test]
fn a_message_without_progress_ends_the_life_and_an_idle_actor_lives_on() {
    let main = runtime();
    let supervisor = supervisor(main);
    let (stalls, idle) = (Stage::default(), Stage::default());
    let player = stalls.start(&supervisor, Mailbox { capacity: 0, concurrency: 1 });
    idle.start(&supervisor, Mailbox { capacity: 0, concurrency: 1 });
    main.block_on(async {
        assert_eq!(player.send(Play, LIMIT).await, Err(SendError::Ended));
        stalls.go.add_permits(1);
        assert_eq!(player.send(Play, LIMIT).await, Ok(1));
    });
    let status = supervisor.status();
    assert_eq!((status[0].restarts, status[0].at_work, status[1].restarts), (1, 0, 0));
    let error = status[0].last_error.as_deref().unwrap_or_default();
    assert!(error.starts_with("no progress for 0 s with 1 at work"), "{error}");
}

#[test]
fn an_operator_restarts_one_actor_by_its_name_and_its_neighbours_go_on() {
    let main = runtime();
    let supervisor = supervisor(main);
    let stages = [Stage::default(), Stage::default()];
    let mailbox = Mailbox { capacity: 1, concurrency: 1 };
    let [one, other] = ["one", "other"].map(|name| {
        let stage = &stages[usize::from(name == "other")];
        stage.start_as(name, &supervisor, mailbox)
    });
    stages.iter().for_each(|stage| stage.go.add_permits(9));
    main.block_on(async {
        assert_eq!((one.send(Play, LIMIT).await, other.send(Play, LIMIT).await), (Ok(0), Ok(0)));
        assert!(supervisor.restart("one", "somebody asked for it"));
        assert!(!supervisor.restart("nobody", "somebody asked for it"));
        assert_eq!((one.send(Play, LIMIT).await, other.send(Play, LIMIT).await), (Ok(1), Ok(0)));
    });
    let status = supervisor.status();
    assert_eq!((status[0].restarts, status[1].restarts), (1, 0));
    assert_eq!(status[0].last_error.as_deref(), Some("somebody asked for it"));
}

/// Counts its ticks in each life, and does not survive the third.
struct Clockwork {
    ticks: Arc<AtomicUsize>,
    in_this_life: u32,
}

impl Actor for Clockwork {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        life.every(Duration::ZERO, Duration::from_millis(1));
        Ok(())
    }
}

impl Handle<Tick> for Clockwork {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        self.ticks.fetch_add(1, Ordering::SeqCst);
        self.in_this_life += 1;
        let is_third = self.in_this_life == 3;
        async move { if is_third { Err(io::Error::other("out of steam").into()) } else { Ok(()) } }
    }
}

#[test]
fn ticks_come_again_and_one_that_fails_ends_the_life() {
    let main = runtime();
    let supervisor = supervisor(main);
    let ticks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ticks);
    supervisor.start_actor("clockwork", Mailbox::own_work(1), move || Clockwork {
        ticks: Arc::clone(&counted),
        in_this_life: 0,
    });
    main.block_on(until(|| ticks.load(Ordering::SeqCst) >= 7));
    let status = only(&supervisor);
    assert_eq!((status.restarts, status.last_error.as_deref()), (2, Some("out of steam")));
}

/// A subscription that ends in another way in each life.
struct Subscription {
    life: usize,
}

impl Actor for Subscription {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let (number, progress) = (self.life, life.progress());
        life.run(async move {
            assert!(number != 1, "in life 1");
            let _stalls = (number == 3).then(|| progress.begin());
            if number == 2 { Err(io::Error::other("broken off")) } else { pending().await }
        });
        assert!(number != 0, "when it was armed");
        Ok(())
    }
}

#[test]
fn a_subscription_that_panics_errs_or_stalls_is_started_again() {
    let main = runtime();
    let supervisor = supervisor(main);
    let lives = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lives);
    let begun = Arc::new(std::sync::Mutex::new(Vec::new()));
    supervisor.start_actor("subscription", Mailbox::own_work(1), move || {
        let life = counted.fetch_add(1, Ordering::SeqCst);
        assert!(life != 4, "in its factory");
        Subscription { life }
    });
    main.block_on(until(|| {
        let error = only(&supervisor).last_error;
        let mut begun = begun.lock().unwrap();
        if begun.last() != error.as_ref() {
            begun.extend(error);
        }
        lives.load(Ordering::SeqCst) == 6
    }));
    let errors = [
        "panicked: when it was armed",
        "panicked: in life 1",
        "broken off",
        "no progress for 0 s with 1 at work",
        "panicked: its factory panicked",
    ];
    assert_eq!(*begun.lock().unwrap(), errors);
    assert_eq!(only(&supervisor).restarts, 5);
}

#[test]
fn a_life_that_cannot_be_armed_is_tried_again() {
    struct Unarmed;
    impl Actor for Unarmed {
        fn started(&mut self, _: &mut Life<Self>) -> Result<(), ActorError> {
            Err(io::Error::other("no thread to be had").into())
        }
    }
    let main = runtime();
    let supervisor = supervisor(main);
    supervisor.start_actor("unarmed", Mailbox::own_work(1), || Unarmed);
    main.block_on(until(|| only(&supervisor).restarts >= 2));
    assert_eq!(only(&supervisor).last_error.as_deref(), Some("no thread to be had"));
    // A subscription's error may be of any type.
    let _of_any_type = |life: &mut Life<Unarmed>| life.run(pending::<Result<(), Infallible>>());
}

/// Ends its life when it is told to, in the way it is told to.
struct Visitor {
    end: Option<tokio::sync::oneshot::Receiver<Result<(), io::Error>>>,
}

impl Actor for Visitor {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let (end, mut shutdown) = (self.end.take(), life.shutdown());
        life.run(async move {
            let end = async {
                match end {
                    Some(end) => end.await.unwrap_or(Ok(())),
                    None => pending().await,
                }
            };
            tokio::select! {
                ended = end => ended,
                () = shutdown.requested() => Ok(()),
            }
        });
        Ok(())
    }
}

#[test]
fn actors_of_one_life_are_forgotten_with_it_and_shown_together() {
    let main = runtime();
    let supervisor = supervisor(main);
    let visit = || {
        let (tell, told) = tokio::sync::oneshot::channel();
        let told = std::sync::Mutex::new(Some(told));
        let mailbox = Mailbox { capacity: 2, concurrency: 1 };
        let visitor = supervisor
            .start_transient("visitor", mailbox, move || Visitor { end: told.lock().unwrap().take() });
        (tell, visitor)
    };
    let (first, _) = visit();
    let (second, gone) = visit();
    let (_third, _) = visit();
    main.block_on(async {
        until(|| supervisor.live() > 5).await;
        let status = only(&supervisor);
        assert_eq!((status.name.as_str(), status.capacity, status.restarts), ("visitor", 6, 0));
        first.send(Ok(())).unwrap();
        second.send(Err(io::Error::other("the line is cut"))).unwrap();
        until(|| only(&supervisor).capacity == 2).await;
        let status = only(&supervisor);
        assert_eq!((status.restarts, status.last_error.as_deref()), (1, Some("the line is cut")));
        assert!(gone.admission().admit().await.is_err(), "who has ended takes nothing");
        supervisor.shutdown().await;
        assert_eq!(supervisor.live(), 0);
    });
    let (_, late) = visit();
    assert!(main.block_on(late.admission().admit()).is_err(), "after the shutdown nothing is begun");
}
