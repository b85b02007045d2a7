//! The consumer actor of one handler: its connection and its lane, acknowledging, waiting and draining.
//! What happens to one delivery lives in `lane`; the processes of the quarantine lane in `quarantine`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel, Connection,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::{
    sync::Notify,
    task::{Id, JoinSet},
};
use tracing::{info, warn};

use super::{
    BusError, Footing, Handler,
    acks::Acks,
    claims::Keeper,
    connection::close,
    handler::Failure,
    lane::{InFlight, Lane, Next},
    topology,
};
use crate::supervise::{Held, Pulse, Shutdown, backoff::Backoff};

/// How long what is finished may wait for what was delivered before it.
const STRAGGLERS: Duration = Duration::from_millis(100);
/// A quarantine lane that was empty for so long needs no process.
const IDLE: Duration = Duration::from_secs(1);

/// Which of the handler's queues is read.
#[derive(Clone)]
pub enum Source {
    /// Its own, with its prefetch.
    Main,
    /// Its quarantine lane, one message at a time; rung when that was empty for a while.
    Quarantine(Arc<Notify>),
}

/// One handler's consumer.
pub struct Consumer {
    /// What it stands on.
    pub footing: Footing,
    /// The logic.
    pub handler: Arc<dyn Handler>,
    /// Where its messages come from.
    pub source: Source,
    /// What it shows of its work.
    pub pulse: Pulse,
    /// When to end.
    pub shutdown: Shutdown,
}

enum Ended {
    Shutdown,
    Waiting(Failure),
}

/// One life's subscription to a queue.
struct Subscription {
    channel: Channel,
    consumer: lapin::Consumer,
    queue: String,
    acks: Acks,
    /// As many finished ones share an acknowledgement: a quarter of the prefetch. A quorum queue's client in the broker holds back what comes
    /// while 32 commands are under way, and forgets it when the channel closes: more, smaller ones would be delivered again.
    batch: usize,
    /// As many finished ones are acknowledged one by one: half of the prefetch.
    most_waiting: usize,
}

/// The deliveries at work, each by its task.
#[derive(Default)]
struct AtWork {
    tasks: JoinSet<Result<Next, BusError>>,
    deliveries: HashMap<Id, (Arc<InFlight>, Held)>,
}

impl Consumer {
    /// Consumes until shutdown.
    ///
    /// # Errors
    /// When the broker ends the connection or does not confirm: the supervisor then builds a new consumer.
    pub async fn run(mut self) -> Result<(), BusError> {
        let Footing { bus, pool, clock, random } = self.footing.clone();
        let spec = self.handler.spec();
        let name = match &self.source {
            Source::Main => spec.name.to_owned(),
            Source::Quarantine(_) => topology::quarantine(spec.name),
        };
        let connection = if spec.reads_foreign() {
            bus.connect_with_large_frames(&name).await?
        } else {
            bus.connect(&name).await?
        };
        let (claims, keeper) = Keeper::new(spec.name, pool, random.clone(), self.pulse.clone());
        // It ends with this life.
        let mut keepers = JoinSet::new();
        keepers.spawn(keeper.run());
        let lane = Arc::new(Lane {
            publish: bus.confirming(&connection).await?,
            is_quarantine: matches!(self.source, Source::Quarantine(_)),
            handler: Arc::clone(&self.handler),
            bus,
            spec,
            clock,
            random,
            claims,
        });
        loop {
            match self.consume(&connection, &lane).await? {
                Ended::Shutdown => {
                    lane.handler.close().await;
                    close(&connection).await;
                    return Ok(());
                }
                Ended::Waiting(failure) => {
                    warn!(handler = lane.spec.name, reason = failure.reason, causes = ?failure.causes,
                          "a dependency is away: taking nothing until it is back");
                    if self.dependency_back(&connection, &lane).await? {
                        info!(handler = lane.spec.name, "the dependency is back");
                    }
                }
            }
        }
    }

    async fn consume(&mut self, connection: &Connection, lane: &Arc<Lane>) -> Result<Ended, BusError> {
        let mut subscription = self.subscribe(connection, lane).await?;
        let mut work = AtWork::default();
        let mut stragglers = tokio::time::interval(STRAGGLERS);
        let ended = loop {
            tokio::select! {
                delivery = subscription.consumer.next() => {
                    let delivery = subscription.delivered(delivery)?;
                    if let Some((tag, next)) = work.start(lane, delivery, &self.pulse)
                        && let Some(failure) = subscription.finish(&mut work, tag, next).await?
                    {
                        break Ended::Waiting(failure);
                    }
                    // The stream is not tokio's: while it has deliveries at hand, nothing else would make this task let others run.
                    tokio::task::consume_budget().await;
                }
                Some((tag, next)) = work.next() => {
                    if let Some(failure) = subscription.finish(&mut work, tag, next).await? {
                        break Ended::Waiting(failure);
                    }
                }
                _ = stragglers.tick(), if subscription.acks.waiting() > 0 => {
                    subscription.acks.flush(&subscription.channel, true).await?;
                }
                () = idle(&self.source), if work.is_empty() => {}
                () = self.shutdown.requested() => break Ended::Shutdown,
            }
        };
        let tag = subscription.consumer.tag();
        let cancel = subscription.channel.basic_cancel(tag, BasicCancelOptions::default());
        lane.bus.within(cancel).await?;
        let limit = match ended {
            Ended::Shutdown => self.shutdown.grace(),
            Ended::Waiting(_) => lane.spec.time_limit,
        };
        work.drain(lane, &mut subscription.acks, limit).await?;
        subscription.hand_back_rest(lane).await?;
        subscription.acks.flush(&subscription.channel, true).await?;
        lane.bus.within(subscription.channel.close(200, "".into())).await?;
        Ok(ended)
    }

    async fn subscribe(&self, connection: &Connection, lane: &Lane) -> Result<Subscription, BusError> {
        let (queue, prefetch) = match &self.source {
            Source::Main => (lane.spec.name.to_owned(), lane.spec.prefetch),
            Source::Quarantine(_) => (topology::quarantine(lane.spec.name), 1),
        };
        let open = async {
            let channel = connection.create_channel().await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let consumer = channel
                .basic_consume(
                    queue.as_str().into(),
                    "".into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            Ok((channel, consumer))
        };
        let (channel, consumer) = lane.bus.within(open).await?;
        let (batch, most_waiting) = (usize::from(prefetch / 4), usize::from(prefetch / 2));
        Ok(Subscription { channel, consumer, queue, acks: Acks::default(), batch, most_waiting })
    }

    /// Probes until everything that the handler needs answers; false when a shutdown came first.
    async fn dependency_back(&mut self, connection: &Connection, lane: &Lane) -> Result<bool, BusError> {
        let mut backoff = Backoff::dependency();
        loop {
            tokio::select! {
                () = tokio::time::sleep(backoff.next(&lane.random)) => {}
                () = self.shutdown.requested() => return Ok(false),
            }
            if !connection.status().connected() {
                return Err(BusError::Cancelled(lane.spec.name.to_owned()));
            }
            if self.footing.pool.is_up(Duration::from_secs(2)).await && lane.handler.probe().await.is_ok() {
                return Ok(true);
            }
        }
    }
}

/// Rings when a quarantine lane has had nothing for a while; never for another queue.
async fn idle(source: &Source) {
    match source {
        Source::Main => std::future::pending().await,
        Source::Quarantine(bell) => {
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
        if self.acks.waiting() >= self.batch {
            let stragglers = self.acks.waiting() > self.most_waiting;
            self.acks.flush(&self.channel, stragglers).await?;
        }
        Ok(waiting)
    }

    /// What had been delivered and was not begun goes to the retry queue, uncounted.
    async fn hand_back_rest(&mut self, lane: &Lane) -> Result<(), BusError> {
        while let Some(Some(delivery)) = self.consumer.next().now_or_never() {
            let delivery = self.delivered(Some(delivery))?;
            lane.hand_back(&delivery).await?;
            self.acks.finish(delivery.tag());
        }
        Ok(())
    }
}

impl AtWork {
    /// Begins a delivery. What has nothing to wait for is finished at once and never becomes a task: without an inbox, to hand every message to
    /// another thread and back would cost more than its work. With an inbox it is a task from its claim on.
    fn start(
        &mut self,
        lane: &Arc<Lane>,
        delivery: InFlight,
        pulse: &Pulse,
    ) -> Option<(u64, Result<Next, BusError>)> {
        let (delivery, held) = (Arc::new(delivery), pulse.take());
        let (lane, at_work) = (Arc::clone(lane), Arc::clone(&delivery));
        let mut work = Box::pin(async move { lane.work(&at_work).await });
        if let Some(next) = work.as_mut().now_or_never() {
            held.done();
            return Some((delivery.tag(), next));
        }
        let handle = self.tasks.spawn(pulse.seen(work));
        self.deliveries.insert(handle.id(), (delivery, held));
        None
    }

    fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The next that is finished, by its tag.
    async fn next(&mut self) -> Option<(u64, Result<Next, BusError>)> {
        let (id, next) = match self.tasks.join_next_with_id().await? {
            Ok((id, next)) => (id, next),
            // The lane itself panicked, not the handler: the delivery is unanswered, so the connection must go.
            Err(error) => (error.id(), Err(BusError::Cancelled(error.to_string()))),
        };
        let (delivery, held) = self.deliveries.remove(&id)?;
        held.done();
        Some((delivery.tag(), next))
    }

    /// Lets what is at work finish within `limit`; what does not is cut off and handed back uncounted.
    async fn drain(&mut self, lane: &Lane, acks: &mut Acks, limit: Duration) -> Result<(), BusError> {
        let finish = async {
            while let Some((tag, next)) = self.next().await {
                next?;
                acks.finish(tag);
            }
            Ok::<_, BusError>(())
        };
        if let Ok(finished) = tokio::time::timeout(limit, finish).await {
            return finished;
        }
        self.tasks.shutdown().await;
        for (delivery, _held) in std::mem::take(&mut self.deliveries).into_values() {
            lane.hand_back(&delivery).await?;
            acks.finish(delivery.tag());
        }
        Ok(())
    }
}
