//! Why a mail did not get away (used by everything in `transport`, mapped to outcomes by the consumer). No text in
//! here names the recipient: it is logged and kept with dead letters.

use std::{fmt, path::PathBuf};

use super::{DkimError, TlsError};

/// Why a mail was not, or perhaps not, sent. `text` and `cause` are scrubbed: no address, no part of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The server said no for now (4xx); another try may do. The mail is not out.
    #[error("refused for now at {stage}: {code} {text}")]
    Temporary {
        /// What the server answered to.
        stage: Stage,
        /// The reply code, 400 to 499 (RFC 5321, section 4.2).
        code: u16,
        /// The enhanced status and the server's words.
        text: String,
    },
    /// The server said no for good (5xx), or nothing can be sent to this address at all. The mail is not out.
    #[error("refused at {stage}: {} {text}", Answer(*code))]
    Permanent {
        /// What the server answered to.
        stage: Stage,
        /// The reply code, 500 to 599; none when we did not have to ask.
        code: Option<u16>,
        /// The enhanced status and the server's words, or ours.
        text: String,
    },
    /// Nobody there who could take the mail, or not now: no connection, no log-in, a server that closes (421) or goes
    /// silent before the message's last line was sent. It says nothing about this mail, which is not out.
    ///
    /// A server that is reached ([`Stage::Connect`] and [`Stage::Login`] passed) but leaves at a later stage each time
    /// may do so because of this very mail; `stage` lets a caller count that as a try.
    #[error("server unreachable at {stage}: {cause}")]
    Unreachable {
        /// How far we got.
        stage: Stage,
        /// What happened.
        cause: String,
    },
    /// The whole message was sent and the answer never came: the mail may be out or not. Trying again may double it,
    /// with the same Message-ID.
    #[error("sent without an answer: {cause}")]
    Doubtful {
        /// What happened.
        cause: String,
    },
}

/// How far a mail got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Packing the message; nothing was sent.
    Message,
    /// Look-up, TCP, TLS, greeting and `EHLO`.
    Connect,
    /// `AUTH`.
    Login,
    /// `NOOP` or `RSET`.
    Idle,
    /// `MAIL FROM`.
    Sender,
    /// `RCPT TO`.
    Recipient,
    /// `DATA` and the message, up to its last line and the answer to it.
    Data,
    /// Writing a file in place of sending.
    Capture,
}

impl Stage {
    /// How deep a probe must go to pass this stage: 0 for a log-in and a NOOP.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Sender => 1,
            Self::Recipient => 2,
            Self::Data => 3,
            Self::Message | Self::Connect | Self::Login | Self::Idle | Self::Capture => 0,
        }
    }

    /// The stage of a rank.
    pub(super) fn of_rank(rank: u8) -> Self {
        match rank {
            0 => Self::Idle,
            1 => Self::Sender,
            2 => Self::Recipient,
            _ => Self::Data,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Message => "message",
            Self::Connect => "connect",
            Self::Login => "login",
            Self::Idle => "idle",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Data => "data",
            Self::Capture => "capture",
        })
    }
}

/// A reply code that may be missing.
struct Answer(Option<u16>);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "{code}"),
            None => f.write_str("(not asked)"),
        }
    }
}

/// Why a transport cannot be made from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The sender is no mailbox; the text names the field.
    #[error("{0}")]
    From(String),
    /// The password's file cannot be read.
    #[error("{path}.password_file: cannot read {}", file.display())]
    PasswordFile {
        /// The section of the configuration.
        path: String,
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No certificate could ever be believed.
    #[error("{path}.tls: cannot set up TLS: {source}")]
    Tls {
        /// The section of the configuration.
        path: String,
        /// Why not.
        source: TlsError,
    },
    /// A key to sign with cannot be used.
    #[error(transparent)]
    Dkim(DkimError),
}
