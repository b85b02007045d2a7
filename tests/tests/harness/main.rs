//! The harness tests itself, in one binary to link. What the services do is in the other files.

mod parts;
mod proxy;
mod servers;
mod smtp;

use std::time::Duration;

/// The deadline of what comes at once.
const SOON: Duration = Duration::from_secs(5);
/// Longer than the broker takes to tell what consumers hold.
const LONG: Duration = Duration::from_secs(30);
/// Long enough for that to be told, too short for it to be believed that nothing is there.
const SHORT: Duration = Duration::from_secs(6);
/// How long is watched for what must not come.
const WHILE: Duration = Duration::from_millis(200);
