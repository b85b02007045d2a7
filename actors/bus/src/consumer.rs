//! The consumer actor of one handler: carries deliveries from the queue to the handler's mailbox and answers the broker for them.
//! What happens to one delivery lives in `handling`; the processes of the quarantine queue in `quarantine`.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::OptionFuture};
use lapin::{
    Channel, Connection,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use orrery_schemas::topology;
use orrery_store::{Pool, inbox};
use orrery_supervise::{Actor, ActorError, Admission, Life, Progress, Shutdown, backoff::Backoff};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tracing::{info, warn};

use super::{
    BusError, Dependencies, Handler, Patience,
    acks::Acks,
    at_work::AtWork,
    claims::ClaimBatcher,
    connection::close,
    handler::{Failure, PAUSE},
    handling::{ConsumerContext, InFlight, Next},
    standing,
};

/// How long what is finished may wait for what was delivered before it.
const STRAGGLERS: Duration = Duration::from_millis(100);
/// In how many parts a full prefetch is acknowledged: with fewer the broker stands still while they are on their way.
const PARTS: usize = 8;
/// How often small acknowledgements may be sent, and how many one by one. A quorum queue's client in the broker holds back what comes while 32
/// commands are under way, and forgets it when the channel closes: with more of them some would be delivered again after a stop.
const PACE: Duration = Duration::from_millis(5);
const SINGLES: usize = 8;
/// How long the database may take to say that it is back.
const PROBE: Duration = Duration::from_secs(2);
/// A quarantine queue that was empty for so long needs no process.
const IDLE: Duration = Duration::from_secs(1);

/// Which of the handler's queues is read.
#[derive(Clone)]
pub enum QueueKind {
    /// Its own, with its prefetch.
    Main,
    /// Its quarantine queue, one message at a time; rung when that was empty for a while.
    Quarantine(Arc<Notify>),
}

/// One handler's consumer.
#[derive(Clone)]
pub struct Consumer {
    /// What it stands on.
    pub dependencies: Dependencies,
    /// The logic.
    pub handler: Arc<dyn Handler>,
    /// The entrance of the handler's mailbox.
    pub mailbox: Admission,
    /// Where its messages come from.
    pub kind: QueueKind,
    /// What it shows of its work.
    pub progress: Progress,
    /// When to end.
    pub shutdown: Shutdown,
}

/// One life's subscription to a queue.
struct Subscription {
    channel: Channel,
    consumer: lapin::Consumer,
    /// Whether the consumer stands.
    is_taking: bool,
    queue: String,
    acks: Acks,
    /// When acknowledgements were last sent.
    flushed: Instant,
    /// What is at work at once, at most. The broker counts for each consumer by itself, and one that comes after a pause may meet what was
    /// begun before it.
    prefetch: usize,
    /// What came and is beyond that.
    parked: VecDeque<InFlight>,
}

impl Actor for Consumer {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let consumer = Self { progress: life.progress(), shutdown: life.shutdown(), ..self.clone() };
        life.run(consumer.run());
        Ok(())
    }
}

impl Consumer {
    /// Consumes until shutdown.
    ///
    /// # Errors
    /// When the broker ends the connection or does not confirm: the supervisor then builds a new consumer.
    pub async fn run(mut self) -> Result<(), BusError> {
        let Dependencies { bus, pool, clock, random } = self.dependencies.clone();
        let spec = self.handler.spec();
        let name = match &self.kind {
            QueueKind::Main => spec.name.to_owned(),
            QueueKind::Quarantine(_) => topology::quarantine(spec.name),
        };
        // As large as anybody makes them: our own queues may be written to by operators as well.
        let connection = bus.connect_with_large_frames(&name).await?;
        let (claims, batcher) = ClaimBatcher::new(spec.name, pool, random.clone(), self.progress.clone());
        // It ends with this life.
        let mut batchers = JoinSet::new();
        batchers.spawn(batcher.run());
        let context = Arc::new(ConsumerContext {
            patience: Patience::of(&self.progress, &self.shutdown),
            missing: Notify::new(),
            progress: self.progress.clone(),
            shutdown: self.shutdown.clone(),
            is_quarantine: matches!(self.kind, QueueKind::Quarantine(_)),
            handler: Arc::clone(&self.handler),
            mailbox: self.mailbox.clone(),
            bus,
            spec,
            clock,
            random,
            claims,
        });
        let consumed = tokio::select! {
            consumed = self.consume(&connection, &context) => consumed,
            // Its requests never end as long as there is a consumer.
            Some(ended) = batchers.join_next() => {
                let why = ended.map_or_else(|error| error.to_string(), |()| "it returned".to_owned());
                Err(BusError::Cancelled(format!("{name}: the batcher of claims ended: {why}")))
            }
        };
        // In whatever way it ended: what is given up is closed.
        close(&connection).await;
        consumed?;
        context.handler.close().await;
        Ok(())
    }

    async fn consume(
        &mut self,
        connection: &Connection,
        context: &Arc<ConsumerContext>,
    ) -> Result<(), BusError> {
        if !self.queues_stand(connection, context).await? {
            return Ok(());
        }
        let mut subscription = self.subscribe(connection, context).await?;
        let mut work = AtWork::default();
        let mut stragglers = tokio::time::interval(STRAGGLERS);
        // It stands still while nothing waits; the ticks of that time must not come at once afterwards.
        stragglers.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // While a dependency is away: what tells when it is back. What is at work then goes on.
        let mut back = OptionFuture::default();
        loop {
            let failure = tokio::select! {
                // Also polled while nothing more can be begun: its end is the connection's.
                delivery = subscription.consumer.next(), if subscription.is_taking => {
                    let delivery = subscription.delivered(delivery)?;
                    let failure = subscription.begin(&mut work, context, &self.progress, delivery).await?;
                    // The stream is not tokio's: while it has deliveries at hand, nothing else would make this task let others run.
                    tokio::task::consume_budget().await;
                    failure
                }
                Some((tag, next)) = work.next() => {
                    let failure = subscription.finish(&mut work, tag, next).await?;
                    failure.or(subscription.begin_parked(&mut work, context, &self.progress).await?)
                }
                Some(answered) = &mut back => {
                    answered?;
                    info!(handler = context.spec.name, "the dependency is back");
                    back = OptionFuture::default();
                    subscription.take_up(context).await?;
                    None
                }
                _ = stragglers.tick(), if subscription.acks.waiting() > 0 => {
                    subscription.flush(SINGLES).await?;
                    None
                }
                () = idle(&self.kind), if work.is_empty() => None,
                () = context.missing.notified() => Some(Failure::new("a queue of ours is missing")),
                () = self.shutdown.requested() => break,
            };
            if let Some(failure) = failure.filter(|_| subscription.is_taking) {
                warn!(handler = context.spec.name, reason = failure.reason, causes = ?failure.causes,
                      "a dependency is away: taking nothing until it is back");
                subscription.leave_off(context).await?;
                back =
                    Some(dependency_back(self.dependencies.pool.clone(), connection, context).boxed()).into();
            }
        }
        subscription.leave_off(context).await?;
        work.drain(context, &mut subscription.acks, self.shutdown.grace()).await?;
        subscription.flush(usize::MAX).await?;
        context.bus.within(subscription.channel.close(200, "".into())).await
    }

    /// Waits until every queue stands that a message of this one may have to go to; false when the process ends before. What is taken without it
    /// could be answered for by nobody.
    async fn queues_stand(
        &mut self,
        connection: &Connection,
        context: &ConsumerContext,
    ) -> Result<bool, BusError> {
        let queues = standing::queues(&context.spec);
        let mut told = None;
        loop {
            let Some(missing) = standing::first_missing(&context.bus, connection, &queues).await? else {
                return Ok(true);
            };
            if told.as_ref() != Some(&missing) {
                warn!(
                    handler = context.spec.name,
                    queue = missing,
                    "is missing: taking nothing until 'orrery migrate' was run"
                );
                told = Some(missing);
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.shutdown.requested() => return Ok(false),
            }
        }
    }

    async fn subscribe(
        &self,
        connection: &Connection,
        context: &ConsumerContext,
    ) -> Result<Subscription, BusError> {
        let (queue, prefetch) = match &self.kind {
            QueueKind::Main => (context.spec.name.to_owned(), context.spec.prefetch()),
            QueueKind::Quarantine(_) => (topology::quarantine(context.spec.name), 1),
        };
        let open = async {
            let channel = connection.create_channel().await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let consumer = take_from(&channel, &queue).await?;
            Ok((channel, consumer))
        };
        let (channel, consumer) = context.bus.within(open).await?;
        let prefetch = usize::from(prefetch);
        Ok(Subscription {
            channel,
            consumer,
            is_taking: true,
            queue,
            acks: Acks::default(),
            flushed: Instant::now(),
            prefetch,
            parked: VecDeque::new(),
        })
    }
}

async fn take_from(channel: &Channel, queue: &str) -> lapin::Result<lapin::Consumer> {
    let (tag, options) = ("".into(), BasicConsumeOptions::default());
    channel.basic_consume(queue.into(), tag, options, FieldTable::default()).await
}

/// Probes until everything that the handler needs answers.
async fn dependency_back(
    pool: Pool,
    connection: &Connection,
    context: &ConsumerContext,
) -> Result<(), BusError> {
    let queues = standing::queues(&context.spec);
    let mut backoff = Backoff::dependency();
    loop {
        tokio::time::sleep(backoff.next(&context.random)).await;
        if !connection.status().connected() {
            return Err(BusError::Cancelled(context.spec.name.to_owned()));
        }
        if matches!(inbox::is_writable(&pool, PROBE).await, Ok(true))
            && context.handler.probe().await.is_ok()
            && standing::first_missing(&context.bus, connection, &queues).await?.is_none()
        {
            return Ok(());
        }
    }
}

/// Rings when a quarantine queue has had nothing for a while; never for another queue.
async fn idle(kind: &QueueKind) {
    match kind {
        QueueKind::Main => std::future::pending().await,
        QueueKind::Quarantine(bell) => {
            tokio::time::sleep(IDLE).await;
            bell.notify_one();
        }
    }
}

impl Subscription {
    fn delivered(
        &mut self,
        next: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<InFlight, BusError> {
        let raw = next.ok_or_else(|| BusError::Cancelled(self.queue.clone()))?.map_err(BusError::Amqp)?;
        self.acks.begin(raw.delivery_tag);
        Ok(InFlight::new(raw))
    }

    /// Begins a delivery if it may; what the consumer must wait for, if anything.
    async fn begin(
        &mut self,
        work: &mut AtWork,
        context: &Arc<ConsumerContext>,
        progress: &Progress,
        delivery: InFlight,
    ) -> Result<Option<Failure>, BusError> {
        if work.len() >= self.prefetch {
            self.parked.push_back(delivery);
            return Ok(None);
        }
        match work.start(context, delivery, progress) {
            Some((tag, next)) => self.finish(work, tag, next).await,
            None => Ok(None),
        }
    }

    /// Begins what was parked, as far as there is room again.
    async fn begin_parked(
        &mut self,
        work: &mut AtWork,
        context: &Arc<ConsumerContext>,
        progress: &Progress,
    ) -> Result<Option<Failure>, BusError> {
        let mut waiting = None;
        while work.len() < self.prefetch
            && let Some(delivery) = self.parked.pop_front()
        {
            waiting = self.begin(work, context, progress, delivery).await?.or(waiting);
        }
        Ok(waiting)
    }

    /// Takes what is finished and acknowledges it; what the consumer must wait for, if anything.
    async fn finish(
        &mut self,
        work: &mut AtWork,
        tag: u64,
        next: Result<Next, BusError>,
    ) -> Result<Option<Failure>, BusError> {
        let mut finished = Some((tag, next));
        let mut waiting = None;
        // What is finished at the same time shares an acknowledgement.
        while let Some((tag, next)) = finished {
            if let Next::Wait(failure) = next? {
                waiting = Some(failure);
            }
            self.acks.finish(tag);
            finished = work.next().now_or_never().flatten();
        }
        // A part shares an acknowledgement. Where what is not finished holds up as many, some go past it.
        let part = (self.prefetch / PARTS).max(1);
        if self.acks.waiting() >= part {
            if self.acks.at_front() >= part {
                self.flush(0).await?;
            } else if self.flushed.elapsed() >= PACE {
                self.flush(SINGLES).await?;
            }
        }
        Ok(waiting)
    }

    async fn flush(&mut self, stragglers: usize) -> lapin::Result<()> {
        self.flushed = Instant::now();
        self.acks.flush(&self.channel, stragglers).await
    }

    /// Takes again, with a consumer anew.
    async fn take_up(&mut self, context: &ConsumerContext) -> Result<(), BusError> {
        self.consumer = context.bus.within(take_from(&self.channel, &self.queue)).await?;
        self.is_taking = true;
        Ok(())
    }

    /// Takes nothing more; what had been delivered and was not begun goes to the retry queue, uncounted.
    async fn leave_off(&mut self, context: &ConsumerContext) -> Result<(), BusError> {
        if !std::mem::take(&mut self.is_taking) {
            return Ok(());
        }
        let cancel = self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        context.bus.within(cancel).await?;
        while let Some(Some(delivery)) = self.consumer.next().now_or_never() {
            let delivery = self.delivered(Some(delivery))?;
            self.parked.push_back(delivery);
        }
        while let Some(delivery) = self.parked.pop_front() {
            context.release(&delivery).await?;
            self.acks.finish(delivery.tag());
        }
        Ok(())
    }
}
