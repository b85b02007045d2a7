//! What a backup holds, in its order: a head, the keys, tables with their rows, sequences, objects with their bytes, an end that counts them. Each entry is JSON;
//! bytes follow it in pieces. How they are sealed lives in `sealed`.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use orrery_store::copy::{Sequence, Table};
use serde::{Deserialize, Serialize};

use super::sealed::{Opening, Sealing};

/// What a frame is.
const ENTRY: u8 = b'E';
const PIECE: u8 = b'P';
const END_OF_PIECES: u8 = b'.';

/// No frame is longer: what is read has a bound.
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// One entry.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// The first.
    Head(Head),
    /// The installation's keys.
    Keys(Keys),
    /// A table; its rows follow.
    Table(Table),
    /// Where a sequence is.
    Sequence(Sequence),
    /// An object; its bytes follow.
    Object {
        /// Its key.
        key: String,
        /// Its media type.
        media_type: String,
        /// Its length.
        size_bytes: u64,
    },
    /// The last: what there was.
    End(Counts),
}

/// When it was made, by what, of what.
#[derive(Debug, Serialize, Deserialize)]
pub struct Head {
    /// The time.
    pub made_at: DateTime<Utc>,
    /// The version of Orrery.
    pub version: String,
    /// The migrations that the database had.
    pub migrations: Vec<String>,
    /// Whether the bucket's objects are in it.
    pub objects: bool,
}

/// The installation's keys.
#[derive(Default, Serialize, Deserialize)]
pub struct Keys {
    /// By their paths in the configuration, such as `keys.master`: the current one first, in base64.
    pub rings: BTreeMap<String, Vec<String>>,
}

/// What there was.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Tables.
    pub tables: u64,
    /// Rows of all tables.
    pub rows: u64,
    /// Objects.
    pub objects: u64,
    /// Bytes of all objects.
    pub object_bytes: u64,
}

impl Sealing<'_> {
    /// Writes an entry.
    ///
    /// # Errors
    /// When the place takes no more.
    pub async fn entry(&mut self, entry: &Entry) -> anyhow::Result<()> {
        self.frame(ENTRY, &serde_json::to_vec(entry)?).await
    }

    /// Writes a piece of the last entry's bytes.
    ///
    /// # Errors
    /// When the place takes no more.
    pub async fn piece(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        for piece in bytes.chunks(MOST_BYTES) {
            self.frame(PIECE, piece).await?;
        }
        Ok(())
    }

    /// Ends the last entry's bytes.
    ///
    /// # Errors
    /// When the place takes no more.
    pub async fn end_of_pieces(&mut self) -> anyhow::Result<()> {
        self.frame(END_OF_PIECES, b"").await
    }

    async fn frame(&mut self, kind: u8, bytes: &[u8]) -> anyhow::Result<()> {
        self.write(&[kind]).await?;
        self.write(&u32::try_from(bytes.len())?.to_be_bytes()).await?;
        self.write(bytes).await
    }
}

impl Opening {
    /// Reads an entry.
    ///
    /// # Errors
    /// When the backup is not whole, or there is none.
    pub async fn entry(&mut self) -> anyhow::Result<Entry> {
        match self.frame().await? {
            (ENTRY, bytes) => serde_json::from_slice(&bytes).context("an entry cannot be read"),
            _ => bail!("an entry is missing"),
        }
    }

    /// Reads a piece of the last entry's bytes; none at their end.
    ///
    /// # Errors
    /// When the backup is not whole.
    pub async fn piece(&mut self) -> anyhow::Result<Option<Bytes>> {
        match self.frame().await? {
            (PIECE, bytes) => Ok(Some(bytes.into())),
            (END_OF_PIECES, _) => Ok(None),
            _ => bail!("bytes are missing"),
        }
    }

    async fn frame(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.read_exact(&mut head).await?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length))?;
        ensure!(length <= MOST_BYTES, "a frame is too long");
        let mut bytes = vec![0; length];
        self.read_exact(&mut bytes).await?;
        Ok((kind, bytes))
    }
}
