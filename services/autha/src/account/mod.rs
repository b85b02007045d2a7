//! Accounts: what their fields may hold, how they come to be, change and go, how they are shown. Tokens, passwords and pictures have rooms of
//! their own.

pub mod actor;
pub mod address;
pub mod change;
pub mod deletion;
pub mod error;
pub mod keys;
pub mod links;
pub mod lookup;
pub mod mail;
pub mod person;
pub mod receipts;
pub mod recover;
pub mod register;
pub mod reserved;
pub mod state;
pub mod update;
pub mod vanity;
