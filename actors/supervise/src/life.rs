//! The lives of an actor: each is an actix actor round the state that the factory built, on the thread of the actors; its end is told to the
//! supervisor, its address to those who send.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix::{Addr, AsyncContext, Context, Handler, Message};
use actix_rt::ArbiterHandle;
use futures_util::FutureExt;
use orrery_observability::trace::Carried;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::{Instrument, Span};

use super::{
    Shutdown, Supervisor,
    actor::{Actor, Answer, Handle, Life},
    address::{ActorRef, Address},
    mailbox::{Mailbox, Place},
    polls::Watched,
    progress::WorkItem,
    record::{End, Record, ended, panic_text},
};

/// The share of the grace after which a life is cut off.
const CUT_OFF: f64 = 0.9;

/// One life: the actix actor. Dropped, it drops its timers and the messages at work.
pub(super) struct Running<A: Actor> {
    state: A,
    life: Life<A>,
}

// Nothing in it is ever pinned.
impl<A: Actor> Unpin for Running<A> {}

/// A message on its way, with its place among those at work.
pub(super) struct Job<M: Message> {
    body: Option<(M, Place, WorkItem)>,
    reply: Option<oneshot::Sender<Reply<M>>>,
    /// Where the sender is in its trace, and in the log.
    span: Span,
    /// What the trace's own sender wants to be passed on.
    carried: Carried,
}

/// What became of a message.
pub(super) enum Reply<M: Message> {
    /// The answer.
    Done(M::Result),
    /// The work on it panicked, with this text.
    Failed(String),
    /// The life ended before it was begun.
    Back(Box<(M, Place)>),
}

impl<M: Message> Job<M> {
    pub fn new(message: M, place: Place, item: WorkItem) -> (Self, Answer<M>) {
        let (reply, answered) = oneshot::channel();
        let (span, carried) = (Span::current(), Carried::current());
        (Self { body: Some((message, place, item)), reply: Some(reply), span, carried }, answered)
    }
}

impl<M: Message> Message for Job<M> {
    type Result = ();
}

impl<M: Message> Drop for Job<M> {
    fn drop(&mut self) {
        if let (Some((message, place, _)), Some(reply)) = (self.body.take(), self.reply.take()) {
            // A caller that has gone wants it no more.
            let _gone = reply.send(Reply::Back(Box::new((message, place)))).is_err();
        }
    }
}

impl<A: Actor> actix::Actor for Running<A> {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        // Places bound what is sent; a second bound could only be in the way.
        context.set_mailbox_capacity(0);
        if let Err(error) = self.state.started(&mut self.life) {
            // A life ends once.
            let _ended = self.life.ends.try_send(End::Failed(error.0)).is_err();
        }
    }
}

impl<A, M> Handler<Job<M>> for Running<A>
where
    A: Handle<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Result = ();

    fn handle(&mut self, mut job: Job<M>, _: &mut Self::Context) {
        while self.life.tasks.try_join_next().is_some() {}
        let (Some((message, place, item)), Some(reply)) = (job.body.take(), job.reply.take()) else { return };
        // A caller that has gone: the message is dropped before its effect.
        if reply.is_closed() {
            return;
        }
        let span = job.span.clone();
        let work = span.in_scope(|| self.state.handle(message));
        let work = std::mem::take(&mut job.carried).within(work).instrument(span);
        let work = AssertUnwindSafe(work).catch_unwind();
        let admission = self.life.admission.clone();
        let watched = self.life.progress().watch(async move {
            let answer = match work.await {
                Ok(answer) => {
                    item.done();
                    Reply::Done(answer)
                }
                Err(panic) => {
                    drop(item);
                    let text = panic_text(&*panic);
                    admission.failed(&format!("panicked: {text}"));
                    Reply::Failed(text)
                }
            };
            // Before the answer: who has it finds the place free.
            drop(place);
            let _gone = reply.send(answer).is_err();
        });
        self.life.tasks.spawn_local(watched);
    }
}

/// What all lives of an actor share.
struct Lives<A: Actor, F> {
    record: Arc<Record>,
    factory: F,
    address: watch::Sender<Address<A>>,
    supervisor: super::supervisor::Lent,
}

impl Supervisor {
    /// Starts an actor and keeps it alive: `factory` builds the state of each life, on the thread of the actors.
    pub fn start_actor<A, F>(&self, name: impl Into<String>, mailbox: Mailbox, factory: F) -> ActorRef<A>
    where
        A: Actor,
        F: Fn() -> A + Send + Sync + 'static,
    {
        self.start_actor_within(name, mailbox, self.limits().stall, factory)
    }

    /// The same for an actor whose single steps may take longer than usual: `stall_limit` without progress.
    pub fn start_actor_within<A, F>(
        &self,
        name: impl Into<String>,
        mailbox: Mailbox,
        stall_limit: Duration,
        factory: F,
    ) -> ActorRef<A>
    where
        A: Actor,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let record = self.record(name.into(), mailbox, stall_limit);
        let (lives, actor) = self.lives(&record, factory);
        let over = {
            let lives = Arc::clone(&lives);
            move || lives.over()
        };
        let arbiter = self.arbiter();
        let next = move |_: &Arc<Record>| Arc::clone(&lives).next(arbiter.clone());
        self.keep_alive(record, next, over);
        actor
    }

    /// Starts an actor of one life, for what comes and goes, such as a connection: however its life ends, there is no other. Operators see
    /// all of a name in one line, where restarts are the lives that ended badly.
    pub fn start_transient<A, F>(&self, name: impl Into<String>, mailbox: Mailbox, factory: F) -> ActorRef<A>
    where
        A: Actor,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let record = self.transient_record(name.into(), mailbox);
        let (lives, actor) = self.lives(&record, factory);
        let over = {
            let lives = Arc::clone(&lives);
            move || lives.over()
        };
        let arbiter = self.arbiter();
        self.live_once(record, move || lives.next(arbiter), over);
        actor
    }

    fn lives<A, F>(&self, record: &Arc<Record>, factory: F) -> (Arc<Lives<A, F>>, ActorRef<A>)
    where
        A: Actor,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let (sender, address) = watch::channel(Address::Between);
        let admission = record.admission.clone();
        let lives = Lives { record: Arc::clone(record), factory, address: sender, supervisor: self.lent() };
        (Arc::new(lives), ActorRef { address, admission })
    }
}

impl<A, F> Lives<A, F>
where
    A: Actor,
    F: Fn() -> A + Send + Sync + 'static,
{
    /// The next life, to its end.
    fn next(self: Arc<Self>, arbiter: ArbiterHandle) -> impl Future<Output = End> + Send + 'static {
        let (told, end) = oneshot::channel();
        let spawned = arbiter.spawn_fn(move || self.begin(told));
        async move {
            if !spawned {
                return End::Failed("the thread of the actors has ended".to_owned());
            }
            end.await.unwrap_or_else(|_| End::Failed("the thread of the actors ended".to_owned()))
        }
    }

    /// There is no other life.
    fn over(&self) {
        self.record.admission.close();
        self.address.send_replace(Address::Over);
    }

    /// Begins a life on this thread, that of the actors.
    fn begin(self: Arc<Self>, told: oneshot::Sender<End>) {
        let Ok(state) = catch_unwind(AssertUnwindSafe(|| (self.factory)())) else {
            // Nobody waits any more when the process is ending.
            let _unheard = told.send(End::Panicked("its factory panicked".to_owned())).is_err();
            return;
        };
        let (ends, ended) = mpsc::channel(1);
        let context = Context::<Running<A>>::new();
        let address = context.address();
        let record = Arc::clone(&self.record);
        let life = Life {
            name: record.name.clone(),
            address: address.clone(),
            admission: record.admission.clone(),
            shutdown: self.supervisor.shutdown.clone(),
            main: self.supervisor.main.clone(),
            ends,
            tasks: JoinSet::new(),
            threads: self.supervisor.threads.clone(),
            live: self.supervisor.live(),
            takes_in: Box::new(move || record.takes_in.store(true, Ordering::Relaxed)),
        };
        let running = context.into_future(Running { state, life });
        tokio::task::spawn_local(async move {
            let end = self.follow(running, address, ended).await;
            // Nobody waits any more when the process is ending.
            let _unheard = told.send(end).is_err();
        });
    }

    /// Runs a life to its end, and waits until nothing of it is left on this thread.
    async fn follow(
        &self,
        running: impl Future<Output = ()> + 'static,
        address: Addr<Running<A>>,
        mut ended_with: mpsc::Receiver<End>,
    ) -> End {
        let mut life = tokio::task::spawn_local(Watched::new(self.record.number, running));
        self.record.lives_by(life.abort_handle());
        self.address.send_replace(Address::Alive(address));
        let end = tokio::select! {
            end = &mut life => {
                self.address.send_replace(Address::Between);
                return end.map_or_else(ended, |()| End::Stopped);
            }
            Some(end) = ended_with.recv() => end,
            () = self.finished() => End::Stopped,
        };
        self.address.send_replace(Address::Between);
        life.abort();
        match life.await {
            Err(error) if error.is_panic() => ended(error),
            _ => end,
        }
    }

    /// Returns when the end was asked for and what was taken is finished, or its time is over. A subscription hears of the end by itself and
    /// ends the life; who only answers goes on until those who may ask have ended.
    async fn finished(&self) {
        let mut shutdown: Shutdown = self.supervisor.shutdown.clone();
        shutdown.requested().await;
        // What is cut off must be gone before the grace is over.
        let left = shutdown.left().mul_f64(CUT_OFF);
        if self.record.takes_in.load(Ordering::Relaxed) {
            return tokio::time::sleep(left).await;
        }
        let mut closing = self.supervisor.closing.clone();
        let finish = async {
            // An error means that the supervisor is gone, which is an end as well.
            let _gone = closing.wait_for(|closing| *closing).await.is_err();
            self.record.admission.close();
            self.record.admission.idle().await;
        };
        // What is not finished by then is cut off.
        let _cut_off = tokio::time::timeout(left, finish).await.is_err();
    }
}
