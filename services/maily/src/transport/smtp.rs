//! The SMTP client: a few kept connections and the conversation on them, step by step.
//!
//! It stands on lettre's connection and not on its transport, because that tells neither before or after which step a
//! conversation broke (so nobody could know whether the mail is out) nor gives up waiting for an answer.

#[cfg(test)]
mod scripted;
mod session;

use std::{
    fs, mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lettre::{
    Address,
    message::Mailbox,
    transport::smtp::{
        authentication::Credentials,
        client::TlsParameters,
        commands::{Data, Mail, Noop, Rcpt, Rset},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;

use self::session::Session;
use super::{SendError, SetupError, Stage, message::Packed, scrub::Scrubber};
use crate::config;

/// A connection unused for longer is not used again: servers and routers forget them, some silently.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Mails on one connection; many servers hang up at 100.
const MAILS_PER_CONNECTION: u32 = 50;

/// A client of one SMTP server.
pub struct Smtp {
    from: Mailbox,
    server: Server,
    /// One permit for each connection in use.
    permits: Semaphore,
    /// Connections at rest, the one used last at the end. The lock is never held across an await.
    idle: Mutex<Vec<Idle>>,
}

/// Where and how to connect.
struct Server {
    host: String,
    port: u16,
    security: Security,
    hello: ClientId,
    credentials: Option<Credentials>,
    timeout: Duration,
    accept_timeout: Duration,
}

enum Security {
    Plain,
    Starttls(TlsParameters),
    Tls(TlsParameters),
}

struct Idle {
    session: Session,
    since: Instant,
}

impl Smtp {
    pub(super) fn new(from: Mailbox, config: &config::Smtp) -> Result<Self, SetupError> {
        let host = config.host.trim().trim_start_matches('[').trim_end_matches(']').to_owned();
        let parameters = || TlsParameters::new(host.clone()).map_err(SetupError::Tls);
        let security = match config.tls {
            config::Tls::None => Security::Plain,
            config::Tls::Starttls => Security::Starttls(parameters()?),
            config::Tls::Tls => Security::Tls(parameters()?),
        };
        let server = Server {
            security,
            port: config.port(),
            hello: config.hello.clone().map_or_else(ClientId::default, ClientId::Domain),
            credentials: credentials(config)?,
            timeout: config.timeout,
            accept_timeout: config.accept_timeout(),
            host,
        };
        let connections = usize::try_from(config.pool_size).unwrap_or(Semaphore::MAX_PERMITS);
        let permits = Semaphore::new(connections.min(Semaphore::MAX_PERMITS));
        Ok(Self { from, server, permits, idle: Mutex::default() })
    }

    pub(super) fn from(&self) -> &Mailbox {
        &self.from
    }

    /// Sends one mail, over a kept connection if there is one. When that one turns out to be gone before the message
    /// was asked for, a new one is tried at once: the server just grew tired of it, which is no fault of the mail.
    pub(super) async fn send(&self, mail: &Packed, scrubber: &Scrubber) -> Result<(), SendError> {
        let permit = self.permits.acquire().await.map_err(|_| SendError::Unreachable {
            stage: Stage::Connect,
            cause: "the transport is closed".into(),
        })?;
        let mut result = None;
        if let Some(session) = self.take_idle() {
            let tried = self.deliver(session, mail, scrubber).await;
            let gone =
                matches!(tried, Err(SendError::Unreachable { stage: Stage::Sender | Stage::Recipient, .. }));
            result = (!gone).then_some(tried);
        }
        let result = match result {
            Some(result) => result,
            None => {
                let session = Session::open(&self.server, scrubber).await?;
                self.deliver(session, mail, scrubber).await
            }
        };
        drop(permit);
        result
    }

    /// Goes as far as a mail would without naming one, on a new connection.
    pub(super) async fn probe(&self) -> Result<(), SendError> {
        let scrubber = Scrubber::nobody();
        let mut session = Session::open(&self.server, &scrubber).await?;
        session.say(&self.server, Stage::Idle, Noop, &scrubber).await.map_err(|error| match error {
            SendError::Temporary { stage, code, text }
            | SendError::Permanent { stage, code: Some(code), text } => {
                SendError::Unreachable { stage, cause: format!("{code} {text}") }
            }
            other => other,
        })?;
        session.quit(&self.server).await;
        Ok(())
    }

    pub(super) async fn close(&self) {
        let kept = mem::take(&mut *self.lock());
        for idle in kept {
            idle.session.quit(&self.server).await;
        }
    }

    /// One mail on one connection, which is kept if it is still in order.
    async fn deliver(
        &self,
        mut session: Session,
        mail: &Packed,
        scrubber: &Scrubber,
    ) -> Result<(), SendError> {
        let result = self.transact(&mut session, mail, scrubber).await;
        let in_order = match &result {
            Ok(()) => true,
            // Answered: the server is well and only wants to forget this mail.
            Err(SendError::Temporary { .. } | SendError::Permanent { .. }) => {
                session.say(&self.server, Stage::Idle, Rset, scrubber).await.is_ok()
            }
            Err(SendError::Unreachable { .. } | SendError::Doubtful { .. }) => false,
        };
        if in_order && session.mails() < MAILS_PER_CONNECTION {
            self.lock().push(Idle { session, since: Instant::now() });
        } else if in_order {
            session.quit(&self.server).await;
        }
        result
    }

    async fn transact(
        &self,
        session: &mut Session,
        mail: &Packed,
        scrubber: &Scrubber,
    ) -> Result<(), SendError> {
        let mut parameters = Vec::new();
        let is_ascii = |address: &Address| address.user().is_ascii() && address.domain().is_ascii();
        if !is_ascii(&mail.to) || !is_ascii(&mail.from) {
            if !session.supports(Extension::SmtpUtfEight) {
                return Err(SendError::Permanent {
                    stage: Stage::Recipient,
                    code: None,
                    text: "the server takes no international addresses (SMTPUTF8)".into(),
                });
            }
            parameters.push(MailParameter::SmtpUtfEight);
            // Such an address stands in the header as it is (RFC 6532).
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let server = &self.server;
        session.say(server, Stage::Sender, Mail::new(Some(mail.from.clone()), parameters), scrubber).await?;
        session.say(server, Stage::Recipient, Rcpt::new(mail.to.clone(), Vec::new()), scrubber).await?;
        session.say(server, Stage::Data, Data, scrubber).await?;
        session.message(server, &mail.bytes, scrubber).await
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.lock();
        idle.retain(|kept| kept.since.elapsed() < IDLE_LIMIT);
        idle.pop().map(|kept| kept.session)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        // Nothing panics while it is held, and a list of connections cannot be half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp")
            .field("host", &self.server.host)
            .field("port", &self.server.port)
            .field("idle", &self.lock().len())
            .finish_non_exhaustive()
    }
}

/// The account at the server, its password from wherever it was put.
fn credentials(config: &config::Smtp) -> Result<Option<Credentials>, SetupError> {
    let Some(username) = &config.username else { return Ok(None) };
    let password = match (&config.password, &config.password_file) {
        (Some(password), _) => password.expose_secret().to_owned(),
        (None, Some(path)) => fs::read_to_string(path)
            .map_err(|source| SetupError::PasswordFile { path: path.clone(), source })?
            .trim_end()
            .to_owned(),
        (None, None) => return Ok(None),
    };
    Ok(Some(Credentials::new(username.clone(), password)))
}

#[cfg(test)]
mod tests;
