use std::{sync::atomic::Ordering, time::Duration};

use super::{Fail, LIMIT, Mailbox, Play, SendError, Stage, only, runtime, supervisor, until};

#[test]
fn one_more_than_may_wait_is_refused_at_once() {
    let main = runtime();
    let (supervisor, stage) = (supervisor(main), Stage::default());
    let player = stage.start(&supervisor, Mailbox { capacity: 2, concurrency: 1 });
    main.block_on(async {
        let sent: Vec<_> = (0..3)
            .map(|_| {
                let player = player.clone();
                tokio::spawn(async move { player.send(Play, LIMIT).await })
            })
            .collect();
        until(|| only(&supervisor).waiting == 2 && only(&supervisor).at_work == 1).await;
        let refused = tokio::time::timeout(Duration::from_millis(100), player.send(Play, LIMIT)).await;
        assert_eq!(refused, Ok(Err(SendError::Full)));
        let status = only(&supervisor);
        assert_eq!((status.capacity, status.concurrency, status.refused), (2, 1, 1));
        stage.go.add_permits(3);
        for sent in sent {
            assert_eq!(sent.await.unwrap(), Ok(0));
        }
        assert_eq!((only(&supervisor).waiting, only(&supervisor).at_work, stage.effects()), (0, 0, 3));
    });
}

#[test]
fn no_more_than_the_concurrency_is_at_work() {
    let main = runtime();
    let (supervisor, stage) = (supervisor(main), Stage::default());
    let player = stage.start(&supervisor, Mailbox { capacity: 100, concurrency: 3 });
    main.block_on(async {
        let sends = (0..60).map(|_| player.send(Play, LIMIT));
        let open = async {
            until(|| stage.at_work.load(Ordering::SeqCst) == 3).await;
            stage.go.add_permits(60);
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(sends), open);
        assert!(answers.iter().all(|answer| *answer == Ok(0)));
    });
    assert_eq!((stage.most_at_work.load(Ordering::SeqCst), stage.effects()), (3, 60));
}

#[test]
fn a_caller_that_goes_away_while_it_waits_leaves_no_effect() {
    let main = runtime();
    let (supervisor, stage) = (supervisor(main), Stage::default());
    let player = stage.start(&supervisor, Mailbox { capacity: 2, concurrency: 1 });
    main.block_on(async {
        let at_work = tokio::spawn({
            let player = player.clone();
            async move { player.send(Play, LIMIT).await }
        });
        until(|| only(&supervisor).at_work == 1).await;
        let gone = tokio::spawn({
            let player = player.clone();
            async move { player.send(Play, LIMIT).await }
        });
        until(|| only(&supervisor).waiting == 1).await;
        gone.abort();
        until(|| only(&supervisor).waiting == 0).await;
        let limit = Duration::from_millis(20);
        assert_eq!(player.send(Play, limit).await, Err(SendError::Waited(limit)));
        assert_eq!(only(&supervisor).waiting, 0);
        stage.go.add_permits(9);
        assert_eq!(at_work.await.unwrap(), Ok(0));
        assert_eq!(player.send(Play, LIMIT).await, Ok(0));
    });
    assert_eq!(stage.effects(), 2);
}

#[test]
fn a_message_at_work_keeps_its_place_when_its_caller_has_gone() {
    let main = runtime();
    let (supervisor, stage) = (supervisor(main), Stage::default());
    let player = stage.start(&supervisor, Mailbox { capacity: 1, concurrency: 1 });
    main.block_on(async {
        let limit = Duration::from_millis(50);
        assert_eq!(player.send(Play, limit).await, Err(SendError::NoAnswer(limit)));
        assert_eq!(only(&supervisor).at_work, 1);
        assert_eq!(player.send(Play, limit).await, Err(SendError::Waited(limit)));
        stage.go.add_permits(1);
        until(|| only(&supervisor).at_work == 0).await;
    });
    assert_eq!(stage.effects(), 1);
}

#[test]
fn a_message_that_panics_fails_alone() {
    let main = runtime();
    let (supervisor, stage) = (supervisor(main), Stage::default());
    let player = stage.start(&supervisor, Mailbox { capacity: 0, concurrency: 2 });
    main.block_on(async {
        let neighbour = tokio::spawn({
            let player = player.clone();
            async move { player.send(Play, LIMIT).await }
        });
        until(|| only(&supervisor).at_work == 1).await;
        assert_eq!(player.send(Fail, LIMIT).await, Err(SendError::Failed));
        stage.go.add_permits(1);
        assert_eq!(neighbour.await.unwrap(), Ok(0));
    });
    let status = only(&supervisor);
    assert_eq!((status.failures, status.restarts, status.at_work), (1, 0, 0));
    assert_eq!(status.last_error.as_deref(), Some("panicked: as told"));
}

#[test]
fn work_in_the_callers_task_has_its_place_and_its_panic_fails_alone() {
    let main = runtime();
    let (supervisor, stage) = (supervisor(main), Stage::default());
    let admission = stage.start(&supervisor, Mailbox { capacity: 0, concurrency: 1 }).admission();
    main.block_on(async {
        let admitted = admission.admit().await.unwrap();
        assert_eq!(admission.admit().await.err(), Some(SendError::Full));
        assert_eq!(admitted.run(async { 7 }).await, Ok(7));
        assert_eq!(admitted.run(async { panic!("as told") }).await, Err::<(), _>(SendError::Failed));
        assert_eq!(only(&supervisor).at_work, 1);
        admitted.done();
        assert!(admission.admit().await.is_ok());
    });
    assert_eq!((only(&supervisor).failures, only(&supervisor).refused), (1, 1));
}
