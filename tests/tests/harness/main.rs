//! The harness tests itself, in one binary to link. What the services do is in the other files.

mod parts;
mod proxy;
mod servers;
mod smtp;

use std::time::Duration;

/// The deadline of what comes at once.
const SOON: Duration = Duration::from_secs(5);
/// How long is watched for what must not come.
const WHILE: Duration = Duration::from_millis(200);
