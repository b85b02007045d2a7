//! Third parties and their endpoints as an operator is shown them, and what can be done to an endpoint. The service that delivers answers, by connections of whoever asks.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::{
    QueryableByName,
    sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use orrery_store::{Pool, StoreError};
use serde::Serialize;
use uuid::Uuid;

/// A third party.
#[derive(Debug, Clone, QueryableByName, Serialize)]
pub struct Partner {
    /// Its client id.
    #[diesel(sql_type = Text)]
    pub name: String,
    /// Whether it may use the admin API.
    #[diesel(sql_type = Bool)]
    pub is_operator: bool,
    /// Types that it may send, as patterns.
    #[diesel(sql_type = Array<Text>)]
    pub publishes: Vec<String>,
    /// Types that it may receive, as patterns.
    #[diesel(sql_type = Array<Text>)]
    pub receives: Vec<String>,
    /// How many endpoints it has.
    #[diesel(sql_type = BigInt)]
    pub endpoints: i64,
    /// Since when it is forbidden everything.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub disabled_at: Option<DateTime<Utc>>,
}

/// An endpoint of a third party.
#[derive(Debug, Clone, QueryableByName, Serialize)]
pub struct Webhook {
    /// Its id.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Whose it is.
    #[diesel(sql_type = Text)]
    pub partner: String,
    /// Where events are pushed to.
    #[diesel(sql_type = Text)]
    pub url: String,
    /// `pending`, `active` or `disabled`.
    #[diesel(sql_type = Text)]
    pub state: String,
    /// Why it is not active.
    #[diesel(sql_type = Nullable<Text>)]
    pub reason: Option<String>,
    /// Whether an operator disabled it.
    #[diesel(sql_type = Bool)]
    pub is_held: bool,
    /// Since when every try fails.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub failing_since: Option<DateTime<Utc>>,
    /// Events of the log that it has not come to yet.
    #[diesel(sql_type = BigInt)]
    pub behind: i64,
    /// Deliveries that failed and are tried again.
    #[diesel(sql_type = BigInt)]
    pub retried: i64,
    /// Deliveries that were given up; counted up to 10,000.
    #[diesel(sql_type = BigInt)]
    pub dead: i64,
}

/// A delivery that was given up.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName, Serialize)]
pub struct GivenUp {
    /// Its place in the log.
    #[diesel(sql_type = BigInt)]
    pub position: i64,
    /// The `webhook-id` of its tries.
    #[diesel(sql_type = SqlUuid)]
    pub webhook_id: Uuid,
    /// The event's type.
    #[diesel(sql_type = Text)]
    #[serde(rename = "type")]
    pub ty: String,
    /// Tries in all.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// When it was tried first.
    #[diesel(sql_type = Timestamptz)]
    pub first_at: DateTime<Utc>,
    /// When it was given up.
    #[diesel(sql_type = Timestamptz)]
    pub dead_at: DateTime<Utc>,
    /// Why the last try failed.
    #[diesel(sql_type = Text)]
    pub last_error: String,
    /// What was answered last.
    #[diesel(sql_type = Nullable<Integer>)]
    pub last_status: Option<i32>,
}

/// Who knows all of this.
#[async_trait]
pub trait Webhooks: Send + Sync {
    /// At most `limit` third parties after a name, by name.
    ///
    /// # Errors
    /// When the database is away or refuses.
    async fn partners(&self, pool: &Pool, after: &str, limit: i64) -> Result<Vec<Partner>, StoreError>;

    /// At most `limit` endpoints, of that partner or of all; those that are not well first.
    ///
    /// # Errors
    /// As `partners`.
    async fn endpoints(
        &self,
        pool: &Pool,
        partner: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Webhook>, StoreError>;

    /// One endpoint.
    ///
    /// # Errors
    /// As `partners`.
    async fn endpoint(&self, pool: &Pool, id: Uuid) -> Result<Option<Webhook>, StoreError>;

    /// What it did not take for good, after a position.
    ///
    /// # Errors
    /// As `partners`.
    async fn given_up(
        &self,
        pool: &Pool,
        id: Uuid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<GivenUp>, StoreError>;

    /// Has that delivered again, or only what is at this position; returns how much that is.
    ///
    /// # Errors
    /// As `partners`.
    async fn replay(&self, pool: &Pool, id: Uuid, position: Option<i64>) -> Result<usize, StoreError>;

    /// Delivers to it again, or not any more until an operator says otherwise; returns whether that changed anything.
    ///
    /// # Errors
    /// As `partners`.
    async fn set(&self, pool: &Pool, id: Uuid, enabled: bool) -> Result<bool, StoreError>;
}
