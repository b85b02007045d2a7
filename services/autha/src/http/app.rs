//! What the routes work with.

use std::sync::Arc;

use orrery_objects::Objects;
use orrery_schemas::trace::TraceParent;
use orrery_store::Pool;
use orrery_supervise::{ActorRef, Admission, clock::Clock, random::Random};
use orrery_web::problem::Problem;
use tokio::runtime::Handle;

use super::{ACTOR_LIMIT, fault};
use crate::{
    account::{
        actor::Accounts,
        change::{Change, Perform},
        links::Links,
    },
    config::Config,
    key::KeySet,
    password::PasswordPool,
    throttle::{Throttle, network::Network},
    token::access::Issuer,
    vault::Vault,
};

/// The state of autha's routes: readers read by the pool, changes go to the actor.
#[derive(Clone)]
pub struct AppState {
    /// Changes accounts.
    pub accounts: ActorRef<Accounts>,
    /// Reads.
    pub pool: Pool,
    /// Hashes.
    pub passwords: PasswordPool,
    /// Counts attempts.
    pub throttle: Throttle,
    /// Networks of the gateways, which tell who calls.
    pub gateways: Arc<[Network]>,
    /// Signs and verifies.
    pub keys: KeySet,
    /// Whom tokens are by and for.
    pub issuer: Issuer,
    /// Look-up hashes and kept answers.
    pub vault: Arc<Vault>,
    /// The bucket.
    pub objects: Objects,
    /// Builds every URL that leaves.
    pub links: Links,
    /// Whether the outbox tells of uploads, and not the store.
    pub tells_of_uploads: bool,
    /// The entrance of the mailbox of uploads, which stay in their requests' tasks.
    pub uploads: Admission,
    /// The settings.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Ids and tokens.
    pub random: Random,
    /// The runtime that owns every client.
    pub main: Handle,
}

impl AppState {
    /// Has the accounts actor make a change; its error becomes a problem by `explain`.
    ///
    /// # Errors
    /// 503 where the actor is busy, and what `explain` makes of the change's own errors.
    pub async fn perform<C: Change>(
        &self,
        change: C,
        trace: TraceParent,
        explain: fn(&C::Error) -> Problem,
    ) -> Result<C::Done, Problem> {
        self.accounts
            .send(Perform { change, trace }, ACTOR_LIMIT)
            .await
            .map_err(|error| fault::send(&error))?
            .map_err(|error| explain(&error))
    }
}
