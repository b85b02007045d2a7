//! Why a change of an account was refused.

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use orrery_seal::SealError;
use orrery_store::StoreError;

use super::{change::Conflicting, mail::MailError};
use crate::credential::proof::ProofError;

/// A change was refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The account is not there, or waits to be deleted.
    #[error("this account is not there any more")]
    Gone,
    /// The account is suspended.
    #[error("this account is suspended; ask the operator of this instance")]
    Suspended,
    /// The proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The one-time secret is unknown, used or too old.
    #[error("this link was used before or has ended; ask for a new one")]
    Challenge,
    /// The address is somebody's.
    #[error("this address has an account already")]
    AddressTaken,
    /// The archive was fetched before, or not in time.
    #[error("this archive was fetched before or has ended; ask for another one")]
    Fetched,
    /// Another second factor is set up.
    #[error("TOTP is set up already; switch it off first")]
    TotpSetUp,
    /// None is set up.
    #[error("TOTP is not set up")]
    TotpMissing,
    /// More keys than there may be.
    #[error("an account has at most {0} public keys; remove some first")]
    TooManyKeys(usize),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A mail could not be written.
    #[error(transparent)]
    Mail(#[from] MailError),
}

impl From<DieselError> for ChangeError {
    fn from(error: DieselError) -> Self {
        if let DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, information) = &error
            && information.constraint_name() == Some("accounts_email_hash_key")
        {
            return Self::AddressTaken;
        }
        Self::Store(error.into())
    }
}

impl Conflicting for ChangeError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Store(error)
            | Self::Proof(ProofError::Store(error))
            | Self::Mail(MailError::Store(error)) => error.is_conflict(),
            _ => false,
        }
    }
}
