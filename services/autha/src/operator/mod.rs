//! What operators do with accounts: the same functions for the command line and for the admin API, each with its line in the audit log.

mod account;
pub mod audit;
mod commands;
mod list;
mod reseal;
mod transfer;

pub use crate::import::{FirebaseParameters, Format, Imported};
pub use crate::key::Rotation;
pub use account::{
    CreateAccount, CreateError, EndAll, GrantOperator, InviteSomebody, Invited, NO_PASSWORD,
    ResetSecondFactor, is_operator,
};
pub use audit::{Actor, Audited, Entry, Look};
pub use commands::{CommandError, Operator, Parts};
pub use list::{Deleted, Filter, ListedAccount, Shown, by_reference, deletions, list, show};
pub use reseal::Resealed;

/// The table that has a row as soon as somebody uses the system: what is restored from a backup goes where it has none.
pub const ACCOUNTS: &str = "autha.accounts";
