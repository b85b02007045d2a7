//! How errors become problems. Each is logged here, once, if it is ours.

use orrery_schemas::problems::Code;
use orrery_web::problem::Problem;
use tracing::{error, warn};

use crate::{name::NameFault, store::StoreFault};

pub fn keys_unavailable() -> Problem {
    Problem::new(Code::Unavailable, "access tokens cannot be verified right now; try again in a moment")
}

pub fn store(fault: &StoreFault) -> Problem {
    if fault.is_outage() {
        warn!(error = %fault, "a request was turned away");
        return Problem::new(Code::Unavailable, "peers cannot be reached right now; try again in a moment");
    }
    error!(error = %fault, "a request failed");
    Problem::new(Code::Internal, "something went wrong here; try again, and tell the operator if it stays")
}

pub fn name(fault: NameFault) -> Problem {
    match fault {
        NameFault::Malformed => Problem::field(Code::InvalidField, "vanity", "malformed", "this is no name"),
        NameFault::Foreign => Problem::field(
            Code::InvalidField,
            "vanity",
            "foreign",
            "this name is of another server; ask there",
        ),
    }
}
