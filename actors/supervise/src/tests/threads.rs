use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::ThreadId,
    time::Duration,
};

use super::{
    ActorRef, LIMIT, Mailbox, Message, SendError, Supervisor, Threads, Work, Worker, only, runtime,
    supervisor, until,
};

/// What the threads share with their test.
#[derive(Clone, Default)]
struct Seen {
    states: Arc<AtomicUsize>,
    rests: Arc<AtomicUsize>,
    jobs: Arc<AtomicUsize>,
}

/// The state of one thread: how many jobs it has done.
struct Counter {
    jobs: u32,
    seen: Seen,
}

impl Worker for Counter {
    const REST_AFTER: Option<Duration> = Some(Duration::from_millis(20));

    fn rest(&mut self) {
        self.seen.rests.fetch_add(1, Ordering::SeqCst);
    }
}

/// Counts, and answers with the thread and its count.
#[derive(Message)]
#[rtype(result = "(ThreadId, u32)")]
struct Count;

/// Waits until it is told to go on.
#[derive(Message)]
#[rtype(result = "()")]
struct Block(std::sync::mpsc::Receiver<()>);

/// Panics.
#[derive(Message)]
#[rtype(result = "()")]
struct Fail;

impl Work<Count> for Counter {
    fn work(&mut self, _: Count) -> (ThreadId, u32) {
        self.jobs += 1;
        self.seen.jobs.fetch_add(1, Ordering::SeqCst);
        (std::thread::current().id(), self.jobs)
    }
}

impl Work<Block> for Counter {
    fn work(&mut self, Block(go): Block) {
        go.recv_timeout(LIMIT).unwrap();
    }
}

impl Work<Fail> for Counter {
    fn work(&mut self, _: Fail) {
        panic!("a bad job");
    }
}

fn start(supervisor: &Supervisor, seen: &Seen, mailbox: Mailbox) -> ActorRef<Threads<Counter>> {
    let seen = seen.clone();
    supervisor.start_threads("threads", mailbox, move || {
        seen.states.fetch_add(1, Ordering::SeqCst);
        Counter { jobs: 0, seen: seen.clone() }
    })
}

#[test]
fn a_thread_keeps_its_state_and_rests_once_when_there_is_no_work() {
    let main = runtime();
    let (supervisor, seen) = (supervisor(main), Seen::default());
    let threads = start(&supervisor, &seen, Mailbox { capacity: 9, concurrency: 1 });
    main.block_on(async {
        let (first, one) = threads.send(Count, LIMIT).await.unwrap();
        let (second, two) = threads.send(Count, LIMIT).await.unwrap();
        assert_eq!((first, one, two), (second, 1, 2));
        until(|| seen.rests.load(Ordering::SeqCst) == 1).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(seen.rests.load(Ordering::SeqCst), 1);
        assert_eq!(threads.send(Count, LIMIT).await.unwrap(), (first, 3));
        until(|| seen.rests.load(Ordering::SeqCst) == 2).await;
    });
    assert_eq!(seen.states.load(Ordering::SeqCst), 1);
}

#[test]
fn a_job_that_panics_fails_alone_and_its_thread_begins_with_a_new_state() {
    let main = runtime();
    let (supervisor, seen) = (supervisor(main), Seen::default());
    let threads = start(&supervisor, &seen, Mailbox { capacity: 0, concurrency: 1 });
    main.block_on(async {
        let (before, _) = threads.send(Count, LIMIT).await.unwrap();
        assert_eq!(threads.send(Fail, LIMIT).await, Err(SendError::Failed));
        assert_eq!(threads.send(Count, LIMIT).await, Ok((before, 1)));
    });
    let status = only(&supervisor);
    assert_eq!((status.failures, status.restarts, status.at_work), (1, 0, 0));
    assert_eq!(status.last_error.as_deref(), Some("panicked: a bad job"));
    assert_eq!(seen.states.load(Ordering::SeqCst), 2);
}

#[test]
fn what_has_no_thread_waits_in_the_mailbox_and_a_caller_that_goes_away_leaves_it() {
    let main = runtime();
    let (supervisor, seen) = (supervisor(main), Seen::default());
    let threads = start(&supervisor, &seen, Mailbox { capacity: 1, concurrency: 2 });
    let ((first, blocks_first), (second, blocks_second)) =
        (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    main.block_on(async {
        let blocked = [blocks_first, blocks_second].map(|go| {
            let threads = threads.clone();
            tokio::spawn(async move { threads.send(Block(go), LIMIT).await })
        });
        until(|| only(&supervisor).at_work == 2).await;
        let waits = tokio::spawn({
            let threads = threads.clone();
            async move { threads.send(Count, LIMIT).await }
        });
        until(|| only(&supervisor).waiting == 1).await;
        assert_eq!(threads.send(Count, LIMIT).await, Err(SendError::Full));
        waits.abort();
        until(|| only(&supervisor).waiting == 0).await;
        first.send(()).unwrap();
        second.send(()).unwrap();
        for blocked in blocked {
            assert_eq!(blocked.await.unwrap(), Ok(()));
        }
        assert!(threads.send(Count, LIMIT).await.is_ok());
    });
    assert_eq!(seen.jobs.load(Ordering::SeqCst), 1);
}
