//! How a mail leaves: packed as a message, then handed to an SMTP server or written to a file. What it says is
//! `render`'s matter; what becomes of a failed one is the consumer's.

mod capture;
mod error;
mod message;
#[cfg(test)]
mod samples;
mod scrub;
mod smtp;

use chrono::{DateTime, Utc};
use lettre::message::Mailbox;

pub use self::{
    capture::Capture,
    error::{SendError, SetupError, Stage},
    message::message_id,
    smtp::Smtp,
};
use self::{message::Packed, scrub::Scrubber};
use crate::{
    config::{Config, TransportKind},
    render::Rendered,
};

/// A mail on its way out. Its `Debug` names nobody.
#[derive(Clone)]
pub struct OutgoingMail {
    /// The recipient's bare address.
    pub to: String,
    /// What it says.
    pub rendered: Rendered,
    /// The Message-ID with its angle brackets, as made by [`message_id`]: the same event, the same id.
    pub message_id: String,
    /// The `Date` of the mail.
    pub date: DateTime<Utc>,
}

/// The way that mails take. Shared by all of a service's handlers.
#[derive(Debug)]
pub enum Transport {
    /// To an SMTP server, over a few connections that are kept.
    Smtp(Box<Smtp>),
    /// To `.eml` files in a directory.
    Capture(Capture),
}

impl Transport {
    /// Makes the transport that the configuration names. Connects to nothing: a server that is down is no reason not
    /// to start.
    ///
    /// # Errors
    /// What of the configuration cannot be used: the sender, the password's file or the system's certificates.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        let from = config.from_mailbox().map_err(SetupError::From)?;
        match config.transport {
            TransportKind::Smtp => Smtp::new(from, &config.smtp).map(|smtp| Self::Smtp(Box::new(smtp))),
            TransportKind::Capture => Ok(Self::Capture(Capture::new(from, config.capture_dir.clone()))),
        }
    }

    /// The sender of every mail.
    #[must_use]
    pub fn from(&self) -> &Mailbox {
        match self {
            Self::Smtp(smtp) => smtp.from(),
            Self::Capture(capture) => capture.from(),
        }
    }

    /// Sends one mail and returns once somebody else is responsible for it.
    ///
    /// # Errors
    /// See [`SendError`]: whether another try makes sense, and whether the mail may be out already.
    pub async fn send(&self, mail: &OutgoingMail) -> Result<(), SendError> {
        let packed = Packed::new(self.from(), mail)?;
        let scrubber = Scrubber::new(&mail.to);
        match self {
            Self::Smtp(smtp) => smtp.send(&packed, &scrubber).await,
            Self::Capture(capture) => capture.send(&packed).await,
        }
    }

    /// Asks whether a mail would get away now: a new connection up to and including the log-in, or a directory that
    /// can be written to.
    ///
    /// # Errors
    /// [`SendError::Unreachable`] with the stage that failed.
    pub async fn probe(&self) -> Result<(), SendError> {
        match self {
            Self::Smtp(smtp) => smtp.probe().await,
            Self::Capture(capture) => capture.probe().await,
        }
    }

    /// Takes leave of the server on every kept connection. Sending afterwards opens new ones.
    pub async fn close(&self) {
        match self {
            Self::Smtp(smtp) => smtp.close().await,
            Self::Capture(_) => {}
        }
    }
}

impl std::fmt::Debug for OutgoingMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutgoingMail").field("message_id", &self.message_id).finish_non_exhaustive()
    }
}
