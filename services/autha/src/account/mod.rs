//! Accounts: what their fields may hold, how they come to be, how they are shown. Tokens, passwords and pictures have rooms of their own.

pub mod actor;
pub mod fields;
pub mod lookup;
pub mod person;
pub mod register;
