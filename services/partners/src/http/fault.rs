//! How errors become problems. Each is logged here, once, if it is ours.

use orrery_schemas::problems::Code;
use orrery_store::StoreError;
use orrery_web::problem::Problem;
use tracing::{error, warn};

use crate::{operator::CommandError, publish::Refused, targets::Unreachable};

/// A fault of ours.
pub fn internal(error: &dyn std::error::Error) -> Problem {
    error!(%error, "a request failed");
    Problem::new(Code::Internal, "something went wrong here; try again, and tell the operator if it stays")
}

pub fn store(error: &StoreError) -> Problem {
    if error.is_outage() {
        warn!(%error, "a request was turned away");
        return Problem::new(
            Code::Unavailable,
            "events cannot be kept or read right now; try again in a moment",
        );
    }
    internal(error)
}

pub fn refused(refused: Refused) -> Problem {
    Problem::new(refused.code, refused.detail)
}

pub fn target(error: &Unreachable) -> Problem {
    Problem::field(
        Code::InvalidField,
        "url",
        "not_allowed",
        format!("the url cannot be an endpoint's: {error}"),
    )
}

/// A field that cannot be used.
pub fn field(name: &'static str, message: impl Into<String>) -> Problem {
    Problem::field(Code::InvalidField, name, "invalid", message)
}

pub fn command(error: &CommandError) -> Problem {
    match error {
        CommandError::Unknown | CommandError::UnknownEndpoint => {
            Problem::new(Code::NotFound, error.to_string())
        }
        CommandError::Taken => Problem::field(Code::Taken, "name", "taken", error.to_string()),
        CommandError::Meanwhile => Problem::new(Code::Taken, error.to_string()),
        CommandError::Field(name, _) => {
            Problem::field(Code::InvalidField, *name, "invalid", error.to_string())
        }
        CommandError::Address(_) => {
            Problem::field(Code::InvalidField, "contact", "invalid", error.to_string())
        }
        CommandError::Incompatible(..) => {
            Problem::field(Code::InvalidField, "schema", "incompatible", error.to_string())
        }
        CommandError::Seal(error) => internal(error),
        CommandError::Store(error) => store(error),
    }
}
