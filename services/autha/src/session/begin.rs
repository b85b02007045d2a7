//! The row of a new session and its first refresh token.

use chrono::{DateTime, Utc};
use diesel::Insertable;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use orrery_store::StoreError;
use uuid::Uuid;

use crate::{
    schema::sessions,
    token::refresh::{self, RefreshToken},
};

/// A session that begins.
#[derive(Clone)]
pub struct NewSession {
    /// Its id.
    pub id: Uuid,
    /// What it may do, separated by spaces.
    pub scopes: String,
    /// How its person was authenticated (RFC 8176).
    pub methods: Vec<String>,
    /// What the client says it is, sealed for the session.
    pub device: Option<String>,
    /// The client; none is the instance's own.
    pub client: Option<Uuid>,
    /// Its first refresh token.
    pub refresh: RefreshToken,
}

// With DEFAULT in place of NULL its text would vary, and it would be parsed anew each time.
#[derive(Insertable)]
#[diesel(table_name = sessions, treat_none_as_default_value = false)]
struct Row<'a> {
    id: Uuid,
    account: Uuid,
    client: Option<Uuid>,
    scopes: &'a str,
    methods: &'a [String],
    device: Option<&'a str>,
    authenticated_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    used_at: DateTime<Utc>,
}

/// Begins a session of an account, whose row is locked.
///
/// # Errors
/// When the database refuses.
pub async fn begin(
    connection: &mut AsyncPgConnection,
    session: &NewSession,
    account: Uuid,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let row = Row {
        id: session.id,
        account,
        client: session.client,
        scopes: &session.scopes,
        methods: &session.methods,
        device: session.device.as_deref(),
        authenticated_at: now,
        created_at: now,
        used_at: now,
    };
    diesel::insert_into(sessions::table).values(row).execute(connection).await?;
    refresh::begin(connection, &session.refresh, session.id, now).await
}
