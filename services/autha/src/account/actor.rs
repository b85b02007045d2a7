//! The accounts actor: every change of an account is a message to it, and one transaction. The logic is in plain functions beside it.

use actix::{Actor, Context, Handler, Message, ResponseFuture};
use chrono::{DateTime, Utc};
use diesel_async::AsyncConnection;
use orrery_actors::{
    bus::relay::Wake,
    config::storage::UploadedEvents,
    store::{Pool, StoreError, outbox::Outbox},
    supervise::Ping,
};
use orrery_schemas::{ids::AccountId, trace::TraceParent};
use std::sync::Arc;
use uuid::Uuid;

use super::register::{self, RegisterError, Registered, Registration};
use crate::{
    picture::{self, NewUpload},
    token::refresh::{self, RefreshError, RefreshToken, Rotated},
    vault::Vault,
};

/// Makes an account.
#[derive(Message)]
#[rtype(result = "Result<Registered, RegisterError>")]
pub struct RegisterAccount(pub Registration);

/// Begins a session.
#[derive(Message)]
#[rtype(result = "Result<String, StoreError>")]
pub struct OpenSession {
    /// Whose.
    pub account: AccountId,
    /// Its first refresh token.
    pub token: RefreshToken,
    /// Its family.
    pub family: Uuid,
    /// The time.
    pub now: DateTime<Utc>,
}

/// Exchanges a refresh token.
#[derive(Message)]
#[rtype(result = "Result<Rotated, RefreshError>")]
pub struct RotateToken {
    /// The token.
    pub token: String,
    /// The time.
    pub now: DateTime<Utc>,
}

/// Makes an upload the account's wanted picture.
#[derive(Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct ReplaceAvatar(pub NewUpload);

/// Takes the account's picture away.
#[derive(Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct RemoveAvatar {
    /// Whose.
    pub account: AccountId,
    /// The trace of the request.
    pub trace: TraceParent,
    /// The time.
    pub now: DateTime<Utc>,
}

/// Changes accounts.
#[derive(Clone)]
pub struct Accounts {
    /// Autha's connections.
    pub pool: Pool,
    /// Autha's keys.
    pub vault: Arc<Vault>,
    /// Where messages are written.
    pub outbox: Outbox,
    /// Rung after a commit.
    pub wake: Wake,
    /// Who tells of uploads.
    pub uploaded_events: UploadedEvents,
}

impl Actor for Accounts {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(256);
    }
}

impl Handler<Ping> for Accounts {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<RegisterAccount> for Accounts {
    type Result = ResponseFuture<Result<Registered, RegisterError>>;

    fn handle(
        &mut self,
        RegisterAccount(registration): RegisterAccount,
        _: &mut Self::Context,
    ) -> Self::Result {
        let (pool, vault, outbox, wake) =
            (self.pool.clone(), Arc::clone(&self.vault), self.outbox.clone(), self.wake.clone());
        Box::pin(async move {
            pool.run(move |mut connection| async move {
                let registered = register::register(&mut connection, &vault, &outbox, &registration).await?;
                wake.wake();
                Ok(registered)
            })
            .await
        })
    }
}

impl Handler<OpenSession> for Accounts {
    type Result = ResponseFuture<Result<String, StoreError>>;

    fn handle(&mut self, open: OpenSession, _: &mut Self::Context) -> Self::Result {
        let pool = self.pool.clone();
        Box::pin(async move {
            pool.run(move |mut connection| async move {
                refresh::begin(&mut connection, &open.token, open.account, open.family, open.now).await?;
                Ok(open.token.into_text())
            })
            .await
        })
    }
}

impl Handler<RotateToken> for Accounts {
    type Result = ResponseFuture<Result<Rotated, RefreshError>>;

    fn handle(&mut self, rotate: RotateToken, _: &mut Self::Context) -> Self::Result {
        let (pool, vault) = (self.pool.clone(), Arc::clone(&self.vault));
        Box::pin(async move {
            pool.run(move |mut connection| async move {
                let rotated = connection
                    .transaction::<_, RefreshError, _>(async |connection| {
                        refresh::rotate(connection, &vault.refresh, &rotate.token, rotate.now).await
                    })
                    .await?;
                rotated.ok_or(RefreshError::Invalid)
            })
            .await
        })
    }
}

impl Handler<ReplaceAvatar> for Accounts {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, ReplaceAvatar(upload): ReplaceAvatar, _: &mut Self::Context) -> Self::Result {
        let (pool, wake) = (self.pool.clone(), self.wake.clone());
        let outbox = (self.uploaded_events == UploadedEvents::Outbox).then(|| self.outbox.clone());
        Box::pin(async move {
            pool.run(move |mut connection| async move {
                picture::replace(&mut connection, outbox.as_ref(), &upload).await?;
                wake.wake();
                Ok(())
            })
            .await
        })
    }
}

impl Handler<RemoveAvatar> for Accounts {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, remove: RemoveAvatar, _: &mut Self::Context) -> Self::Result {
        let (pool, outbox, wake) = (self.pool.clone(), self.outbox.clone(), self.wake.clone());
        Box::pin(async move {
            pool.run(move |mut connection| async move {
                picture::remove(&mut connection, &outbox, remove.account, remove.trace, remove.now).await?;
                wake.wake();
                Ok(())
            })
            .await
        })
    }
}
