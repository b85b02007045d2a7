//! The tests' one source of randomness: names that no other test has, and keys.

use uuid::Uuid;

/// A random UUID. Tests run side by side against the same servers, so that a seed would make them meet.
#[expect(
    clippy::disallowed_methods,
    reason = "tests have no random source to be handed in: uniqueness is the point"
)]
#[must_use]
pub fn uuid() -> Uuid {
    Uuid::new_v4()
}
