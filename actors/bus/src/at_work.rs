//! The deliveries at work in one life of a consumer: begun, finished, cut off at the end. What is acknowledged when is `consumer`'s.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::FutureExt;
use orrery_supervise::{Progress, WorkItem};
use tokio::task::{Id, JoinSet};

use super::{
    BusError,
    acks::Acks,
    handling::{ConsumerContext, InFlight, Next},
};

/// The deliveries at work, each by its task.
#[derive(Default)]
pub struct AtWork {
    tasks: JoinSet<Result<Next, BusError>>,
    deliveries: HashMap<Id, (Arc<InFlight>, WorkItem)>,
}

impl AtWork {
    /// Begins a delivery. What has nothing to wait for is finished at once and never becomes a task: without an inbox, to hand every message to
    /// another thread and back would cost more than its work. With an inbox it is a task from its claim on.
    pub fn start(
        &mut self,
        context: &Arc<ConsumerContext>,
        delivery: InFlight,
        progress: &Progress,
    ) -> Option<(u64, Result<Next, BusError>)> {
        let (delivery, held) = (Arc::new(delivery), progress.begin());
        let (context, at_work) = (Arc::clone(context), Arc::clone(&delivery));
        let mut work = Box::pin(async move { context.work(&at_work).await });
        if let Some(next) = work.as_mut().now_or_never() {
            held.done();
            return Some((delivery.tag(), next));
        }
        let handle = self.tasks.spawn(progress.watch(work));
        self.deliveries.insert(handle.id(), (delivery, held));
        None
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// The next that is finished, by its tag.
    pub async fn next(&mut self) -> Option<(u64, Result<Next, BusError>)> {
        let (id, next) = match self.tasks.join_next_with_id().await? {
            Ok((id, next)) => (id, next),
            // Our own code panicked, not the handler: the delivery is unanswered, so the connection must go.
            Err(error) => (error.id(), Err(BusError::Cancelled(error.to_string()))),
        };
        let (delivery, held) = self.deliveries.remove(&id)?;
        held.done();
        Some((delivery.tag(), next))
    }

    /// Lets what is at work finish within `limit`; what does not is cut off and handed back, counted only where its effect is in doubt.
    pub async fn drain(
        &mut self,
        context: &ConsumerContext,
        acks: &mut Acks,
        limit: Duration,
    ) -> Result<(), BusError> {
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
            context.cut_off(&delivery).await?;
            acks.finish(delivery.tag());
        }
        Ok(())
    }
}
