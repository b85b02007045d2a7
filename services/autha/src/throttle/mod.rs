//! How often credentials may be tried: budgets per account, address and network, shared by all replicas. Keys are keyed digests, so no address and
//! no name is kept. Where the counts lie: in Redis when it is configured, else in PostgreSQL.

pub mod network;
mod postgres;
mod redis;

pub use self::redis::RedisCounts;

use std::{net::IpAddr, sync::Arc, time::Duration};

use orrery_seal::SealError;
use orrery_store::{Pool, StoreError};

use self::network::Network;
use crate::{config, vault::Vault};

/// How one key is counted.
#[derive(Debug, Clone)]
pub struct Budget {
    key: Vec<u8>,
    /// What is free within the window.
    limit: u32,
    /// Whether each hit beyond the limit doubles a delay; otherwise the window has to end.
    is_growing: bool,
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt<'a> {
    /// Credentials of somebody, by what was typed: known or not, it is counted alike.
    Credentials(&'a str),
    /// A one-time secret.
    Secret,
    /// A sign-up, or a mail to be sent.
    Request,
    /// A mail to this mailbox, by its normal form.
    Mail(&'a str),
}

/// The budgets were not asked.
#[derive(Debug, thiserror::Error)]
pub enum ThrottleError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key could not be made.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Counts attempts.
#[derive(Clone)]
pub struct Throttle {
    pool: Pool,
    vault: Arc<Vault>,
    redis: Option<RedisCounts>,
    config: config::Throttle,
    trusted: Arc<[Network]>,
}

impl Throttle {
    /// Budgets by `config`, counted in Redis if there is one, else in PostgreSQL.
    pub fn new(config: config::Throttle, redis: Option<RedisCounts>, pool: Pool, vault: Arc<Vault>) -> Self {
        let trusted = config.trusted_networks.iter().filter_map(|network| network.parse().ok()).collect();
        Self { pool, vault, redis, config, trusted }
    }

    /// How long the attempt has to wait, if it has to. Nothing is counted.
    ///
    /// # Errors
    /// When the counts cannot be read.
    pub async fn wait(
        &self,
        attempt: Attempt<'_>,
        from: Option<IpAddr>,
    ) -> Result<Option<Duration>, ThrottleError> {
        let budgets = self.budgets(attempt, from)?;
        if let Some(redis) = &self.redis
            && let Some(wait) = redis.wait(budgets.clone()).await
        {
            return Ok(wait);
        }
        let wait = self
            .pool
            .run(move |mut connection| async move { postgres::wait(&mut connection, &budgets).await })
            .await?;
        Ok(wait)
    }

    /// Counts an attempt; how long it has to wait, if its budget was spent before.
    ///
    /// # Errors
    /// When it cannot be counted.
    pub async fn count(
        &self,
        attempt: Attempt<'_>,
        from: Option<IpAddr>,
    ) -> Result<Option<Duration>, ThrottleError> {
        let budgets = self.budgets(attempt, from)?;
        let (window, longest) = (self.config.window, self.config.longest_delay);
        if let Some(redis) = &self.redis
            && let Some(wait) = redis.count(budgets.clone(), window, longest).await
        {
            return Ok(wait);
        }
        let wait = self
            .pool
            .run(move |mut connection| async move {
                postgres::count(&mut connection, &budgets, window, longest).await
            })
            .await?;
        Ok(wait)
    }

    /// Forgets the wrong tries of somebody who has proven who they are, from where they are.
    ///
    /// # Errors
    /// When the counts cannot be changed.
    pub async fn forget(&self, attempt: Attempt<'_>, from: Option<IpAddr>) -> Result<(), ThrottleError> {
        let budgets = self.budgets(attempt, from)?;
        let keys: Vec<Vec<u8>> =
            budgets.into_iter().filter(|budget| budget.is_growing).map(|budget| budget.key).collect();
        if let Some(redis) = &self.redis {
            // What PostgreSQL counted while Redis was away ends with its window.
            if redis.forget(keys.clone()).await.is_some() {
                return Ok(());
            }
        }
        self.pool
            .run(move |mut connection| async move { postgres::forget(&mut connection, keys).await })
            .await?;
        Ok(())
    }

    fn budgets(&self, attempt: Attempt<'_>, from: Option<IpAddr>) -> Result<Vec<Budget>, ThrottleError> {
        let config = &self.config;
        let mut budgets = Vec::new();
        let mut add = |name: &str, value: &str, limit: u32, is_growing: bool| {
            let key = self.vault.throttle.mac(format!("{name}\0{value}").as_bytes())?;
            budgets.push(Budget { key, limit, is_growing });
            Ok::<_, SealError>(())
        };
        let caller = from.map(|from| network::caller(from).to_string()).unwrap_or_default();
        let near = from.map(|from| network::network(from).to_string()).unwrap_or_default();
        let is_trusted = from.is_none_or(|from| self.trusted.iter().any(|network| network.contains(from)));
        match attempt {
            Attempt::Credentials(who) => {
                // From elsewhere its owner still gets in while somebody tries it here.
                add("account-from", &format!("{who}\0{near}"), config.account_failures, true)?;
                add("account", who, config.account_failures_total, true)?;
            }
            Attempt::Mail(mailbox) => add("mailbox", mailbox, config.mailbox_mails, false)?,
            Attempt::Secret | Attempt::Request => {}
        }
        if !is_trusted {
            match attempt {
                Attempt::Credentials(_) | Attempt::Secret => {
                    add("failures-address", &caller, config.address_failures, false)?;
                    add("failures-network", &near, config.network_failures, false)?;
                }
                Attempt::Request | Attempt::Mail(_) => {
                    add("requests-address", &caller, config.address_requests, false)?;
                }
            }
        }
        Ok(budgets)
    }
}

/// Removes counts whose window has ended; returns how many.
///
/// # Errors
/// When the database refuses.
pub async fn prune(
    connection: &mut diesel_async::AsyncPgConnection,
    limit: i64,
) -> Result<usize, StoreError> {
    postgres::prune(connection, limit).await
}
