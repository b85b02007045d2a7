//! What the consumers and relays of a service stand on, and how they are started.

use std::{sync::Arc, time::Duration};

use orrery_schemas::services::Service;

use super::{
    Bus, Handler,
    bridge::{Bridge, BridgeSpec, Turn},
    consumer::{Consumer, Source},
    relay::{Relay, Wake},
};
use crate::{clock::Clock, random::Random, store::Pool, supervise::Supervisor};

/// What a handler's single steps may take longer than its time limit, before its consumer counts as stalled.
const MARGIN: Duration = Duration::from_secs(30);

/// The broker, a service's connections to the database, the time and randomness.
#[derive(Clone)]
pub struct Footing {
    /// The broker.
    pub bus: Bus,
    /// The service's connections.
    pub pool: Pool,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
}

impl Footing {
    /// Starts the consumer of a handler under its name.
    pub fn consume(&self, supervisor: &Supervisor, handler: Arc<dyn Handler>, source: Source) {
        let spec = handler.spec();
        let (footing, signal) = (self.clone(), supervisor.shutdown_signal());
        supervisor.start_within(spec.name, spec.time_limit + MARGIN, move |pulse| {
            Consumer {
                footing: footing.clone(),
                handler: Arc::clone(&handler),
                source: source.clone(),
                pulse,
                shutdown: signal.clone(),
            }
            .run()
        });
    }

    /// Starts the relay of a service's rows, which are kept for `keep` once they are sent; `wake` rings it.
    pub fn relay(&self, supervisor: &Supervisor, producer: Service, keep: Duration, wake: Wake) {
        let (footing, signal) = (self.clone(), supervisor.shutdown_signal());
        supervisor.start(format!("{producer}.relay"), move |pulse| {
            Relay {
                bus: footing.bus.clone(),
                pool: footing.pool.clone(),
                producer,
                keep,
                random: footing.random.clone(),
                wake: wake.clone(),
                pulse,
                shutdown: signal.clone(),
            }
            .run()
        });
    }

    /// Starts a bridge under its name.
    pub fn bridge(&self, supervisor: &Supervisor, spec: BridgeSpec, turn: Arc<Turn>) {
        let (footing, signal) = (self.clone(), supervisor.shutdown_signal());
        supervisor.start(spec.name, move |pulse| {
            Bridge {
                footing: footing.clone(),
                spec: spec.clone(),
                turn: Arc::clone(&turn),
                pulse,
                shutdown: signal.clone(),
            }
            .run()
        });
    }
}
