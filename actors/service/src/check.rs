//! A line of `orrery check`.

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
