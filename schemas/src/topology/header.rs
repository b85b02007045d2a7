//! The headers that our consumers add to a message that goes on: to a retry queue or to the dead letters.

/// Tries that have been used up.
pub const ATTEMPT: &str = "attempt";
/// Why the handler gave up.
pub const REASON: &str = "reason";
/// The causes of it, a JSON array of texts.
pub const CAUSES: &str = "causes";
/// When it gave up, RFC 3339.
pub const FAILED_AT: &str = "failed-at";
/// Which handler gave up.
pub const HANDLER: &str = "handler";
/// The id of the dead letter, so that one delivered twice is kept once.
pub const LETTER: &str = "letter";
/// What a message does not have when it is tried anew: what tells of the failure, and to whom copies went.
pub const DROPPED: &[&str] = &[ATTEMPT, REASON, CAUSES, FAILED_AT, HANDLER, LETTER, "CC", "BCC"];
/// Where RabbitMQ 3 keeps what an AMQP 1.0 sender said of its message: the one header of the broker's that is the sender's.
pub const AMQP10: &str = "x-amqp-1.0-app-properties";
