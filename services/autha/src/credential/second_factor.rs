//! Setting TOTP up, switching it off, new recovery codes: within the transaction of `account::update`, with a mail each.

use diesel_async::AsyncPgConnection;
use orrery_schemas::email::{Details, SecondFactorChange, Template};

use super::{
    recovery_codes,
    store::{self, Kind},
};
use crate::account::{
    change::{Circumstances, Locked},
    error::ChangeError,
};

/// What becomes of the second factor.
#[derive(Clone)]
pub enum FactorChange {
    /// TOTP with this secret, of which a code of `step` was shown.
    SetUp {
        /// The secret.
        secret: Vec<u8>,
        /// The step that was used.
        step: i64,
    },
    /// No second factor.
    SwitchOff,
    /// New recovery codes in the place of those there are.
    NewCodes,
    /// No second factor, by an operator.
    Reset,
}

/// Changes the second factor of a locked account; gives new recovery codes, which are shown once.
///
/// # Errors
/// When what is wanted is there already, or not there.
pub async fn apply(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: &Locked,
    change: &FactorChange,
    device: Option<&str>,
) -> Result<Vec<String>, ChangeError> {
    let is_set_up = store::of_login(connection, account.id).await?.totp.is_some();
    let (told, codes) = match change {
        FactorChange::SetUp { .. } if is_set_up => return Err(ChangeError::TotpSetUp),
        FactorChange::SwitchOff | FactorChange::NewCodes if !is_set_up => {
            return Err(ChangeError::TotpMissing);
        }
        FactorChange::SetUp { secret, step } => {
            let id = with.tools.random.uuid_v7(&with.tools.clock);
            let sealed = with.tools.vault.totp.seal(secret, &id.to_string())?;
            store::insert(connection, (id, account.id), Kind::Totp, &sealed, *step, with.now).await?;
            (SecondFactorChange::TotpEnabled, new_codes(connection, with, account).await?)
        }
        FactorChange::NewCodes => {
            (SecondFactorChange::CodesReplaced, new_codes(connection, with, account).await?)
        }
        FactorChange::SwitchOff | FactorChange::Reset => {
            store::remove(connection, account.id, &[Kind::Totp, Kind::RecoveryCode]).await?;
            let told = match change {
                FactorChange::Reset => SecondFactorChange::Reset,
                _ => SecondFactorChange::TotpDisabled,
            };
            (told, Vec::new())
        }
    };
    let details = Details {
        change: Some(told),
        device: device.map(str::to_owned),
        codes_left: u32::try_from(codes.len()).ok().filter(|left| *left > 0),
        ..Details::default()
    };
    with.mail_to(connection, account, Template::SecondFactorChanged, Some(details), None).await?;
    Ok(codes)
}

async fn new_codes(
    connection: &mut AsyncPgConnection,
    with: &Circumstances,
    account: &Locked,
) -> Result<Vec<String>, ChangeError> {
    store::remove(connection, account.id, &[Kind::RecoveryCode]).await?;
    let mut codes = Vec::with_capacity(recovery_codes::COUNT);
    while codes.len() < recovery_codes::COUNT {
        let code = recovery_codes::random(&with.tools.random);
        let Some(hash) = recovery_codes::hash(&code) else { continue };
        let id = with.tools.random.uuid_v7(&with.tools.clock);
        store::insert(connection, (id, account.id), Kind::RecoveryCode, &hash, 0, with.now).await?;
        codes.push(code);
    }
    Ok(codes)
}
