//! What an operator is shown of third parties, and does to an endpoint. By columns that hold no secret: the console's role may read no other.

use async_trait::async_trait;
use orrery_service::{GivenUp, Partner, Webhook, Webhooks};
use orrery_store::{Pool, StoreError};
use orrery_supervise::clock::Clock;
use uuid::Uuid;

use crate::records::{
    deliveries::{self, Which},
    endpoints, overview,
};

/// By the records.
pub struct Shown;

#[async_trait]
impl Webhooks for Shown {
    async fn partners(&self, pool: &Pool, after: &str, limit: i64) -> Result<Vec<Partner>, StoreError> {
        let mut connection = pool.get().await?;
        overview::partners(&mut connection, after, limit).await
    }

    async fn endpoints(
        &self,
        pool: &Pool,
        partner: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Webhook>, StoreError> {
        let mut connection = pool.get().await?;
        overview::endpoints(&mut connection, None, partner, limit).await
    }

    async fn endpoint(&self, pool: &Pool, id: Uuid) -> Result<Option<Webhook>, StoreError> {
        let mut connection = pool.get().await?;
        Ok(overview::endpoints(&mut connection, Some(id), None, 1).await?.pop())
    }

    async fn given_up(
        &self,
        pool: &Pool,
        id: Uuid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<GivenUp>, StoreError> {
        let mut connection = pool.get().await?;
        deliveries::dead(&mut connection, id, after, limit).await
    }

    async fn replay(&self, pool: &Pool, id: Uuid, position: Option<i64>) -> Result<usize, StoreError> {
        let mut connection = pool.get().await?;
        let which = Which { position, ..Which::default() };
        deliveries::replay(&mut connection, id, which, Clock::System.now()).await
    }

    async fn set(&self, pool: &Pool, id: Uuid, enabled: bool) -> Result<bool, StoreError> {
        let mut connection = pool.get().await?;
        endpoints::set(&mut connection, id, enabled).await
    }
}
