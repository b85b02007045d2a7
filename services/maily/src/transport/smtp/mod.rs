//! The SMTP client of one server: a few kept connections and the conversation on them, step by step. Several servers and which of them
//! gets a mail live in `relays`.
//!
//! It is our own down to the bytes (decision 31): libraries neither tell after which step a conversation broke, so that nobody could
//! know whether the mail is out, nor take the replies that real servers send.

mod dialogue;
mod login;
mod reply;
#[cfg(test)]
mod scripted;
mod session;
mod stream;

use std::{
    fs, mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lettre::Address;
use tokio::sync::Semaphore;

pub(super) use self::dialogue::Dialogue;
pub use self::stream::TlsError;
use self::{
    login::Credentials,
    session::{Awaited, Session},
    stream::Tls,
};
use super::{Doubt, SendError, SetupError, Stage, message::Packed, scrub::Scrubber};
use crate::config;

/// A connection unused for longer is not used again: servers and routers forget them, some silently.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// Mails on one connection; many servers hang up at 100.
const MAILS_PER_CONNECTION: u32 = 50;

/// A client of one SMTP server.
pub(super) struct Smtp {
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
    encryption: Encryption,
    hello: String,
    credentials: Option<Credentials>,
    timeout: Duration,
    accept_timeout: Duration,
}

enum Encryption {
    Plain,
    Starttls(Tls),
    Implicit(Tls),
}

impl Encryption {
    fn implicit(&self) -> Option<&Tls> {
        if let Self::Implicit(tls) = self { Some(tls) } else { None }
    }

    fn starttls(&self) -> Option<&Tls> {
        if let Self::Starttls(tls) = self { Some(tls) } else { None }
    }
}

struct Idle {
    session: Session,
    since: Instant,
}

impl Smtp {
    /// `path` is the section of the configuration, for errors.
    pub(super) fn new(config: &config::Relay, path: &str) -> Result<Self, SetupError> {
        let host = config.bare_host().to_owned();
        let tls = || {
            Tls::new(&host, config.ca_file.as_deref())
                .map_err(|source| SetupError::Tls { path: path.to_owned(), source })
        };
        let encryption = match config.tls {
            config::Tls::None => Encryption::Plain,
            config::Tls::Starttls => Encryption::Starttls(tls()?),
            config::Tls::Tls => Encryption::Implicit(tls()?),
        };
        if let (None, Some(file)) = (&config.password, &config.password_file) {
            // It is read at each log-in; that it cannot be read is told now.
            fs::read_to_string(file).map_err(|source| SetupError::PasswordFile {
                path: path.to_owned(),
                file: file.clone(),
                source,
            })?;
        }
        let server = Server {
            encryption,
            port: config.port(),
            hello: config.hello.clone().unwrap_or_else(|| "[127.0.0.1]".to_owned()),
            credentials: Credentials::new(config),
            timeout: config.timeout,
            accept_timeout: config.accept_timeout(),
            host,
        };
        let connections = usize::try_from(config.pool_size).unwrap_or(Semaphore::MAX_PERMITS);
        let permits = Semaphore::new(connections.min(Semaphore::MAX_PERMITS));
        Ok(Self { server, permits, idle: Mutex::default() })
    }

    /// Its address, for errors.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.server.host, self.server.port)
    }

    /// Sends one mail, over a kept connection if there is one. When that one turns out to be gone before the message
    /// was asked for, a new one is tried at once: the server just grew tired of it, which is no fault of the mail.
    pub(super) async fn send(
        &self,
        mail: &Packed,
        doubt: &Doubt<'_>,
        scrubber: &Scrubber,
    ) -> Result<(), SendError> {
        let permit = self.permits.acquire().await.map_err(|_| SendError::Unreachable {
            stage: Stage::Connect,
            cause: "the transport is closed".into(),
        })?;
        let mut result = None;
        if let Some(session) = self.take_idle() {
            let tried = self.deliver(session, mail, doubt, scrubber).await;
            let gone =
                matches!(tried, Err(SendError::Unreachable { stage: Stage::Sender | Stage::Recipient, .. }));
            result = (!gone).then_some(tried);
        }
        let result = match result {
            Some(result) => result,
            None => {
                let session = Session::open(&self.server, scrubber, Dialogue::default()).await?;
                self.deliver(session, mail, doubt, scrubber).await
            }
        };
        drop(permit);
        result
    }

    /// Sends one mail on a connection of its own and takes down what was said.
    pub(super) async fn try_out(&self, mail: &Packed, dialogue: &Dialogue) -> Result<(), SendError> {
        let scrubber = Scrubber::new(mail.to.as_ref());
        let mut session = Session::open(&self.server, &scrubber, dialogue.clone()).await?;
        let result = self.transact(&mut session, mail, &Doubt::ignored(), &scrubber).await;
        session.quit(&self.server).await;
        result
    }

    /// Goes as far as the stage at which mails failed, on a new connection, and sends nothing. `own` is an address of ours: whatever the
    /// server says to it, it says something.
    pub(super) async fn probe(&self, depth: Stage, own: &Address) -> Result<(), SendError> {
        let scrubber = Scrubber::nobody();
        let mut session = Session::open(&self.server, &scrubber, Dialogue::default()).await?;
        let said = self.say_until(&mut session, depth, own, &scrubber).await;
        match said {
            // It went on to wait for a message, which only leaving ends.
            Ok(true) => Ok(()),
            Ok(false) => {
                session.quit(&self.server).await;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// True when the server waits for a message.
    async fn say_until(
        &self,
        session: &mut Session,
        depth: Stage,
        own: &Address,
        scrubber: &Scrubber,
    ) -> Result<bool, SendError> {
        let server = &self.server;
        let noop = session.say(server, Stage::Idle, "NOOP", Awaited::Done, scrubber).await;
        noop.map_err(|error| match error {
            SendError::Temporary { stage, code, text }
            | SendError::Permanent { stage, code: Some(code), text } => {
                SendError::Unreachable { stage, cause: format!("{code} {text}") }
            }
            other => other,
        })?;
        for (stage, command, awaited) in [
            (Stage::Sender, format!("MAIL FROM:<{own}>"), Awaited::Done),
            (Stage::Recipient, format!("RCPT TO:<{own}>"), Awaited::Done),
            (Stage::Data, "DATA".to_owned(), Awaited::More),
        ] {
            if stage > depth {
                return Ok(false);
            }
            match session.say(server, stage, &command, awaited, scrubber).await {
                Ok(_) => {}
                // An answer about this address is an answer.
                Err(SendError::Temporary { .. } | SendError::Permanent { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
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
        doubt: &Doubt<'_>,
        scrubber: &Scrubber,
    ) -> Result<(), SendError> {
        let result = self.transact(&mut session, mail, doubt, scrubber).await;
        let in_order = session.is_in_step()
            && match &result {
                Ok(()) => true,
                // Answered: the server is well and only wants to forget this mail.
                Err(SendError::Temporary { .. } | SendError::Permanent { .. }) => {
                    session.say(&self.server, Stage::Idle, "RSET", Awaited::Done, scrubber).await.is_ok()
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
        doubt: &Doubt<'_>,
        scrubber: &Scrubber,
    ) -> Result<(), SendError> {
        let mut parameters = String::new();
        if mail.is_international() {
            if !session.features().smtputf8 {
                return Err(SendError::Permanent {
                    stage: Stage::Recipient,
                    code: None,
                    text: "the server takes no international addresses (SMTPUTF8)".into(),
                });
            }
            parameters.push_str(" SMTPUTF8");
        }
        // Such an address stands in the header as it is (RFC 6532).
        if !mail.bytes.is_ascii() && session.features().eight_bit_mime {
            parameters.push_str(" BODY=8BITMIME");
        }
        let server = &self.server;
        let sender = format!("MAIL FROM:<{}>{parameters}", mail.from);
        session.say(server, Stage::Sender, &sender, Awaited::Done, scrubber).await?;
        let recipient = format!("RCPT TO:<{}>", mail.to);
        session.say(server, Stage::Recipient, &recipient, Awaited::Done, scrubber).await?;
        session.say(server, Stage::Data, "DATA", Awaited::More, scrubber).await?;
        session.message(server, &mail.bytes, doubt, scrubber).await.map(drop)
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

#[cfg(test)]
mod tests;
