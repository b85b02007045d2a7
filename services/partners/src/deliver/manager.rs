//! Which process delivers to which endpoint: the manager takes leases of endpoints, runs a worker for each, starts one again that failed or panicked, and
//! writes cursors down for all of them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use orrery_store::StoreError;
use orrery_supervise::{Actor, ActorError, Life, Progress, Shutdown};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};
use tracing::{error, warn};
use uuid::Uuid;

use super::{
    tail::Bell,
    worker::{Shared, Worker, WorkerError},
};
use crate::records::{endpoints, partners};

/// How often leases are renewed, and changes looked for.
const LOOK: Duration = Duration::from_millis(500);
/// How often cursors are written down.
const FLUSH: Duration = Duration::from_millis(100);
/// Endpoints that are taken at once, so that others get at the database.
const AT_ONCE: i64 = 200;
/// The pauses before a worker that failed is started again.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs the workers of a process.
#[derive(Clone)]
pub struct Manager {
    /// What workers share.
    pub shared: Arc<Shared>,
    /// Rung when an endpoint of this process was changed.
    pub changed: Bell,
    /// When to end.
    pub shutdown: Shutdown,
}

/// A worker, at work or between two lives.
struct Running {
    version: i32,
    stop: watch::Sender<bool>,
    task: Option<Id>,
    /// Failures in a row, and when it is started again.
    failures: u32,
    again: Option<Instant>,
}

impl Actor for Manager {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let (manager, progress) = (self.clone(), life.progress());
        life.run(async move { Workers::new(manager, progress).run().await });
        Ok(())
    }
}

struct Workers {
    manager: Manager,
    progress: Progress,
    lease: Uuid,
    running: HashMap<Uuid, Running>,
    tasks: JoinSet<Result<(), WorkerError>>,
    of: HashMap<Id, Uuid>,
}

impl Workers {
    fn new(manager: Manager, progress: Progress) -> Self {
        let lease = manager.shared.random.uuid_v4();
        Self { manager, progress, lease, running: HashMap::new(), tasks: JoinSet::new(), of: HashMap::new() }
    }

    async fn run(mut self) -> Result<(), StoreError> {
        let mut shutdown = self.manager.shutdown.clone();
        let (mut look, mut flush) = (tokio::time::interval(LOOK), tokio::time::interval(FLUSH));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let changed = self.manager.changed.clone();
        loop {
            tokio::select! {
                () = shutdown.requested() => break,
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
                _ = look.tick() => self.tell(Self::look).await?,
                () = changed.rung() => self.tell(Self::look).await?,
                _ = flush.tick() => self.flush_or_warn().await,
            }
        }
        self.stop().await;
        Ok(())
    }

    /// Looks for changes; a database that is away is waited for.
    async fn tell(
        &mut self,
        look: impl AsyncFn(&mut Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let progress = self.progress.clone();
        let work = progress.begin();
        let looked = look(self).await;
        work.done();
        match looked {
            Err(error) if error.is_outage() => {
                warn!(%error, "endpoints cannot be looked at, tried again");
                Ok(())
            }
            looked => looked,
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.manager.shared);
        let held = {
            let mut connection = shared.pool.get().await?;
            endpoints::renew(&mut connection, self.lease).await?
        };
        let held: HashMap<Uuid, i32> = held.into_iter().map(|held| (held.id, held.version)).collect();
        // What is not held any more, or has changed, ends; it is begun anew when it has ended.
        for (id, running) in &mut self.running {
            if held.get(id) != Some(&running.version) {
                running.stop.send_replace(true);
                running.again.get_or_insert_with(Instant::now);
            }
        }
        self.running.retain(|id, running| running.task.is_some() || held.contains_key(id));
        let now = Instant::now();
        let begin: Vec<Uuid> = held
            .keys()
            .filter(|id| match self.running.get(id) {
                None => true,
                Some(running) => running.task.is_none() && running.again.is_some_and(|again| again <= now),
            })
            .copied()
            .collect();
        if !begin.is_empty() {
            // The next life reads its cursor, so it is written first.
            self.flush().await?;
        }
        for id in begin {
            let mut connection = shared.pool.get().await?;
            let endpoint = endpoints::by_id(&mut connection, id).await?;
            drop(connection);
            if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.state == "active") {
                self.begin(endpoint).await?;
            }
        }
        let most = i64::from(shared.delivery.endpoints);
        let room = most.saturating_sub(i64::try_from(self.running.len()).unwrap_or(most)).min(AT_ONCE);
        if room > 0 {
            let mut connection = shared.pool.get().await?;
            let claimed = endpoints::claim(&mut connection, self.lease, room).await?;
            drop(connection);
            for endpoint in claimed {
                // One whose lease was lost for a moment may be at work here still.
                if !self.running.contains_key(&endpoint.id) {
                    self.begin(endpoint).await?;
                }
            }
        }
        Ok(())
    }

    async fn begin(&mut self, endpoint: endpoints::Endpoint) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.manager.shared);
        let (id, version) = (endpoint.id, endpoint.version);
        let mut connection = shared.pool.get().await?;
        let partner = partners::by_id(&mut connection, endpoint.partner).await?;
        drop(connection);
        let Some(partner) = partner else { return Ok(()) };
        let failures = self.running.get(&id).map_or(0, |running| running.failures);
        let (stop, stopped) = watch::channel(false);
        let task = match Worker::new(shared, endpoint, partner) {
            Ok(worker) => {
                let task = self.tasks.spawn(worker.run(stopped)).id();
                self.of.insert(task, id);
                Some(task)
            }
            Err(error) => {
                error!(endpoint = %id, %error, "cannot be delivered to");
                None
            }
        };
        let again = task.is_none().then(|| Instant::now() + LONGEST_PAUSE);
        self.running.insert(id, Running { version, stop, task, failures, again });
        Ok(())
    }

    fn ended(&mut self, ended: Result<(Id, Result<(), WorkerError>), tokio::task::JoinError>) {
        let (task, fault) = match ended {
            Ok((task, Ok(()))) => (task, None),
            Ok((task, Err(error))) => (task, Some(error.to_string())),
            Err(error) => (error.id(), Some("it panicked".to_owned())),
        };
        let Some(id) = self.of.remove(&task) else { return };
        let Some(running) = self.running.get_mut(&id) else { return };
        running.task = None;
        match fault {
            // Its endpoint or its partner is disabled, or it was told to stop: what has changed is seen by the next look.
            None => running.failures = 0,
            Some(fault) => {
                warn!(endpoint = %id, fault, "the worker of an endpoint ended, and is started again");
                let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(running.failures.min(10)));
                running.failures = running.failures.saturating_add(1);
                running.again = Some(Instant::now() + pause.min(LONGEST_PAUSE));
            }
        }
    }

    async fn flush_or_warn(&self) {
        if let Err(error) = self.flush().await {
            warn!(%error, "how far endpoints are could not be written down, tried again");
        }
    }

    /// Writes down how far endpoints are.
    async fn flush(&self) -> Result<(), StoreError> {
        let shared = &self.manager.shared;
        let moved = std::mem::take(&mut *shared.cursors.lock().unwrap_or_else(PoisonError::into_inner));
        if moved.is_empty() {
            return Ok(());
        }
        let cursors: Vec<_> = moved.iter().map(|(id, cursor)| (*id, *cursor)).collect();
        let written = async {
            let mut connection = shared.pool.get().await?;
            endpoints::move_on(&mut connection, self.lease, &cursors).await
        };
        let written = written.await;
        if written.is_err() {
            let mut later = shared.cursors.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, cursor) in moved {
                later.entry(id).or_insert(cursor);
            }
        }
        written
    }

    /// Lets every worker finish what it has at work, and gives the endpoints to others.
    async fn stop(&mut self) {
        for running in self.running.values() {
            running.stop.send_replace(true);
        }
        let grace = self.manager.shutdown.grace();
        let drained = tokio::time::timeout(grace, async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.ended(ended);
            }
        });
        if drained.await.is_err() {
            warn!(
                workers = self.tasks.len(),
                "deliveries were at work when their time was over; they are made again"
            );
        }
        self.tasks.abort_all();
        self.flush_or_warn().await;
        let released = async {
            let mut connection = self.manager.shared.pool.get().await?;
            endpoints::release(&mut connection, self.lease).await
        };
        if let Err(error) = released.await {
            let error: StoreError = error;
            warn!(%error, "endpoints could not be given back; others take them when their lease is over");
        }
    }
}
