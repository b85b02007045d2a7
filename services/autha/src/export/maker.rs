//! The maker of exports: takes one that is asked for under a lease, packs it, puts it into the bucket and tells its person. What a crash leaves is
//! taken again when its lease ends; the object's key is the export's, so that nothing is written twice.

use std::time::Duration;

use async_trait::async_trait;
use diesel::{
    ExpressionMethods, OptionalExtension, QueryDsl, QueryableByName,
    sql_types::{Nullable, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use orrery_objects::{ObjectError, Objects};
use orrery_schemas::email::{Details, Template};
use orrery_store::StoreError;
use orrery_supervise::{Actor, ActorError, Handle, Life, Progress, Tick};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    MAX_BYTES, PREFIX,
    archive::{self, ArchiveError},
    gather,
};
use crate::{
    account::{
        change::{self, Change, Circumstances, Tools, perform},
        error::ChangeError,
        links::Links,
        mail::written,
    },
    schema::exports,
};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(5);
/// The largest picture of an archive.
const LARGEST_PICTURE: u64 = 4 * 1024 * 1024;

/// Makes exports.
#[derive(Clone)]
pub struct ExportMaker {
    /// What changes work with.
    pub tools: Tools,
    /// The bucket.
    pub objects: Objects,
    /// What it shows of its work.
    pub progress: Progress,
}

/// An export broke off.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bucket is away.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The archive could not be made.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The row could not be changed.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A thread ended early.
    #[error("the archive's thread ended early")]
    Thread,
}

impl From<diesel::result::Error> for ExportError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

#[derive(QueryableByName)]
struct Leased {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    account: Uuid,
}

#[derive(QueryableByName)]
struct Ended {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Nullable<Text>)]
    object_key: Option<String>,
}

impl Actor for ExportMaker {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        self.progress = life.progress();
        life.every(EVERY, EVERY);
        Ok(())
    }
}

impl Handle<Tick> for ExportMaker {
    fn handle(&mut self, _: Tick) -> impl Future<Output = Result<(), ActorError>> + 'static {
        let maker = self.clone();
        async move { Ok(maker.work().await?) }
    }
}

impl ExportMaker {
    /// Makes every export that is asked for, and removes those that have ended.
    async fn work(&self) -> Result<(), ExportError> {
        while let Some(leased) = self.lease().await? {
            self.progress.advance();
            match self.make(&leased).await {
                Ok(()) => info!("an export is ready"),
                // It is tried again when its lease ends, five times in all; the next one goes on.
                Err(error) => warn!(%error, "an export was not made"),
            }
        }
        self.expire().await
    }

    async fn lease(&self) -> Result<Option<Leased>, ExportError> {
        let mut connection = self.tools.pool.get().await?;
        diesel::sql_query(
            "UPDATE autha.exports SET state = 'failed' WHERE state = 'pending' AND attempts >= 5 AND leased_until < now()",
        )
        .execute(&mut connection)
        .await?;
        let leased: Vec<Leased> = diesel::sql_query(
            "UPDATE autha.exports SET lease = $1, leased_until = now() + interval '2 minutes', attempts = attempts + 1 \
             WHERE id = (SELECT id FROM autha.exports WHERE state = 'pending' AND NOT leased_until BETWEEN now() AND now() + interval '2 minutes' \
               ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, account",
        )
        .bind::<SqlUuid, _>(self.tools.random.uuid_v4())
        .load(&mut connection)
        .await?;
        Ok(leased.into_iter().next())
    }

    async fn make(&self, leased: &Leased) -> Result<(), ExportError> {
        let holdings = {
            let mut connection = self.tools.pool.get().await?;
            let (vault, account, now) = (&self.tools.vault, leased.account, self.tools.clock.now());
            connection
                .transaction::<_, ExportError, _>(async |connection| {
                    Ok(gather::gather(connection, vault, account, now).await?)
                })
                .await?
        };
        let Some(holdings) = holdings else { return Ok(()) };
        let mut pictures = Vec::new();
        for key in &holdings.pictures {
            let bytes = self.objects.get(key, LARGEST_PICTURE).await?;
            let name = key.rsplit('/').next().unwrap_or(key).to_owned();
            pictures.push((name, bytes.to_vec()));
            self.progress.advance();
        }
        let documents = holdings.documents;
        let packed = tokio::task::spawn_blocking(move || archive::pack(&documents, &pictures))
            .await
            .map_err(|_| ExportError::Thread)??;
        let size_bytes = u64::try_from(packed.len()).unwrap_or(u64::MAX);
        if size_bytes > MAX_BYTES {
            warn!(size_bytes, "an export is larger than it can be fetched");
        }
        let key = format!("{PREFIX}{}/{}.zip", leased.account, leased.id);
        self.objects.put(&key, "application/zip", size_bytes, packed.into()).await?;
        let finish =
            FinishExport { account: leased.account, export: leased.id, key: key.clone(), size_bytes };
        match perform(self.tools.clone(), finish, self.tools.random.trace()).await {
            // The account went meanwhile, and its folder may have been emptied before this came into it. The sweeper removes what a crash leaves here.
            Err(ChangeError::Gone) => Ok(self.objects.delete(&[key]).await?),
            done => Ok(done?),
        }
    }

    /// Removes what was fetched, or not fetched in time.
    async fn expire(&self) -> Result<(), ExportError> {
        let mut connection = self.tools.pool.get().await?;
        let ended: Vec<Ended> = diesel::sql_query(
            "SELECT id, object_key FROM autha.exports \
             WHERE state IN ('ready', 'fetched') AND object_key IS NOT NULL \
               AND (expires_at < now() OR state = 'fetched' AND ready_at < now() - interval '1 hour') \
             ORDER BY created_at LIMIT 100",
        )
        .load(&mut connection)
        .await?;
        for export in ended {
            if let Some(key) = export.object_key {
                self.objects.delete(&[key]).await?;
            }
            diesel::update(exports::table.find(export.id))
                .set((exports::state.eq("expired"), exports::object_key.eq(None::<String>)))
                .execute(&mut connection)
                .await?;
            self.progress.advance();
        }
        Ok(())
    }
}

/// Says that an archive lies in the bucket, and tells its person by mail.
struct FinishExport {
    account: Uuid,
    export: Uuid,
    key: String,
    size_bytes: u64,
}

#[async_trait]
impl Change for FinishExport {
    type Done = ();
    type Error = ChangeError;

    async fn apply(
        &self,
        connection: &mut AsyncPgConnection,
        with: &Circumstances,
    ) -> Result<(), ChangeError> {
        let account = change::lock(connection, self.account).await?.ok_or(ChangeError::Gone)?;
        let until = with.now
            + chrono::Duration::from_std(with.tools.config.export_lifetime)
                .unwrap_or(chrono::Duration::days(7));
        let finished: Option<Uuid> = diesel::update(exports::table.find(self.export))
            .filter(exports::state.eq("pending"))
            .set((
                exports::state.eq("ready"),
                exports::object_key.eq(&self.key),
                exports::size_bytes.eq(i64::try_from(self.size_bytes).unwrap_or(i64::MAX)),
                exports::ready_at.eq(with.now),
                exports::expires_at.eq(until),
            ))
            .returning(exports::id)
            .get_result(connection)
            .await
            .optional()?;
        // Another one was first after a lease had ended: the same object, one mail.
        if finished.is_none() {
            return Ok(());
        }
        let links = Links::new(&with.tools.config.public_url);
        let details = Details {
            link: Some(links.of(&format!("/users/@me/export/{}", self.export))),
            until: Some(written(until)),
            size_bytes: Some(self.size_bytes),
            ..Details::default()
        };
        with.mail_to(connection, &account, Template::ExportReady, Some(details), Some(until)).await?;
        Ok(())
    }
}
