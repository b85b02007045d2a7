//! What the routes work with.

use std::sync::Arc;

use orrery_actors::{clock::Clock, objects::Objects, random::Random, store::Pool, supervise::ActorRef};
use tokio::{runtime::Handle, sync::Semaphore};

use crate::{
    account::actor::Accounts,
    config::Config,
    password::PasswordPool,
    token::{access::Issuer, keys::KeySet},
    vault::Vault,
};

/// The front desk: readers read by the pool, changes go to the actor.
#[derive(Clone)]
pub struct Desk {
    /// Changes accounts.
    pub accounts: ActorRef<Accounts>,
    /// Reads.
    pub pool: Pool,
    /// Hashes.
    pub passwords: PasswordPool,
    /// Signs and verifies.
    pub keys: KeySet,
    /// Whom tokens are by and for.
    pub issuer: Issuer,
    /// Look-up hashes and kept answers.
    pub vault: Arc<Vault>,
    /// The bucket.
    pub objects: Objects,
    /// Places for uploads.
    pub uploads: Arc<Semaphore>,
    /// The settings.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Ids and tokens.
    pub random: Random,
    /// The runtime that owns every client.
    pub main: Handle,
}
