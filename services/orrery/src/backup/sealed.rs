//! The bytes of a backup as they lie: a plain head with the format's version and a salt, then a sealed stream (`orrery_seal::stream`).

use anyhow::{Context as _, bail, ensure};
use orrery_config::keys::KeyRing;
use orrery_seal::stream::{CHUNK_BYTES, SALT_BYTES, StreamKey, TAG_BYTES};
use orrery_supervise::random::Random;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::place::Writing;

const MAGIC: &[u8; 16] = b"orrery-backup 1\n";
const HEAD_BYTES: usize = MAGIC.len() + SALT_BYTES;
const PURPOSE: &str = "backup";

/// Seals what is written and passes it on.
pub struct Sealing<'a> {
    to: &'a mut Writing,
    key: StreamKey,
    chunk: Vec<u8>,
    bytes: u64,
}

impl<'a> Sealing<'a> {
    /// Writes the head.
    ///
    /// # Errors
    /// When the place takes nothing.
    pub async fn begin(to: &'a mut Writing, ring: &KeyRing, random: &Random) -> anyhow::Result<Self> {
        let salt: [u8; SALT_BYTES] = random.bytes();
        let head = [MAGIC.as_slice(), &salt].concat();
        to.write(&head).await?;
        let key = StreamKey::new(ring, &salt, PURPOSE, &head)?;
        Ok(Self { to, key, chunk: Vec::with_capacity(CHUNK_BYTES + TAG_BYTES), bytes: 0 })
    }

    /// More of the stream.
    ///
    /// # Errors
    /// When the place takes no more.
    pub async fn write(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            // Sealed only when more comes: the last chunk is sealed as such.
            if self.chunk.len() == CHUNK_BYTES {
                self.send(false).await?;
            }
            let (now, later) = bytes.split_at((CHUNK_BYTES - self.chunk.len()).min(bytes.len()));
            self.chunk.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Ends the stream, and says how many bytes were written in all.
    ///
    /// # Errors
    /// When the place takes no more.
    pub async fn finish(mut self) -> anyhow::Result<u64> {
        self.send(true).await?;
        Ok(self.bytes)
    }

    async fn send(&mut self, is_last: bool) -> anyhow::Result<()> {
        self.key.seal(&mut self.chunk, is_last)?;
        self.to.write(&self.chunk).await?;
        self.bytes += u64::try_from(self.chunk.len())?;
        self.chunk.clear();
        Ok(())
    }
}

/// Opens what is read.
pub struct Opening {
    from: Box<dyn AsyncRead + Send + Unpin>,
    key: StreamKey,
    /// The chunk after the one that is being read, sealed; whether there is one tells which is the last.
    next: Vec<u8>,
    chunk: Vec<u8>,
    read: usize,
    ended: bool,
}

impl Opening {
    /// Reads the head.
    ///
    /// # Errors
    /// When it is no backup.
    pub async fn begin(mut from: Box<dyn AsyncRead + Send + Unpin>, ring: &KeyRing) -> anyhow::Result<Self> {
        let mut head = [0; HEAD_BYTES];
        from.read_exact(&mut head).await.context("it is no backup: it is too short")?;
        let (magic, salt) = head.split_at(MAGIC.len());
        ensure!(magic == MAGIC, "it is no backup that this version can read");
        let salt: [u8; SALT_BYTES] = salt.try_into()?;
        let key = StreamKey::new(ring, &salt, PURPOSE, &head)?;
        let next = sealed_chunk(&mut from).await?;
        Ok(Self { from, key, next, chunk: Vec::new(), read: 0, ended: false })
    }

    /// Fills `into`.
    ///
    /// # Errors
    /// When the stream is over, or was changed.
    pub async fn read_exact(&mut self, into: &mut [u8]) -> anyhow::Result<()> {
        let mut filled = 0;
        while let Some(left) = into.get_mut(filled..).filter(|left| !left.is_empty()) {
            let there = self.chunk.get(self.read..).unwrap_or_default();
            if there.is_empty() {
                self.advance().await?;
                continue;
            }
            let most = there.len().min(left.len());
            if let (Some(to), Some(from)) = (left.get_mut(..most), there.get(..most)) {
                to.copy_from_slice(from);
            }
            filled += most;
            self.read += most;
        }
        Ok(())
    }

    /// Whether nothing is left: then all of it was read, and none of it was changed.
    pub fn is_over(&self) -> bool {
        self.ended && self.read == self.chunk.len()
    }

    async fn advance(&mut self) -> anyhow::Result<()> {
        if self.ended {
            bail!("it ends too early");
        }
        let following = sealed_chunk(&mut self.from).await?;
        self.chunk = std::mem::replace(&mut self.next, following);
        self.read = 0;
        self.ended = self.next.is_empty();
        self.key
            .open(&mut self.chunk, self.ended)
            .context("it was cut off or changed, or backup.key is not the key that it was sealed under")
    }
}

/// The next chunk as it lies there; empty at the end.
async fn sealed_chunk(from: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + TAG_BYTES);
    from.take(u64::try_from(CHUNK_BYTES + TAG_BYTES)?).read_to_end(&mut chunk).await?;
    Ok(chunk)
}
