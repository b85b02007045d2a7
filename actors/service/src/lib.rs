//! What a service is: one definition in its crate, and one line in the binary's list. `serve`, `migrate`, `check`, the process of a
//! quarantine queue and `queues` walk that list. What a service does lives in its crate.

mod check;
mod context;
mod definition;
mod error;
mod mails;
mod webhooks;

pub use check::{Advice, Checked};
pub use context::{Application, Asked, Context, Enabled, Installation, Local, Peer};
pub use definition::{BrokerNeed, Definition, Needs, Service, Started, read};
pub use error::StartError;
pub use mails::{Mails, Preview};
pub use webhooks::{GivenUp, Partner, Webhook, Webhooks};
