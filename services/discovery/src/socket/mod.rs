//! One socket: a supervised actor of one life, whose mailbox takes its client's frames. The connection is read by a task of the HTTP worker that
//! owns it (`reader`); what goes out lies in a bounded buffer (`outgoing`); messages that wait are handed over by `delivery`.

mod actor;
mod bucket;
mod delivery;
mod frames;
mod outgoing;
mod protocol;
mod reader;
mod state;

use std::time::Duration;

pub use actor::start;
#[cfg(test)]
pub use outgoing::Body;
pub use outgoing::Outgoing;
pub use reader::read;
pub use state::{Parts, Shared, Socket, SocketLimits};

/// How long a client may take to answer a close frame, before its connection is cut.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why a socket is closed; the code and the reason of its close frame (RFC 6455, 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The client asked for it.
    Asked,
    /// The process ends; the client is to come back.
    Restart,
    /// It broke the WebSocket protocol.
    Protocol,
    /// It sent something else than text.
    Unsupported,
    /// Its text cannot be read.
    Invalid,
    /// The access token has expired.
    Expired,
    /// The session of its token has ended.
    SessionEnded,
    /// It sends more than it may.
    TooFast,
    /// It does not read what it is sent.
    TooSlow,
    /// Nothing came from it for too long.
    Idle,
    /// A frame is too large.
    TooLarge,
    /// A fault of ours.
    Fault,
}

impl Close {
    /// The code, the reason that is told, and the label of the metric.
    pub const fn told(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::Asked => (1000, "", "asked"),
            Self::Restart => (1012, "the server restarts; come back", "restart"),
            Self::Protocol => (1002, "not the WebSocket protocol", "protocol"),
            Self::Unsupported => (1003, "only text is taken", "unsupported"),
            Self::Invalid => (1007, "the frame cannot be read", "invalid"),
            Self::Expired => (1008, "the access token has expired", "expired"),
            Self::SessionEnded => (1008, "the session has ended", "session_ended"),
            Self::TooFast => (1008, "too many frames", "too_fast"),
            Self::TooSlow => (1008, "too slow", "too_slow"),
            Self::Idle => (1001, "nothing came for too long", "idle"),
            Self::TooLarge => (1009, "the frame is too large", "too_large"),
            Self::Fault => (1011, "something went wrong here; come back", "fault"),
        }
    }
}
