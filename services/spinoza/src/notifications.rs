//! The bridge of the store's own notifications: started where they, and not autha, tell of uploads. What they say is read in `records`.

use std::{sync::Arc, time::Duration};

use orrery_actors::{
    bus::{
        Footing,
        bridge::{BridgeSpec, Source},
        topology::EVENTS,
    },
    supervise::Supervisor,
};
use orrery_schemas::events::{EventData, ImageUploaded};

use crate::{optimizer, records};

/// The key that stores publish with, to the exchange of third parties.
const ROUTING_KEY: &str = "s3.notifications";

/// Where the bridge reads and writes; `orrery migrate` declares by it.
pub fn bridge() -> BridgeSpec {
    BridgeSpec {
        name: "spinoza.notifications",
        queue: "spinoza.notifications",
        source: Source::Ingress(ROUTING_KEY),
        exchange: EVENTS,
        routing_key: ImageUploaded::TYPE,
        handler: optimizer::NAME,
    }
}

/// Starts the bridge for `bucket` under `supervisor`.
pub fn start(bucket: String, lifetime: Duration, footing: &Footing, supervisor: &Supervisor) {
    footing.bridge(supervisor, bridge(), Arc::new(move |_, body| records::turn(&bucket, lifetime, body)));
}
