//! Why a try brought no answer, and what the client is told of it.

use awc::error::{ConnectError, SendRequestError};
use orrery_observability::metrics;
use orrery_schemas::{problems::Code, trace::TraceParent};
use orrery_web::problem::Problem;
use tracing::warn;

use super::Entered;
use crate::{body::Fault, local::LocalError, upstream::Unavailable};

/// Why a try brought no answer.
pub(super) enum Failure {
    /// No connection: nothing was sent.
    Refused,
    /// Every replica has as much at work as it may.
    Full,
    /// A connection, and then no answer that makes sense.
    Broken,
    /// No answer in time.
    Late,
    /// The client's own body failed.
    Client(Fault),
    /// The client went away, and nobody waits for an answer.
    Left,
}

pub(super) fn local_failure(error: &LocalError, trace: TraceParent) -> Failure {
    if matches!(error, LocalError::NotStarted) {
        return Failure::Refused;
    }
    warn!(%error, trace = trace.trace_id(), "a service of this process failed as a whole");
    Failure::Broken
}

pub(super) fn problem(failure: &Failure, entered: &Entered) -> Problem {
    match failure {
        Failure::Refused => Problem::new(Code::Unavailable, "the service is away; try again in a second"),
        Failure::Full => {
            metrics::shed("upstream");
            Problem::new(Code::Unavailable, "the service has too much to do; try again in a second")
        }
        Failure::Broken => Problem::new(Code::BadGateway, "the service broke off; try again"),
        Failure::Late => Problem::new(Code::GatewayTimeout, "the service did not answer in time; try again"),
        Failure::Client(Fault::Slow) => Problem::new(
            Code::Timeout,
            format!(
                "nothing of the body came for {} s; send it without pauses",
                entered.live.config.body_timeout.as_secs()
            ),
        ),
        Failure::Client(Fault::Large) => too_large(entered.admitted.rule.most_bytes),
        Failure::Client(Fault::Broken) => {
            Problem::new(Code::Malformed, "the body ended before its announced end")
        }
        Failure::Left => Problem::new(Code::Malformed, "the client went away before the answer"),
    }
}

impl From<Unavailable> for Failure {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::None => Self::Refused,
            Unavailable::Full => Self::Full,
        }
    }
}

impl Failure {
    pub(super) fn of(error: &SendRequestError) -> Self {
        match error {
            // What awc calls a connect error, but for this one, comes before anything is sent.
            SendRequestError::Connect(ConnectError::Disconnected) => Self::Broken,
            SendRequestError::Connect(_) => Self::Refused,
            SendRequestError::Timeout => Self::Late,
            _ => Self::Broken,
        }
    }
}

pub(super) fn too_large(most_bytes: u64) -> Problem {
    Problem::new(Code::TooLarge, format!("the body may have {most_bytes} bytes at most"))
}
