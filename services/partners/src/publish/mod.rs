//! Publishing: from an HTTP request to events, what of them is allowed, and the transaction that takes them in. Routes live in `http`.

pub mod allowed;
pub mod compatible;
pub mod intake;
pub mod quota;
pub mod request;

use orrery_schemas::problems::Code;

/// The attribute that says who sent an event. We set it; nobody else may.
pub const SOURCE_CLIENT: &str = "sourceclient";

/// Why an event is not taken: a problem's code, and what is wrong. Holds none of the event's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The kind.
    pub code: Code,
    /// In words.
    pub detail: String,
}

impl Refused {
    /// A refusal.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}
