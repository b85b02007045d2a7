//! How a mail leaves: packed as a message, then handed to an SMTP server or written to a file. What it says is
//! `render`'s matter; what becomes of a failed one is the consumer's.

mod capture;
mod dkim;
mod error;
mod message;
mod relays;
#[cfg(test)]
mod samples;
mod scrub;
mod smtp;

use chrono::{DateTime, Utc};
use lettre::message::Mailbox;

pub use self::{
    capture::Capture,
    dkim::DkimError,
    error::{SendError, SetupError, Stage},
    message::message_id,
    relays::Relays,
    smtp::TlsError,
};
use self::{dkim::Signer, message::Packed, scrub::Scrubber, smtp::Dialogue};
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

/// Raised from when a message's end was sent until the server has answered: in between, the mail may be out. Whoever stops meanwhile
/// must count that.
pub struct Doubt<'a>(&'a (dyn Fn(bool) + Send + Sync));

impl<'a> Doubt<'a> {
    /// Tells `flag` whether the mail is in doubt.
    pub fn new(flag: &'a (dyn Fn(bool) + Send + Sync)) -> Self {
        Self(flag)
    }

    /// One that nobody looks at.
    #[must_use]
    pub fn ignored() -> Doubt<'static> {
        Doubt(&|_| {})
    }

    fn raise(&self) {
        (self.0)(true);
    }

    fn settle(&self) {
        (self.0)(false);
    }
}

/// The way that mails take. Shared by all of a service's handlers.
#[derive(Debug)]
pub struct Transport {
    way: Way,
    signers: Vec<Signer>,
    /// The envelope's sender, when bounces are read.
    bounces: Option<crate::bounce::ReturnPath>,
}

#[derive(Debug)]
enum Way {
    /// To SMTP servers, over a few connections that are kept.
    Smtp(Box<Relays>),
    /// To `.eml` files in a directory.
    Capture(Capture),
}

/// What an operator who tries it out is shown.
#[derive(Debug)]
pub struct Trial {
    /// The dialogue: `>` is ours, `<` the server's, `*` what happened beside it.
    pub lines: Vec<String>,
    /// How it ended.
    pub result: Result<(), SendError>,
}

impl Transport {
    /// Makes the transport that the configuration names. Connects to nothing: a server that is down is no reason not
    /// to start.
    ///
    /// # Errors
    /// What of the configuration cannot be used: the sender, a file of a password or of a key, certificates.
    pub fn new(config: &Config) -> Result<Self, SetupError> {
        let from = config.from_mailbox().map_err(SetupError::From)?;
        let signers = config
            .dkim
            .iter()
            .map(|key| Signer::new(key, &from))
            .collect::<Result<_, _>>()
            .map_err(SetupError::Dkim)?;
        let way = match config.transport {
            TransportKind::Smtp => Way::Smtp(Box::new(Relays::new(from, config)?)),
            TransportKind::Capture => Way::Capture(Capture::new(from, config.capture_dir.clone())),
        };
        Ok(Self { way, signers, bounces: None })
    }

    /// With a sender of the envelope that tells whose mail a bounce is about.
    #[must_use]
    pub fn with_return_path(self, bounces: Option<crate::bounce::ReturnPath>) -> Self {
        Self { bounces, ..self }
    }

    /// The sender of every mail.
    #[must_use]
    pub fn from(&self) -> &Mailbox {
        match &self.way {
            Way::Smtp(relays) => relays.from(),
            Way::Capture(capture) => capture.from(),
        }
    }

    /// Sends one mail and returns once somebody else is responsible for it.
    ///
    /// # Errors
    /// See [`SendError`]: whether another try makes sense, and whether the mail may be out already.
    pub async fn send(&self, mail: &OutgoingMail, doubt: &Doubt<'_>) -> Result<(), SendError> {
        let packed = self.pack(mail)?;
        let scrubber = Scrubber::new(&mail.to);
        match &self.way {
            Way::Smtp(relays) => relays.send(&packed, doubt, &scrubber).await,
            Way::Capture(capture) => capture.send(&packed).await,
        }
    }

    /// Sends one mail with a connection of its own and shows what was said. Its lines name the recipient: they are for the operator's
    /// eyes only.
    pub async fn try_out(&self, mail: &OutgoingMail) -> Trial {
        let dialogue = Dialogue::kept();
        let result = match (self.pack(mail), &self.way) {
            (Err(error), _) => Err(error),
            (Ok(packed), Way::Smtp(relays)) => relays.try_out(&packed, &dialogue).await,
            (Ok(packed), Way::Capture(capture)) => {
                dialogue.note("maily.transport is \"capture\": nothing leaves this machine");
                let sent = capture.send(&packed).await;
                if sent.is_ok() {
                    dialogue.note(&format!("written to {}", capture.path(&packed).display()));
                }
                sent
            }
        };
        Trial { lines: dialogue.lines(), result }
    }

    /// What DNS should say of the keys that sign, by name and text.
    #[must_use]
    pub fn records(&self) -> Vec<(String, String)> {
        self.signers.iter().filter_map(|signer| signer.record().ok()).collect()
    }

    fn pack(&self, mail: &OutgoingMail) -> Result<Packed, SendError> {
        let mut packed = Packed::new(self.from(), mail)?;
        for signer in &self.signers {
            packed.sign(signer, mail.date)?;
        }
        if let Some(from) = self.bounces.as_ref().and_then(|path| path.of(&packed.to)) {
            packed.from = from;
        }
        Ok(packed)
    }

    /// Asks whether a mail would get away now: a new connection, as far as mails failed last, or a directory that can be written to.
    ///
    /// # Errors
    /// [`SendError::Unreachable`] with the stage that failed.
    pub async fn probe(&self) -> Result<(), SendError> {
        match &self.way {
            Way::Smtp(relays) => relays.probe().await,
            Way::Capture(capture) => capture.probe().await,
        }
    }

    /// Takes leave of the servers on every kept connection. Sending afterwards opens new ones.
    pub async fn close(&self) {
        match &self.way {
            Way::Smtp(relays) => relays.close().await,
            Way::Capture(_) => {}
        }
    }
}

impl std::fmt::Debug for OutgoingMail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutgoingMail").field("message_id", &self.message_id).finish_non_exhaustive()
    }
}
