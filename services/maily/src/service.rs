//! How maily is put together and started.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use orrery_bus::{Dependencies, Handler, consumer::QueueKind, relay::Wake};
use orrery_config::keys::KeyRing;
use orrery_schemas::email::{DETAILS_PURPOSE, SEAL_PURPOSE};
use orrery_seal::{SealError, Sealer};
use orrery_store::outbox::Outbox;
use orrery_supervise::{Mailbox, Supervisor};

use crate::{
    accounts::DeletedAccounts,
    bounce::ReturnPath,
    config::Config,
    definition::MAILY,
    handler::{Keys, Mailer, Pace, trial},
    legacy, maildir,
    records::Digests,
    render::{RenderError, Renderer},
    state::State,
    transport::{SendError, SetupError, Stage, Transport, Trial},
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
    /// How long events are wanted.
    pub event_lifetime: Duration,
    /// How long sent rows are kept.
    pub keep_sent: Duration,
    /// The broker, its connections, time and randomness.
    pub dependencies: Dependencies,
    /// What health shows.
    pub state: State,
}

/// The handler of mail commands.
///
/// # Errors
/// When a key, a template or the transport cannot be used.
pub fn handler(parts: &Parts) -> Result<Arc<dyn Handler>, StartError> {
    let Parts { config, mail, dependencies, state, .. } = parts;
    Ok(Arc::new(Mailer {
        keys: Keys {
            addresses: Sealer::new(mail, SEAL_PURPOSE)?,
            details: Sealer::new(mail, DETAILS_PURPOSE)?,
        },
        digests: Digests::new(mail.keys()),
        pool: dependencies.pool.clone(),
        renderer: Renderer::new(config)?,
        transport: transport(config, mail)?,
        pace: Pace::new(config.domain_rate),
        state: state.clone(),
        clock: dependencies.clock.clone(),
        config: config.clone(),
    }))
}

/// The handler of deleted accounts, which rings `wake` after a commit.
pub fn deleted_accounts(parts: &Parts, wake: Wake) -> Arc<dyn Handler> {
    let Dependencies { pool, clock, random, .. } = parts.dependencies.clone();
    let outbox = Outbox::new(MAILY, parts.event_lifetime, clock.clone(), random);
    Arc::new(DeletedAccounts { config: parts.config.clone(), pool, outbox, wake, clock })
}

fn transport(config: &Config, mail: &KeyRing) -> Result<Transport, SetupError> {
    let path = return_path(config, mail);
    Ok(Transport::new(config)?.with_return_path(path))
}

fn return_path(config: &Config, mail: &KeyRing) -> Option<ReturnPath> {
    let address = config.bounces.address.as_ref()?.parse().ok()?;
    Some(ReturnPath::new(address, mail.keys()))
}

/// Starts maily's consumers and its relay, the reader of bounces, and the bridge of the legacy queue if it is wanted, under `supervisor`.
///
/// # Errors
/// As `handler`.
pub fn start(parts: &Parts, supervisor: &Supervisor) -> Result<(), StartError> {
    if parts.config.legacy_queue {
        let sealer = Sealer::new(&parts.mail, SEAL_PURPOSE)?;
        legacy::start(sealer, &parts.dependencies, supervisor);
    }
    if let (Some(path), Some(folder)) =
        (return_path(&parts.config, &parts.mail), &parts.config.bounces.maildir)
    {
        let reader = maildir::Reader {
            folder: folder.clone(),
            path,
            digests: Digests::new(parts.mail.keys()),
            pool: parts.dependencies.pool.clone(),
            clock: parts.dependencies.clock.clone(),
            shutdown: supervisor.shutdown_signal(),
        };
        supervisor.start_actor("maily.bounces", Mailbox::own_work(1), move || reader.clone());
    }
    parts.dependencies.consume(supervisor, handler(parts)?, QueueKind::Main);
    let wake = Wake::default();
    parts.dependencies.relay(supervisor, MAILY, parts.keep_sent, wake.clone());
    parts.dependencies.consume(supervisor, deleted_accounts(parts, wake), QueueKind::Main);
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

/// What an operator who tries the way out is shown.
pub struct Report {
    /// The dialogue, line by line.
    pub lines: Vec<String>,
    /// Records that DNS should have for what signs our mails, by name and text.
    pub records: Vec<(String, String)>,
    /// How it ended.
    ///
    /// # Errors
    /// What went wrong and what to do.
    pub result: Result<String, String>,
}

/// Sends a mail made of sample data to `to` past every queue, and tells the whole dialogue. `id` makes its Message-ID.
///
/// # Errors
/// When the configuration cannot be used.
pub async fn test(
    config: &Config,
    mail: &KeyRing,
    to: &str,
    id: &str,
    now: DateTime<Utc>,
) -> Result<Report, StartError> {
    let transport = transport(config, mail)?;
    let renderer = Renderer::new(config)?;
    let records = transport.records();
    let Some(sample) = trial(&renderer, &transport, to, id, now) else {
        return Ok(Report {
            lines: Vec::new(),
            records,
            result: Err("the sample cannot be written".to_owned()),
        });
    };
    let Trial { lines, result } = transport.try_out(&sample).await;
    let result = match result {
        Ok(()) => Ok(format!("taken; its Message-ID is {}", sample.message_id)),
        Err(error) => Err(format!("{error}\n{}", advice(&error))),
    };
    Ok(Report { lines, records, result })
}

/// What to do about a failed mail.
fn advice(error: &SendError) -> &'static str {
    match error {
        SendError::Unreachable { stage: Stage::Connect, .. } => {
            "Look at host, port and tls of [maily.smtp], and whether a firewall lets this machine out. Many networks close port 25; 587 (starttls) and 465 (tls) are for submission. A certificate that is not believed: ca_file names another authority."
        }
        SendError::Unreachable { stage: Stage::Login, .. } => {
            "Look at username, password and authentication of [maily.smtp]. Some providers want a password made for this purpose, or xoauth2."
        }
        SendError::Unreachable { stage: Stage::Capture, .. } => {
            "Make maily.capture_dir a folder that can be written to."
        }
        SendError::Unreachable { .. } => {
            "The server broke off or fell silent; its own log says why. Queued mails wait and are sent when it is back."
        }
        SendError::Temporary { .. } => {
            "The server may take it later (greylisting, a full disk): queued mails are tried once more after maily.retry_delay."
        }
        SendError::Permanent { stage: Stage::Sender, .. } => {
            "The server does not take this sender: it must be allowed to send for the domain of maily.from."
        }
        SendError::Permanent { stage: Stage::Recipient, .. } => {
            "The server does not take this recipient: look at the address, and whether the server relays for us (does it want a log-in?)."
        }
        SendError::Permanent { stage: Stage::Message, .. } => {
            "This is no address that a mail can be sent to."
        }
        SendError::Permanent { .. } => {
            "The server does not take this message; its words say why. SPF, DKIM and DMARC of the sender's domain are the usual reasons."
        }
        SendError::Doubtful { .. } => {
            "The message was sent and the server did not say whether it took it: look whether it arrived."
        }
    }
}
