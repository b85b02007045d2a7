//! The accounts actor: every change of an account is a message to it, and one transaction (`change`). The logic is in plain functions.

use orrery_supervise::{Actor, Handle};

use super::change::{Change, Perform, Tools, perform};

/// Changes accounts.
#[derive(Clone)]
pub struct Accounts {
    /// What changes work with.
    pub tools: Tools,
}

impl Actor for Accounts {}

impl<C: Change> Handle<Perform<C>> for Accounts {
    fn handle(
        &mut self,
        Perform { change, trace }: Perform<C>,
    ) -> impl Future<Output = Result<C::Done, C::Error>> + 'static {
        perform(self.tools.clone(), change, trace)
    }
}
