//! How the errors of autha's rooms become problems. Each is logged here, once, if it is ours.

use orrery_actors::{objects::ObjectError, store::StoreError, supervise::SendError, web::problem::Problem};
use orrery_schemas::problems::Code;
use tracing::{error, warn};

use crate::{
    account::register::RegisterError,
    password::PoolError,
    token::{access::TokenError, keys::KeysMissing, refresh::RefreshError},
};

/// The client can only wait.
pub fn unavailable(what: &str) -> Problem {
    Problem::new(Code::Unavailable, format!("{what}; try again in a moment"))
}

fn internal(error: &dyn std::error::Error) -> Problem {
    error!(%error, "a request failed");
    Problem::new(Code::Internal, "something went wrong here; try again, and tell the operator if it stays")
}

pub fn store(error: &StoreError) -> Problem {
    if error.is_outage() {
        warn!(%error, "a request was turned away");
        return unavailable("the accounts cannot be reached right now");
    }
    internal(error)
}

pub fn send(error: &SendError) -> Problem {
    warn!(%error, "a request was turned away");
    unavailable("too much is going on right now")
}

pub fn pool(error: &PoolError) -> Problem {
    match error {
        PoolError::Full => unavailable("too many people are logging in right now"),
        PoolError::Failed => internal(error),
    }
}

pub fn objects(error: &ObjectError) -> Problem {
    match error {
        ObjectError::NotFound => Problem::new(Code::NotFound, "the picture is not here (any more)"),
        ObjectError::Unavailable(_) => {
            warn!(%error, "a request was turned away");
            unavailable("pictures cannot be kept or fetched right now")
        }
        _ => internal(error),
    }
}

pub fn register(error: &RegisterError) -> Problem {
    match error {
        RegisterError::VanityTaken => Problem::field(Code::Taken, "id", "taken", error.to_string()),
        RegisterError::EmailTaken => Problem::field(Code::Taken, "email", "taken", error.to_string()),
        RegisterError::OtherRequest => {
            Problem::field(Code::InvalidField, "Idempotency-Key", "key_reused", error.to_string())
        }
        RegisterError::Store(error) => store(error),
        RegisterError::Seal(error) => internal(error),
    }
}

pub fn refresh(error: &RefreshError) -> Problem {
    match error {
        RefreshError::Invalid => {
            Problem::field(Code::InvalidToken, "refresh_token", "invalid", error.to_string())
        }
        RefreshError::Store(error) => store(error),
        RefreshError::Seal(error) => internal(error),
    }
}

pub fn token(error: &TokenError) -> Problem {
    match error {
        TokenError::Keys(KeysMissing) => unavailable("the signing keys are still being loaded"),
        TokenError::Invalid | TokenError::Expired => Problem::new(Code::InvalidToken, error.to_string()),
    }
}
