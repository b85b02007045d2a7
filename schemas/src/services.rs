//! Who a service is to the others: its name and what its events say as their source. Which services there are is the binary's list.

use std::fmt;

/// A service of the house, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId {
    name: &'static str,
    source: &'static str,
}

impl ServiceId {
    /// A service of this name, whose events have this CloudEvents `source`.
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source }
    }

    /// The name used in configuration, roles (`orrery_<name>`), queues and logs.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The CloudEvents `source` of what this service publishes.
    pub const fn source(self) -> &'static str {
        self.source
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
