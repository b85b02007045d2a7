//! Makes a backup: the tables of one snapshot, then the objects that were there after it. Objects are written before the rows that name them and never change,
//! and the sweeper waits, so what the snapshot names is among them.

use anyhow::Context as _;
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use orrery_config::keys::{self as config, KeyRing};
use orrery_console::text::{count, grouped};
use orrery_objects::{ObjectError, Objects};
use orrery_store::{copy::Snapshot, migrations};
use orrery_supervise::random::Random;

use super::{
    archive::{Counts, Entry, Head, Keys},
    place::Writing,
    sealed::Sealing,
};
use crate::config::Config;

/// Rows are gathered to pieces of about this size.
const PIECE_BYTES: usize = 32 * 1024;

/// Writes all of it, and says what it was.
pub async fn make(
    config: &Config,
    random: &Random,
    now: DateTime<Utc>,
    to: &mut Writing,
) -> anyhow::Result<String> {
    let (shared, settings) = (&config.shared, &config.backup);
    let ring = settings.ring().map_err(anyhow::Error::msg)?;
    let mut archive = Sealing::begin(to, &ring, random).await?;
    let snapshot = Snapshot::take(&shared.database).await?;
    let head = Head {
        made_at: now,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        migrations: migrations::have_run(&shared.database).await?,
        objects: settings.objects,
    };
    archive.entry(&Entry::Head(head)).await?;
    let keys = keys(config)?;
    let keyless = keys.rings.is_empty();
    archive.entry(&Entry::Keys(keys)).await?;
    let mut counts = Counts::default();
    tables(&snapshot, &mut archive, &mut counts).await?;
    let mut gone = 0;
    if settings.objects {
        let objects = Objects::new(&shared.storage)?;
        gone = copy_objects(&objects, &mut archive, &mut counts).await.context("the bucket")?;
    }
    drop(snapshot);
    archive.entry(&Entry::End(counts.clone())).await?;
    let bytes = archive.finish().await?;
    let mut told = format!("{}, {}", told(&counts), count(bytes, "byte"));
    if keyless {
        told += "; NO KEYS: give it those of the section keys, or keep them elsewhere";
    }
    if gone > 0 {
        told += &format!("; {} were removed meanwhile", count(gone, "object"));
    }
    Ok(told)
}

/// What there was, in words.
pub fn told(counts: &Counts) -> String {
    format!(
        "{} in {}, {} of {} bytes",
        count(counts.rows, "row"),
        count(counts.tables, "table"),
        count(counts.objects, "object"),
        grouped(counts.object_bytes)
    )
}

/// The configuration's keys, as far as it has any.
fn keys(config: &Config) -> anyhow::Result<Keys> {
    let mut keys = Keys::default();
    for (path, ring) in rings(&config.shared.keys) {
        let Some(ring) = ring else { continue };
        let ring = ring.map_err(anyhow::Error::msg)?;
        keys.rings.insert(path.to_owned(), ring.keys().map(|key| STANDARD.encode(key)).collect());
    }
    Ok(keys)
}

/// Every ring of the section `keys` by its path; none where it is not given.
pub fn rings(keys: &config::Keys) -> [(&'static str, Option<Result<KeyRing, String>>); 3] {
    let master = keys.master.is_some() || keys.master_file.is_some();
    let mail = keys.mail.is_some() || keys.mail_file.is_some();
    let discovery = keys.discovery.is_some() || keys.discovery_file.is_some();
    [
        ("keys.master", master.then(|| keys.master())),
        ("keys.mail", mail.then(|| keys.mail())),
        ("keys.discovery", discovery.then(|| keys.discovery())),
    ]
}

async fn tables(snapshot: &Snapshot, archive: &mut Sealing<'_>, counts: &mut Counts) -> anyhow::Result<()> {
    for table in snapshot.tables().await? {
        archive.entry(&Entry::Table(table.clone())).await?;
        let rows = snapshot.rows(&table).await?;
        let mut rows = std::pin::pin!(rows);
        let mut piece = Vec::with_capacity(PIECE_BYTES * 2);
        while let Some(bytes) = rows.next().await {
            let bytes = bytes.with_context(|| table.name.clone())?;
            counts.rows += u64::try_from(bytes.iter().filter(|byte| **byte == b'\n').count())?;
            piece.extend_from_slice(&bytes);
            if piece.len() >= PIECE_BYTES {
                archive.piece(&piece).await?;
                piece.clear();
            }
        }
        if !piece.is_empty() {
            archive.piece(&piece).await?;
        }
        archive.end_of_pieces().await?;
        counts.tables += 1;
    }
    for sequence in snapshot.sequences().await? {
        archive.entry(&Entry::Sequence(sequence)).await?;
    }
    Ok(())
}

/// Copies what the bucket holds, and says how much of what it listed was gone when it was to be read.
async fn copy_objects(
    objects: &Objects,
    archive: &mut Sealing<'_>,
    counts: &mut Counts,
) -> anyhow::Result<u64> {
    let (mut from, mut gone) = (None, 0);
    loop {
        let page = objects.list("", from).await?;
        for listed in page.objects {
            let mut object = match objects.open(&listed.key, None).await {
                Ok(object) => object,
                // An account was deleted, with all that was its.
                Err(ObjectError::NotFound) => {
                    gone += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let (size_bytes, media_type) = (object.size_bytes, object.media_type.clone());
            archive.entry(&Entry::Object { key: listed.key, media_type, size_bytes }).await?;
            while let Some(bytes) = object.next().await? {
                archive.piece(&bytes).await?;
            }
            archive.end_of_pieces().await?;
            counts.objects += 1;
            counts.object_bytes += size_bytes;
        }
        from = page.next;
        if from.is_none() {
            return Ok(gone);
        }
    }
}
