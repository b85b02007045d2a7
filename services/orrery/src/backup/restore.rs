//! Restores a backup into an empty system. The rows hold only when everything was read to its sealed end: then the objects are there already.

use std::{io::Write as _, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use orrery_config::keys::KeyRing;
use orrery_objects::Objects;
use orrery_store::{
    copy::{Filling, Table},
    migrations,
};
use tokio::{io::AsyncRead, sync::mpsc};

use super::{
    archive::{Counts, Entry, Head, Keys},
    make::{rings, told},
    sealed::Opening,
};
use crate::config::Config;

type Reader = Box<dyn AsyncRead + Send + Unpin>;

/// Reads all of it and writes nothing.
pub async fn check(config: &Config, from: Reader) -> anyhow::Result<String> {
    let (mut archive, head, _) = open(config, from).await?;
    let counts = pass(&mut archive, None).await?;
    Ok(format!("it is whole: {} of {}", told(&counts), head.made_at.format("%Y-%m-%d %H:%M UTC")))
}

/// Writes the keys into a folder, and nothing else.
pub async fn keys(config: &Config, from: Reader, folder: &Path) -> anyhow::Result<String> {
    let (_, _, keys) = open(config, from).await?;
    let mut written = Vec::new();
    for (name, texts) in &keys.rings {
        for (at, text) in texts.iter().enumerate() {
            let name = if at == 0 { name.clone() } else { format!("{name}_previous.{at}") };
            let mut options = std::fs::File::options();
            let file = options.write(true).create_new(true).mode(0o600).open(folder.join(&name));
            let mut file =
                file.with_context(|| format!("{} cannot be written", folder.join(&name).display()))?;
            writeln!(file, "{text}")?;
            written.push(name);
        }
    }
    ensure!(!written.is_empty(), "it holds no keys: the process that made it had none");
    Ok(format!("wrote {} into {}", written.join(", "), folder.display()))
}

/// Fills an empty system.
pub async fn restore(config: &Config, from: Reader) -> anyhow::Result<String> {
    let shared = &config.shared;
    let (mut archive, head, keys) = open(config, from).await?;
    for (path, ring) in rings(&shared.keys) {
        compare(path, keys.rings.get(path), ring)?;
    }
    let had = migrations::have_run(&shared.database).await?;
    if let Some(newer) = had.iter().find(|version| !head.migrations.contains(version)) {
        bail!(
            "the database has the migration {newer}, which the backup lacks: restore into a blank database (DROP DATABASE, CREATE DATABASE)"
        );
    }
    migrations::migrate_to(&shared.database, Some(head.migrations.clone())).await?;
    let have = migrations::have_run(&shared.database).await?;
    if let Some(unknown) = head.migrations.iter().find(|version| !have.contains(version)) {
        bail!(
            "the backup has the migration {unknown}, which this version does not know: restore it by Orrery {} or a newer one",
            head.version
        );
    }
    let objects = if head.objects {
        let objects = Objects::new(&shared.storage)?;
        objects.create_bucket().await?;
        Some(objects)
    } else {
        None
    };
    let filling = Filling::begin(&shared.database, &[orrery_autha::operator::ACCOUNTS]).await?;
    let counts = pass(&mut archive, Some((&filling, objects.as_ref()))).await?;
    filling.commit().await?;
    Ok(format!(
        "restored {} of {}. Run 'orrery migrate', start the services, then 'orrery events replay --sent-since 24h' for what lay in queues",
        told(&counts),
        head.made_at.format("%Y-%m-%d %H:%M UTC")
    ))
}

/// Reads the first two entries.
async fn open(config: &Config, from: Reader) -> anyhow::Result<(Opening, Head, Keys)> {
    let ring = config.backup.ring().map_err(anyhow::Error::msg)?;
    let mut archive = Opening::begin(from, &ring).await?;
    let Entry::Head(head) = archive.entry().await? else { bail!("it has no head") };
    let Entry::Keys(keys) = archive.entry().await? else { bail!("it has no keys") };
    Ok((archive, head, keys))
}

/// The configuration's key has to be the one that the rows are sealed under, or to know it.
fn compare(
    path: &str,
    backed_up: Option<&Vec<String>>,
    configured: Option<Result<KeyRing, String>>,
) -> anyhow::Result<()> {
    let Some(current) = backed_up.and_then(|keys| keys.first()) else { return Ok(()) };
    let ring = configured.transpose().map_err(anyhow::Error::msg)?;
    let knows = ring.is_some_and(|ring| ring.keys().any(|key| STANDARD.encode(key) == *current));
    ensure!(
        knows,
        "{path}: is not the key of the backup: write that one by 'orrery restore --keys-into FOLDER' and give it"
    );
    Ok(())
}

/// Goes through tables, sequences and objects to the end, and says what there was.
async fn pass(archive: &mut Opening, into: Option<(&Filling, Option<&Objects>)>) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    loop {
        match archive.entry().await? {
            Entry::Table(table) => {
                counts.rows += rows(archive, &table, into.map(|(filling, _)| filling)).await?;
                counts.tables += 1;
            }
            Entry::Sequence(sequence) => {
                if let Some((filling, _)) = into {
                    filling.sequence(&sequence).await?;
                }
            }
            Entry::Object { key, media_type, size_bytes } => {
                let objects = into.and_then(|(_, objects)| objects);
                object(archive, objects, &key, &media_type, size_bytes).await.with_context(|| key.clone())?;
                counts.objects += 1;
                counts.object_bytes += size_bytes;
            }
            Entry::End(wanted) => {
                ensure!(archive.is_over(), "something follows its end");
                ensure!(counts == wanted, "it holds {}, and should hold {}", told(&counts), told(&wanted));
                return Ok(counts);
            }
            Entry::Head(_) | Entry::Keys(_) => bail!("an entry stands where none may"),
        }
    }
}

/// Passes a table's rows on, and counts them.
async fn rows(archive: &mut Opening, table: &Table, into: Option<&Filling>) -> anyhow::Result<u64> {
    let mut sink = match into {
        Some(filling) => Some(filling.rows(table).await.with_context(|| table.name.clone())?),
        None => None,
    };
    let mut count = 0;
    while let Some(bytes) = archive.piece().await? {
        count += u64::try_from(bytes.iter().filter(|byte| **byte == b'\n').count())?;
        if let Some(sink) = &mut sink {
            sink.write(bytes).await.with_context(|| table.name.clone())?;
        }
    }
    if let Some(sink) = sink {
        let taken = sink.finish().await.with_context(|| table.name.clone())?;
        ensure!(taken == count, "{}: {taken} rows were taken of {count}", table.name);
    }
    Ok(count)
}

/// Passes an object's bytes on.
async fn object(
    archive: &mut Opening,
    into: Option<&Objects>,
    key: &str,
    media_type: &str,
    size_bytes: u64,
) -> anyhow::Result<()> {
    let (chunks, taken) = mpsc::channel(2);
    let putting = async {
        match into {
            Some(objects) => {
                objects.put_stream(key, media_type, size_bytes, taken).await.map_err(anyhow::Error::new)
            }
            None => {
                drop(taken);
                Ok(())
            }
        }
    };
    let reading = async move {
        let mut read = 0;
        while let Some(bytes) = archive.piece().await? {
            read += u64::try_from(bytes.len())?;
            // Who takes them says why it takes no more.
            let _more = chunks.send(Ok(bytes)).await.is_ok();
        }
        ensure!(read == size_bytes, "it has {read} bytes, and should have {size_bytes}");
        Ok(())
    };
    let (read, put) = tokio::join!(reading, putting);
    read.and(put)
}
