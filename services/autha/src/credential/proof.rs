//! A proof that it is the person themselves: the password, and where it is set up the second factor. Checked first, used up within the change
//! that it allows.

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use orrery_seal::SealError;
use orrery_store::StoreError;
use uuid::Uuid;

use super::{
    recovery_codes,
    store::{self, Credential, Login},
    totp::TotpSecret,
};
use crate::vault::Vault;

/// Why a proof is none.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A second factor is set up and no code was sent.
    #[error("this account asks for a one-time code: send it as 'totpCode'")]
    CodeMissing,
    /// The code is wrong, or was used before.
    #[error("'totpCode' is wrong or was used before; wait for the next code")]
    CodeWrong,
    /// The password was changed since it was checked.
    #[error("the password was changed just now; log in again")]
    Changed,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret could not be opened.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A password that was right, and a second factor that seemed so.
#[derive(Debug, Clone)]
pub struct Proof {
    /// Whose.
    pub account: Uuid,
    /// The password that it was checked against.
    pub password: Credential,
    /// The hash that is to take its place.
    pub upgraded: Option<String>,
    /// The second factor.
    pub second: Second,
}

/// The second factor of a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Second {
    /// None is set up.
    NotAsked,
    /// A TOTP step of that credential.
    Totp {
        /// The credential.
        credential: Uuid,
        /// The step.
        step: i64,
    },
    /// The hash of a recovery code.
    RecoveryCode(String),
}

impl Second {
    /// Compares a code with what is set up. Nothing is used up yet.
    ///
    /// # Errors
    /// When a code is wanted and is not there, or wrong.
    pub fn check(
        vault: &Vault,
        login: &Login,
        code: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Self, ProofError> {
        let Some(totp) = &login.totp else { return Ok(Self::NotAsked) };
        let code = code.ok_or(ProofError::CodeMissing)?;
        if let Some(hash) = recovery_codes::hash(code) {
            return Ok(Self::RecoveryCode(hash));
        }
        let secret = vault.totp.open(&totp.secret, &totp.id.to_string())?;
        let step = TotpSecret::from_bytes(&secret)
            .and_then(|secret| secret.step_of(code, now))
            .filter(|step| *step > store::last_step(totp.counter, now))
            .ok_or(ProofError::CodeWrong)?;
        Ok(Self::Totp { credential: totp.id, step })
    }

    /// RFC 8176 names of both factors.
    pub fn methods(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Self::NotAsked => &["pwd"],
            Self::Totp { .. } => &["pwd", "otp", "mfa"],
            Self::RecoveryCode(_) => &["pwd", "kba", "mfa"],
        };
        names.iter().map(|&name| name.to_owned()).collect()
    }
}

impl Proof {
    /// Uses the proof up, in the transaction of what it allows; the account's row is locked.
    ///
    /// # Errors
    /// When it does not hold any more.
    pub async fn spend(
        &self,
        connection: &mut AsyncPgConnection,
        now: DateTime<Utc>,
    ) -> Result<(), ProofError> {
        if !store::is_unchanged(connection, &self.password).await? {
            return Err(ProofError::Changed);
        }
        let used = match &self.second {
            // TOTP may have been set up since.
            Second::NotAsked => store::of_login(connection, self.account).await?.totp.is_none(),
            Second::Totp { credential, step } => store::use_step(connection, *credential, *step, now).await?,
            Second::RecoveryCode(hash) => store::use_code(connection, self.account, hash).await?,
        };
        if !used {
            return Err(ProofError::CodeWrong);
        }
        if let Some(upgraded) = &self.upgraded {
            store::upgrade_password(connection, &self.password, upgraded).await?;
        }
        Ok(())
    }
}
