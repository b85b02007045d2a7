//! Maily: renders mails and sends them, or keeps them as files. Who gets which mail is decided by whoever writes the command.

mod accounts;
mod bounce;
pub mod config;
mod definition;
mod handler;
mod legacy;
mod maildir;
pub mod records;
mod render;
mod service;
mod state;
mod transport;

pub use definition::SERVICE;
pub use render::{MailContext, RenderError, Rendered, Renderer};
pub use service::{Report, StartError, test};
pub use transport::{Doubt, OutgoingMail, SendError, SetupError, Stage, Transport};
