//! The closed set of services that the binary can run. What each one does lives in its own crate.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One service of the house.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// The reverse proxy, the only one that is exposed.
    Gateway,
    /// The account broker.
    Autha,
    /// The image optimiser.
    Spinoza,
    /// Mail.
    Maily,
}

/// A name that is no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no service: use gateway, autha, spinoza or maily")]
pub struct UnknownService(String);

impl Service {
    /// Every service, in the order in which they are started.
    pub const ALL: [Self; 4] = [Self::Autha, Self::Maily, Self::Spinoza, Self::Gateway];

    /// The name used in configuration, roles, queues and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Autha => "autha",
            Self::Spinoza => "spinoza",
            Self::Maily => "maily",
        }
    }

    /// The CloudEvents `source` of what this service publishes.
    pub const fn source(self) -> &'static str {
        match self {
            Self::Gateway => "com.gravitalia.gateway",
            Self::Autha => "com.gravitalia.autha",
            Self::Spinoza => "com.gravitalia.spinoza",
            Self::Maily => "com.gravitalia.maily",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = UnknownService;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|service| service.name() == text)
            .ok_or_else(|| UnknownService(text.to_owned()))
    }
}
