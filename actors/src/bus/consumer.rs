//! The consumer actor of one handler: its connection, its lane and its quarantine lane, waiting and draining.
//! What happens to one delivery lives in `lane`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt};
use lapin::{
    Channel, Connection,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use tokio::task::{Id, JoinSet};
use tracing::{info, warn};

use super::{
    Bus, BusError, Handler, HandlerSpec,
    handler::Failure,
    lane::{InFlight, Lane, Next},
    topology,
};
use crate::{
    clock::Clock,
    random::Random,
    store::Pool,
    supervise::{Shutdown, backoff::Backoff},
};

/// One handler's consumer.
pub struct Consumer {
    lane: Arc<Lane>,
    shutdown: Shutdown,
}

struct Subscription {
    channel: Channel,
    consumer: lapin::Consumer,
    queue: String,
}

enum Ended {
    Shutdown,
    Waiting(Failure),
}

/// The deliveries at work, each by its task.
#[derive(Default)]
struct AtWork {
    tasks: JoinSet<Result<Next, BusError>>,
    deliveries: HashMap<Id, Arc<InFlight>>,
}

impl Consumer {
    /// A consumer that has yet to run.
    pub fn new(
        bus: Bus,
        pool: Pool,
        handler: Arc<dyn Handler>,
        clock: Clock,
        random: Random,
        shutdown: Shutdown,
    ) -> Self {
        let spec: HandlerSpec = handler.spec();
        Self { lane: Arc::new(Lane { bus, pool, handler, spec, clock, random }), shutdown }
    }

    /// Consumes until shutdown.
    ///
    /// # Errors
    /// When the broker ends the connection or does not confirm: the supervisor then builds a new consumer.
    pub async fn run(mut self) -> Result<(), BusError> {
        let connection = self.lane.bus.connect(self.lane.spec.name).await?;
        let publish = self.lane.bus.confirming(&connection).await?;
        loop {
            match self.consume(&connection, &publish).await? {
                Ended::Shutdown => {
                    self.lane.handler.close().await;
                    connection.close(200, "shutdown".into()).await?;
                    return Ok(());
                }
                Ended::Waiting(failure) => {
                    warn!(handler = self.lane.spec.name, reason = failure.reason, causes = ?failure.causes,
                          "a dependency is away: taking nothing until it is back");
                    if self.dependency_back(&connection).await? {
                        info!(handler = self.lane.spec.name, "the dependency is back");
                    }
                }
            }
        }
    }

    async fn consume(&mut self, connection: &Connection, publish: &Channel) -> Result<Ended, BusError> {
        let name = self.lane.spec.name;
        let mut main = self.subscribe(connection, name.to_owned(), self.lane.spec.prefetch).await?;
        let mut quarantine = self.subscribe(connection, topology::quarantine(name), 1).await?;
        let mut work = AtWork::default();
        let ended = loop {
            tokio::select! {
                delivery = main.consumer.next() => {
                    work.start(&self.lane, publish, main.delivered(delivery)?);
                }
                delivery = quarantine.consumer.next() => {
                    work.start(&self.lane, publish, quarantine.delivered(delivery)?);
                }
                Some(next) = work.next() => {
                    if let Next::Wait(failure) = next? {
                        break Ended::Waiting(failure);
                    }
                }
                () = self.shutdown.requested() => break Ended::Shutdown,
            }
        };
        for subscription in [&main, &quarantine] {
            let cancel =
                subscription.channel.basic_cancel(subscription.consumer.tag(), BasicCancelOptions::default());
            within(&self.lane.bus, cancel).await?;
        }
        let limit = match ended {
            Ended::Shutdown => self.shutdown.grace(),
            Ended::Waiting(_) => self.lane.spec.time_limit,
        };
        work.drain(&self.lane, publish, limit).await?;
        for subscription in [&mut main, &mut quarantine] {
            subscription.hand_back_rest(&self.lane, publish).await?;
            within(&self.lane.bus, subscription.channel.close(200, "".into())).await?;
        }
        Ok(ended)
    }

    async fn subscribe(
        &self,
        connection: &Connection,
        queue: String,
        prefetch: u16,
    ) -> Result<Subscription, BusError> {
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
        let (channel, consumer) = within(&self.lane.bus, open).await?;
        Ok(Subscription { channel, consumer, queue })
    }

    /// Probes until everything that the handler needs answers; false when a shutdown came first.
    async fn dependency_back(&mut self, connection: &Connection) -> Result<bool, BusError> {
        let mut backoff = Backoff::dependency();
        loop {
            tokio::select! {
                () = tokio::time::sleep(backoff.next(&self.lane.random)) => {}
                () = self.shutdown.requested() => return Ok(false),
            }
            if !connection.status().connected() {
                return Err(BusError::Cancelled(self.lane.spec.name.to_owned()));
            }
            if self.lane.pool.is_up(Duration::from_secs(2)).await && self.lane.handler.probe().await.is_ok() {
                return Ok(true);
            }
        }
    }
}

impl Subscription {
    fn delivered(
        &self,
        next: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<lapin::message::Delivery, BusError> {
        next.ok_or_else(|| BusError::Cancelled(self.queue.clone()))?.map_err(BusError::Amqp)
    }

    /// What had been delivered and was not begun goes to the retry queue, uncounted.
    async fn hand_back_rest(&mut self, lane: &Lane, publish: &Channel) -> Result<(), BusError> {
        while let Some(Some(delivery)) = self.consumer.next().now_or_never() {
            lane.hand_back(publish, &InFlight::new(delivery?)).await?;
        }
        Ok(())
    }
}

impl AtWork {
    fn start(&mut self, lane: &Arc<Lane>, publish: &Channel, raw: lapin::message::Delivery) {
        let delivery = Arc::new(InFlight::new(raw));
        let (lane, publish, at_work) = (Arc::clone(lane), publish.clone(), Arc::clone(&delivery));
        let handle = self.tasks.spawn(async move { lane.work(&publish, &at_work).await });
        self.deliveries.insert(handle.id(), delivery);
    }

    async fn next(&mut self) -> Option<Result<Next, BusError>> {
        match self.tasks.join_next_with_id().await? {
            Ok((id, next)) => {
                self.deliveries.remove(&id);
                Some(next)
            }
            // The lane itself panicked, not the handler: the delivery is unanswered, so the connection must go.
            Err(error) => Some(Err(BusError::Cancelled(error.to_string()))),
        }
    }

    /// Lets what is at work finish within `limit`; what does not is cut off and handed back uncounted.
    async fn drain(&mut self, lane: &Lane, publish: &Channel, limit: Duration) -> Result<(), BusError> {
        let finish = async {
            while let Some(next) = self.next().await {
                next?;
            }
            Ok::<_, BusError>(())
        };
        if let Ok(finished) = tokio::time::timeout(limit, finish).await {
            return finished;
        }
        self.tasks.shutdown().await;
        for delivery in std::mem::take(&mut self.deliveries).into_values() {
            lane.hand_back(publish, &delivery).await?;
        }
        Ok(())
    }
}

async fn within<T>(bus: &Bus, work: impl Future<Output = lapin::Result<T>>) -> Result<T, BusError> {
    tokio::time::timeout(bus.timeout(), work)
        .await
        .map_err(|_| BusError::Timeout(bus.timeout()))?
        .map_err(BusError::Amqp)
}
