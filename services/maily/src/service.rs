//! How maily is put together and started.

use std::sync::Arc;

use orrery_actors::{
    bus::{Footing, Handler, consumer::Source},
    config::keys::KeyRing,
    seal::{SealError, Sealer},
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
    /// The broker, its connections, time and randomness.
    pub footing: Footing,
}

/// The handler of mail commands.
///
/// # Errors
/// When a key, a template or the transport cannot be used.
pub fn handler(parts: &Parts) -> Result<Arc<dyn Handler>, StartError> {
    let Parts { config, mail, footing } = parts;
    Ok(Arc::new(Mailer {
        sealer: Sealer::new(mail, SEAL_PURPOSE)?,
        renderer: Renderer::new(&config.brand, &config.default_locale)?,
        transport: Transport::new(config)?,
        clock: footing.clock.clone(),
        config: config.clone(),
    }))
}

/// Starts maily's consumer, and the bridge of the legacy queue if it is wanted, under `supervisor`.
///
/// # Errors
/// As `handler`.
pub fn start(parts: &Parts, supervisor: &Supervisor) -> Result<(), StartError> {
    if parts.config.legacy_queue {
        let sealer = Sealer::new(&parts.mail, SEAL_PURPOSE)?;
        legacy::start(sealer, &parts.footing, supervisor);
    }
    parts.footing.consume(supervisor, handler(parts)?, Source::Main);
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
