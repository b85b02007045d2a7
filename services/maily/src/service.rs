//! How maily is put together and started.

use std::sync::Arc;

use orrery_actors::{
    bus::{Bus, consumer::Consumer},
    clock::Clock,
    config::keys::KeyRing,
    random::Random,
    seal::{SealError, Sealer},
    store::Pool,
    supervise::Supervisor,
};
use orrery_schemas::email::SEAL_PURPOSE;

use crate::{
    config::Config,
    handler::Mailer,
    legacy,
    render::{RenderError, Renderer},
    transport::{SetupError, Transport},
};

/// Maily cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The mail key cannot be used.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A template is broken.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The way out cannot be set up.
    #[error(transparent)]
    Transport(#[from] SetupError),
}

/// What maily is given.
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// Keys shared with autha.
    pub mail: KeyRing,
    /// Its connections.
    pub pool: Pool,
    /// The broker.
    pub bus: Bus,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
}

/// Starts maily's consumer, and the bridge of the legacy queue if it is wanted, under `supervisor`.
///
/// # Errors
/// When a key, a template or the transport cannot be used.
pub fn start(parts: Parts, supervisor: &Supervisor) -> Result<(), StartError> {
    let Parts { config, mail, pool, bus, clock, random } = parts;
    let handler = Arc::new(Mailer {
        sealer: Sealer::new(&mail, SEAL_PURPOSE)?,
        renderer: Renderer::new(&config.brand, &config.default_locale)?,
        transport: Transport::new(&config)?,
        clock: clock.clone(),
        config,
    });
    if handler.config.legacy_queue {
        let sealer = Sealer::new(&mail, SEAL_PURPOSE)?;
        legacy::start(sealer, bus.clone(), clock.clone(), random.clone(), supervisor);
    }
    let signal = supervisor.shutdown_signal();
    supervisor.start("maily.email", move || {
        Consumer::new(
            bus.clone(),
            pool.clone(),
            handler.clone(),
            clock.clone(),
            random.clone(),
            signal.clone(),
        )
        .run()
    });
    Ok(())
}

/// Whether mail could be sent now.
///
/// # Errors
/// What is in the way.
pub async fn probe(config: &Config) -> Result<(), String> {
    let transport = Transport::new(config).map_err(|error| error.to_string())?;
    transport.probe().await.map_err(|error| error.to_string())
}
