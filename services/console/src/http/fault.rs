//! Why a page cannot be shown or a thing not be done. `guard` makes a page or a problem document of it.

use std::fmt;

use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use orrery_bus::BusError;
use orrery_store::StoreError;
use tracing::error;

use crate::{jobs::JobError, operator::OperatorError};

/// What is wrong, and what to do.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The answer's status.
    pub status: StatusCode,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub todo: &'static str,
}

impl Fault {
    /// A fault.
    pub fn new(status: StatusCode, what: impl Into<String>, todo: &'static str) -> Self {
        Self { status, what: what.into(), todo }
    }

    /// Nothing is there.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, what, "Go back to the overview.")
    }

    /// What was sent cannot be meant so.
    pub fn wrong(what: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, what, "Go back and correct it.")
    }

    /// Nobody is logged in.
    pub fn log_in() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "nobody is logged in",
            "Open /login, or the link of 'orrery console token'.",
        )
    }

    /// A page or a template of ours is broken.
    pub fn broken(error: &dyn std::error::Error) -> Self {
        error!(%error, "a page cannot be made");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be made", "The log says why.")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

impl ResponseError for Fault {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status).content_type("text/plain; charset=utf-8").body(self.what.clone())
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        if error.is_outage() {
            return Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                error.to_string(),
                "PostgreSQL has to answer before this can be shown or done; other pages go on.",
            );
        }
        error!(%error, "the console's question was refused");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the database refused",
            "Run 'orrery migrate'; the log has the database's words.",
        )
    }
}

impl From<BusError> for Fault {
    fn from(error: BusError) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            error.to_string(),
            "RabbitMQ has to answer before this can be done.",
        )
    }
}

impl From<OperatorError> for Fault {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Store(error) => error.into(),
            OperatorError::Bus(error) => error.into(),
        }
    }
}

impl From<JobError> for Fault {
    fn from(error: JobError) -> Self {
        let told = error.to_string();
        match error {
            JobError::Store(error) => error.into(),
            JobError::Nothing => Self::new(StatusCode::CONFLICT, told, "Look at the list again."),
            JobError::Homeless(_) => Self::new(StatusCode::CONFLICT, told, "Nothing was done."),
            JobError::Full => Self::new(StatusCode::SERVICE_UNAVAILABLE, told, "Nothing was done."),
        }
    }
}
