//! Why a service cannot start. Each crate has its own errors; what remains to be done with them is to tell the operator.

use std::error::Error;

/// A service cannot start; the causes are kept.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(Box<dyn Error + Send + Sync>);

impl StartError {
    /// An error of the service's own.
    pub fn of(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }

    /// A line for the operator: what is missing or wrong, and what to do.
    pub fn told(line: impl Into<String>) -> Self {
        Self(line.into().into())
    }
}
