//! The bridge of the store's own notifications: started where they, and not autha, tell of uploads. What they say is read in `records`.

use std::{sync::Arc, time::Duration};

use orrery_bus::{
    Dependencies,
    bridge::{BridgeSpec, ForeignQueue},
};
use orrery_schemas::events::{EventData, ImageUploaded};
use orrery_schemas::topology::EVENTS;
use orrery_supervise::Supervisor;

use crate::{optimizer, records};

/// The queue of the store's own notifications.
pub const QUEUE: &str = "spinoza.notifications";
/// The key that stores publish with, to the exchange of third parties.
const ROUTING_KEY: &str = "s3.notifications";

/// Where the bridge reads and writes; `orrery migrate` declares by it.
pub fn bridge() -> BridgeSpec {
    BridgeSpec {
        name: "spinoza.notifications",
        queue: QUEUE,
        queue_kind: ForeignQueue::Ingress(ROUTING_KEY),
        exchange: EVENTS,
        routing_key: ImageUploaded::TYPE,
        handler: optimizer::NAME,
    }
}

/// Starts the bridge for `bucket` under `supervisor`.
pub fn start(bucket: String, lifetime: Duration, dependencies: &Dependencies, supervisor: &Supervisor) {
    dependencies.bridge(
        supervisor,
        bridge(),
        Arc::new(move |_, body| records::translate(&bucket, lifetime, body)),
    );
}
