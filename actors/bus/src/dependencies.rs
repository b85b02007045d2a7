//! What the consumers and relays of a service stand on, and how they are started.

use std::{sync::Arc, time::Duration};

use orrery_observability::metrics;
use orrery_schemas::services::ServiceId;
use orrery_store::Pool;
use orrery_supervise::{Mailbox, Progress, Supervisor, clock::Clock, random::Random};

use super::{
    Bus, Handler,
    bridge::{self, Bridge, BridgeSpec, Translate},
    consumer::{Consumer, QueueKind},
    handler::HandlerActor,
    relay::{self, Relay, Wake},
};

/// What a handler's single steps may take longer than its time limit, before its consumer counts as stalled.
const MARGIN: Duration = Duration::from_secs(30);

/// The broker, a service's connections to the database, the time and randomness.
#[derive(Clone)]
pub struct Dependencies {
    /// The broker.
    pub bus: Bus,
    /// The service's connections.
    pub pool: Pool,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
}

impl Dependencies {
    /// Starts the actor of a handler under its name, and its consumer.
    pub fn consume(&self, supervisor: &Supervisor, handler: Arc<dyn Handler>, kind: QueueKind) {
        let mut spec = handler.spec();
        if matches!(kind, QueueKind::Quarantine(_)) {
            spec.mailbox = Mailbox::own_work(1);
        }
        // The time limit of each message is the consumer's matter, which is cancelled as a whole.
        let actor = supervisor.start_actor_within(spec.name, spec.mailbox, Duration::MAX, {
            let handler = Arc::clone(&handler);
            move || HandlerActor { handler: Arc::clone(&handler) }
        });
        let consumer = Consumer {
            dependencies: self.clone(),
            handler,
            mailbox: actor.admission(),
            kind,
            progress: Progress::default(),
            shutdown: supervisor.shutdown_signal(),
        };
        let (name, deliveries) = (format!("{}.consumer", spec.name), Mailbox::own_work(spec.mailbox.takes()));
        let stall_limit = spec.time_limit + MARGIN;
        supervisor.start_actor_within(name, deliveries, stall_limit, move || consumer.clone());
    }

    /// Starts the relay of a service's rows, which are kept for `keep` once they are sent; `wake` rings it.
    pub fn relay(&self, supervisor: &Supervisor, producer: ServiceId, keep: Duration, wake: Wake) {
        let relay = Relay {
            bus: self.bus.clone(),
            pool: self.pool.clone(),
            producer,
            keep,
            clock: self.clock.clone(),
            random: self.random.clone(),
            wake,
            progress: Progress::default(),
            shutdown: supervisor.shutdown_signal(),
        };
        metrics::begin_relay(producer.name());
        let name = format!("{producer}.relay");
        supervisor.start_actor(name, Mailbox::own_work(relay::MOST_AT_WORK), move || relay.clone());
    }

    /// Starts a bridge under its name.
    pub fn bridge(&self, supervisor: &Supervisor, spec: BridgeSpec, turn: Arc<Translate>) {
        let bridge = Bridge {
            dependencies: self.clone(),
            spec,
            turn,
            progress: Progress::default(),
            shutdown: supervisor.shutdown_signal(),
        };
        let mailbox = Mailbox::own_work(usize::from(bridge::PREFETCH));
        supervisor.start_actor(bridge.spec.name, mailbox, move || bridge.clone());
    }
}
