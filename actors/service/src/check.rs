//! Lines of `orrery check`.

use serde::Serialize;

/// What was looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What was looked at, in one word: `mail`.
    pub what: &'static str,
    /// What is right, or what is wrong and what to do.
    pub result: Result<String, String>,
}

impl Checked {
    /// A line.
    pub fn new(what: &'static str, result: Result<String, String>) -> Self {
        Self { what, result }
    }
}

/// What works, and should still be set before people use the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What it is about, in one word: `mail`.
    pub what: &'static str,
    /// What is so, and what to set.
    pub text: String,
}
