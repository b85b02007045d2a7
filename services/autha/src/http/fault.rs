//! How the errors of autha's rooms become problems. Each is logged here, once, if it is ours.

use std::time::Duration;

use orrery_objects::ObjectError;
use orrery_observability::metrics;
use orrery_schemas::problems::Code;
use orrery_seal::SealError;
use orrery_store::StoreError;
use orrery_supervise::SendError;
use orrery_web::problem::{FieldError, Problem};
use tracing::{error, warn};

use crate::{
    account::{
        error::ChangeError,
        mail::MailError,
        register::{RegisterError, Taken},
    },
    credential::proof::ProofError,
    key::{KeyError, KeysMissing},
    password::PoolError,
    token::{access::TokenError, refresh::RefreshError},
};

/// The client can only wait.
pub fn unavailable(what: &str) -> Problem {
    Problem::new(Code::Unavailable, format!("{what}; try again in a moment"))
}

/// A fault of ours.
pub fn internal(error: &dyn std::error::Error) -> Problem {
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

pub fn seal(error: &SealError) -> Problem {
    internal(error)
}

pub fn send(error: &SendError) -> Problem {
    if *error == SendError::Failed {
        return internal(error);
    }
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
        error if error.is_outage() => {
            warn!(%error, "a request was turned away");
            unavailable("pictures cannot be kept or fetched right now")
        }
        _ => internal(error),
    }
}

/// Both what is taken and what is not are told, each by its field.
pub fn taken(taken: Taken) -> Problem {
    let field = |field: &str, message: &str| FieldError {
        field: field.to_owned(),
        message: message.to_owned(),
        code: "taken".to_owned(),
    };
    let mut errors = Vec::new();
    if taken.vanity {
        errors.push(field("id", "this id is taken; choose another"));
    }
    if taken.email {
        errors.push(field("email", "this address has an account; log in instead"));
    }
    let detail = errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; ");
    Problem::new(Code::Taken, detail).with_errors(errors)
}

pub fn register(error: &RegisterError) -> Problem {
    match error {
        RegisterError::Taken(which) => taken(*which),
        RegisterError::Invite => {
            Problem::field(Code::InvalidField, "invite", "invalid_invite", error.to_string())
        }
        RegisterError::OtherRequest => {
            Problem::field(Code::InvalidField, "Idempotency-Key", "key_reused", error.to_string())
        }
        RegisterError::Store(error) => store(error),
        RegisterError::Seal(error) => internal(error),
        RegisterError::Mail(error) => mail(error),
    }
}

pub fn mail(error: &MailError) -> Problem {
    match error {
        MailError::Store(error) => store(error),
        MailError::Seal(_) | MailError::Unwritable => internal(error),
    }
}

pub fn proof(error: &ProofError) -> Problem {
    let field = |code| Problem::field(Code::InvalidCredentials, "totpCode", code, error.to_string());
    match error {
        ProofError::CodeMissing => field("missing"),
        ProofError::CodeWrong => field("invalid_code"),
        ProofError::Changed => Problem::new(Code::InvalidCredentials, error.to_string()),
        ProofError::Store(error) => store(error),
        ProofError::Seal(error) => internal(error),
    }
}

pub fn change(error: &ChangeError) -> Problem {
    match error {
        ChangeError::Gone | ChangeError::Fetched => Problem::new(Code::Deleted, error.to_string()),
        ChangeError::Suspended => Problem::new(Code::Forbidden, error.to_string()),
        ChangeError::Proof(error) => proof(error),
        ChangeError::Challenge => {
            Problem::field(Code::InvalidField, "token", "invalid_token", error.to_string())
        }
        ChangeError::AddressTaken => taken(Taken { vanity: false, email: true }),
        ChangeError::TotpSetUp => {
            Problem::field(Code::Taken, "totpSecret", "already_set_up", error.to_string())
        }
        ChangeError::TotpMissing => {
            Problem::field(Code::InvalidField, "totpSecret", "not_set_up", error.to_string())
        }
        ChangeError::TooManyKeys(_) => {
            Problem::field(Code::InvalidField, "publicKeys", "too_many", error.to_string())
        }
        ChangeError::Store(error) => store(error),
        ChangeError::Seal(error) => internal(error),
        ChangeError::Mail(error) => mail(error),
    }
}

pub fn refresh(error: &RefreshError) -> Problem {
    match error {
        RefreshError::Invalid => grant(error.to_string()),
        RefreshError::Suspended => grant(error.to_string()),
        RefreshError::Store(error) => store(error),
        RefreshError::Seal(error) => internal(error),
    }
}

/// A grant that is not valid (RFC 6749, 5.2): 400, with the problem's members beside.
pub fn grant(detail: String) -> Problem {
    oauth(Problem::field(Code::Malformed, "refresh_token", "invalid", detail), "invalid_grant")
}

/// A problem in RFC 6749's words.
pub fn oauth(problem: Problem, error: &'static str) -> Problem {
    let description: String = problem
        .detail()
        .chars()
        // What the standard allows in it: printable ASCII but for quotes and backslashes.
        .map(|c| if c == '"' { '\'' } else { c })
        .filter(|c| (' '..='~').contains(c) && *c != '\\')
        .collect();
    problem.with_member("error", error).with_member("error_description", description)
}

pub fn key(error: &KeyError) -> Problem {
    match error {
        KeyError::Store(error) => store(error),
        _ => internal(error),
    }
}

pub fn token(error: &TokenError) -> Problem {
    match error {
        TokenError::Keys(KeysMissing) => unavailable("the signing keys are still being loaded"),
        TokenError::Invalid | TokenError::UnknownKey | TokenError::Expired => {
            Problem::new(Code::InvalidToken, error.to_string())
        }
    }
}

/// Too much was tried.
pub fn throttled(wait: Duration) -> Problem {
    let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
    metrics::throttled();
    Problem::new(Code::TooManyRequests, format!("too many attempts; try again in {seconds} s"))
        .retry_after(seconds)
}
