//! Which dead letters a command is about, as its user says it.

use std::time::Duration;

use clap::Args;
use orrery_actors::{config::duration, store::dead_letters::Filter};
use uuid::Uuid;

/// Which letters; all conditions must hold.
#[derive(Args)]
pub struct Choice {
    /// These letters; several are separated by commas or spaces.
    #[arg(long = "id", value_name = "ID", num_args = 1.., value_delimiter = ',')]
    ids: Vec<Uuid>,
    /// Of this handler, such as maily.email.
    #[arg(long)]
    handler: Option<String>,
    /// Of this CloudEvents type, such as com.gravitalia.email.
    #[arg(long = "type", value_name = "TYPE")]
    ty: Option<String>,
    /// With this text in the reason or its causes, in any case.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Failed longer ago, such as 24h.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    older_than: Option<Duration>,
    /// Failed since, such as 15min.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    newer_than: Option<Duration>,
}

impl Choice {
    /// The same for the store.
    pub fn filter(self) -> Filter {
        Filter {
            ids: (!self.ids.is_empty()).then_some(self.ids),
            handler: self.handler,
            ty: self.ty,
            reason: self.reason,
            older_than: self.older_than,
            newer_than: self.newer_than,
            until: None,
        }
    }

    /// Whether nothing was said, so that it would be all letters.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
            && self.handler.is_none()
            && self.ty.is_none()
            && self.reason.is_none()
            && self.older_than.is_none()
            && self.newer_than.is_none()
    }
}
