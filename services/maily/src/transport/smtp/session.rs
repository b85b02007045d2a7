//! One connection to the server: every step with its deadline, every failure with what it means for the mail.

use std::{
    error::Error as _,
    fmt::Display,
    future::Future,
    iter,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use lettre::transport::smtp::{
    Error, authentication::DEFAULT_MECHANISMS, client::AsyncSmtpConnection, commands::Quit,
    extension::Extension, response::Response,
};
use tokio::{net::TcpStream, time::timeout};

use super::{Security, SendError, Server, Stage};
use crate::transport::scrub::Scrubber;

/// A connection on which the server has greeted us, encryption stands and we are logged in.
pub(super) struct Session {
    connection: AsyncSmtpConnection,
    mails: u32,
}

/// What came instead of a positive answer.
enum Failure {
    Smtp(Error),
    Socket(std::io::Error),
    Silence(Duration),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Smtp(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Socket(error)
    }
}

impl Session {
    /// Connects, greets, encrypts and logs in. Whatever goes wrong here is about the server or our configuration,
    /// never about a mail: a wrong password must not turn every mail into a dead letter.
    pub(super) async fn open(server: &Server, scrubber: &Scrubber) -> Result<Self, SendError> {
        // A name with several addresses has each tried within this one deadline doubled, so that a dead first
        // address leaves time for the second.
        let limit = server.timeout.saturating_mul(2);
        let connecting = async {
            if let Security::Tls(parameters) = &server.security {
                let address = (server.host.as_str(), server.port);
                let wrapper = Some(parameters.clone());
                let each = Some(server.timeout);
                let hello = &server.hello;
                return Ok(AsyncSmtpConnection::connect_tokio1(address, each, hello, wrapper, None).await?);
            }
            // The message and its last line go out in two writes: Nagle's algorithm would hold the second back until the
            // first is acknowledged, which takes 40 ms. (lettre has no such door for implicit TLS.)
            let stream = TcpStream::connect((server.host.as_str(), server.port)).await?;
            stream.set_nodelay(true)?;
            let stream = Box::new(stream);
            let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &server.hello).await?;
            if let Security::Starttls(parameters) = &server.security {
                connection.starttls(parameters.clone(), &server.hello).await?;
            }
            Ok::<_, Failure>(connection)
        };
        let mut connection = within(limit, connecting)
            .await
            .map_err(|failure| failure.unreachable(Stage::Connect, scrubber))?;
        if let Some(credentials) = &server.credentials {
            within(server.timeout, connection.auth(DEFAULT_MECHANISMS, credentials))
                .await
                .map_err(|failure| failure.unreachable(Stage::Login, scrubber))?;
        }
        Ok(Self { connection, mails: 0 })
    }

    /// Mails that were begun on this connection.
    pub(super) fn mails(&self) -> u32 {
        self.mails
    }

    pub(super) fn supports(&self, extension: Extension) -> bool {
        self.connection.server_info().supports_feature(extension)
    }

    /// Says one command and waits for its positive answer.
    pub(super) async fn say(
        &mut self,
        server: &Server,
        stage: Stage,
        command: impl Display,
        scrubber: &Scrubber,
    ) -> Result<Response, SendError> {
        within(server.timeout, self.connection.command(command)).await.map_err(|failure| {
            failure.refusal(stage, scrubber).unwrap_or_else(|f| f.unreachable(stage, scrubber))
        })
    }

    /// Sends the message itself, after `DATA` was answered, and waits until the server has taken it over.
    pub(super) async fn message(
        &mut self,
        server: &Server,
        bytes: &[u8],
        scrubber: &Scrubber,
    ) -> Result<(), SendError> {
        self.mails = self.mails.saturating_add(1);
        // lettre takes the next piece only once the one before is written, and writes the closing dot after the last:
        // when it never came back for more, the server cannot have seen a whole message.
        let all_written = AtomicBool::new(false);
        let end = iter::from_fn(|| {
            all_written.store(true, Ordering::Relaxed);
            None::<&[u8]>
        });
        let sending = self.connection.message_iter(iter::once(bytes).chain(end));
        let Err(failure) = within(server.accept_timeout, sending).await else { return Ok(()) };
        Err(failure.refusal(Stage::Data, scrubber).unwrap_or_else(|failure| {
            if all_written.load(Ordering::Relaxed) {
                SendError::Doubtful { cause: failure.text(scrubber) }
            } else {
                failure.unreachable(Stage::Data, scrubber)
            }
        }))
    }

    /// Takes leave. The server's answer is of no interest.
    pub(super) async fn quit(mut self, server: &Server) {
        drop(within(server.timeout, self.connection.command(Quit)).await);
    }
}

/// Runs one step of the conversation. After a deadline the connection is in an unknown state and must be dropped.
async fn within<T, E: Into<Failure>>(
    limit: Duration,
    step: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match timeout(limit, step).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Failure::Silence(limit)),
    }
}

impl Failure {
    /// What a refusal means for the mail; gives the failure back when the server said nothing.
    fn refusal(self, stage: Stage, scrubber: &Scrubber) -> Result<SendError, Self> {
        let Self::Smtp(error) = &self else { return Err(self) };
        let Some(code) = error.status().map(u16::from) else { return Err(self) };
        let text = self.text(scrubber);
        Ok(match code {
            // 421: the server is closing (RFC 5321, section 3.8). 530, 535, 538: it wants another log-in (RFC 4954,
            // section 6), which no mail can help.
            421 | 530 | 535 | 538 => SendError::Unreachable { stage, cause: format!("{code} {text}") },
            400..500 => SendError::Temporary { stage, code, text },
            _ => SendError::Permanent { stage, code: Some(code), text },
        })
    }

    fn unreachable(self, stage: Stage, scrubber: &Scrubber) -> SendError {
        let text = self.text(scrubber);
        let cause = match &self {
            Self::Smtp(error) => error.status().map_or_else(|| text.clone(), |code| format!("{code} {text}")),
            Self::Socket(_) | Self::Silence(_) => text,
        };
        SendError::Unreachable { stage, cause }
    }

    /// The server's words, or the chain of causes, scrubbed.
    fn text(&self, scrubber: &Scrubber) -> String {
        let said = match self {
            Self::Silence(limit) => format!("no answer within {limit:?}"),
            Self::Socket(error) => error.to_string(),
            // lettre keeps the words of an answer as the error's source.
            Self::Smtp(error) if error.status().is_some() => {
                error.source().map(ToString::to_string).unwrap_or_default()
            }
            // lettre's own text already ends with its source's.
            Self::Smtp(error) => error.to_string(),
        };
        scrubber.clean(&said)
    }
}
