//! The mail command, from autha to maily. How its address is sealed lives in `actors::seal`, what a mail says in maily.

use serde::{Deserialize, Serialize};

use crate::{
    events::{EventData, event},
    ids::AccountId,
};

/// The queue of maily's handler; a command goes to it by the default exchange.
pub const QUEUE: &str = "maily.email";

/// Sends one mail.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendEmail {
    /// Whom it concerns.
    pub account: AccountId,
    /// BCP 47 tag of the language to write in.
    pub locale: String,
    /// Which mail: `welcome`, ...
    pub template: String,
    /// The address, sealed for maily.
    pub to: String,
    /// The name to greet with.
    pub username: String,
}
event!(SendEmail, "com.gravitalia.email");

/// What the mail key is derived for: autha seals and maily opens under the same purpose, for the account as owner.
pub const SEAL_PURPOSE: &str = "mail";
