//! What each service is given, made from the configuration: the same for `serve` and for the process of a quarantine lane.

use orrery_actors::{
    bus::{Bus, Footing},
    clock::Clock,
    objects::Objects,
    random::Random,
    store::Pool,
};
use orrery_autha::KeySet;
use tokio::runtime::Handle;

use crate::config::Config;

/// What a service with that pool stands on.
pub fn footing(bus: &Bus, pool: Pool, random: &Random) -> Footing {
    Footing { bus: bus.clone(), pool, clock: Clock::System, random: random.clone() }
}

/// What autha is given; it loads `keys`.
pub fn autha(
    config: &Config,
    footing: Footing,
    keys: KeySet,
    main: Handle,
) -> anyhow::Result<orrery_autha::Parts> {
    Ok(orrery_autha::Parts {
        event_lifetime: config.broker.event_lifetime,
        keep_sent: config.retention.sent,
        uploaded_events: config.storage.uploaded_events,
        master: config.keys.master().map_err(anyhow::Error::msg)?,
        mail: config.keys.mail().map_err(anyhow::Error::msg)?,
        keys,
        objects: Objects::new(&config.storage)?,
        footing,
        main,
        config: config.autha.clone(),
    })
}

/// What spinoza is given.
pub fn spinoza(config: &Config, footing: Footing) -> anyhow::Result<orrery_spinoza::Parts> {
    Ok(orrery_spinoza::Parts {
        config: config.spinoza.clone(),
        event_lifetime: config.broker.event_lifetime,
        keep_sent: config.retention.sent,
        objects: Objects::new(&config.storage)?,
        notifying_bucket: config.storage.notifying_bucket().map(str::to_owned),
        footing,
    })
}

/// What maily is given.
pub fn maily(config: &Config, footing: Footing) -> anyhow::Result<orrery_maily::Parts> {
    Ok(orrery_maily::Parts {
        config: config.maily.clone(),
        mail: config.keys.mail().map_err(anyhow::Error::msg)?,
        footing,
    })
}
