//! Why a mail did not get away (used by everything in `transport`, mapped to outcomes by the consumer). No text in
//! here names the recipient: it is logged and kept with dead letters.

use std::{fmt, path::PathBuf};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    #[error("maily.smtp.password_file: cannot read {}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The system's certificates cannot be loaded.
    #[error("maily.smtp.tls: cannot set up TLS")]
    Tls(#[source] lettre::transport::smtp::Error),
}
