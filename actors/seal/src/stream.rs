//! Sealing of what is too large to be held: a stream in chunks, each sealed by itself, whose order and end are sealed with them (the construction STREAM of
//! Hoang, Reyhanitabar, Rogaway and Vizár, 2015, as age has it). What becomes of the bytes lives where they come from.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
};
use orrery_config::keys::KeyRing;
use zeroize::Zeroizing;

use super::SealError;

/// How much of the stream each chunk holds; the last may hold less.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// How much longer a sealed chunk is.
pub const TAG_BYTES: usize = 16;
/// The length of a stream's salt.
pub const SALT_BYTES: usize = 32;

/// Seals the chunks of one stream, or opens them, in their order.
pub struct StreamKey {
    key: LessSafeKey,
    header: Vec<u8>,
    chunk: u64,
    ended: bool,
}

impl StreamKey {
    /// The key of a stream whose salt is random and its own. `header` stands before the stream, unsealed, and cannot be changed without notice. It is for the
    /// ring's current key.
    ///
    /// # Errors
    /// `UnknownKey` for an empty ring; when the library refuses.
    pub fn new(
        ring: &KeyRing,
        salt: &[u8; SALT_BYTES],
        purpose: &str,
        header: &[u8],
    ) -> Result<Self, SealError> {
        let master = ring.keys().next().ok_or(SealError::UnknownKey)?;
        Self::derive(master, salt, purpose, header)
    }

    fn derive(
        master: &[u8],
        salt: &[u8; SALT_BYTES],
        purpose: &str,
        header: &[u8],
    ) -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(master)
            .expand(&[b"orrery stream", purpose.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(bytes.as_mut_slice()))
            .map_err(|_| SealError::Library)?;
        let key = UnboundKey::new(&AES_256_GCM, bytes.as_slice()).map_err(|_| SealError::Library)?;
        Ok(Self { key: LessSafeKey::new(key), header: header.to_vec(), chunk: 0, ended: false })
    }

    /// Seals the next chunk in its place. Only the last may hold other than `CHUNK_BYTES`.
    ///
    /// # Errors
    /// When the stream has ended, or the library refuses.
    pub fn seal(&mut self, chunk: &mut Vec<u8>, is_last: bool) -> Result<(), SealError> {
        let nonce = self.nonce(is_last)?;
        let header = Aad::from(self.header.as_slice());
        self.key.seal_in_place_append_tag(nonce, header, chunk).map_err(|_| SealError::Library)
    }

    /// Opens the next chunk in its place.
    ///
    /// # Errors
    /// `Forged` when it was changed, is not the next one, or is not the last where it should be; when the stream has ended.
    pub fn open(&mut self, chunk: &mut Vec<u8>, is_last: bool) -> Result<(), SealError> {
        let nonce = self.nonce(is_last)?;
        let header = Aad::from(self.header.as_slice());
        let length = self.key.open_in_place(nonce, header, chunk).map_err(|_| SealError::Forged)?.len();
        chunk.truncate(length);
        Ok(())
    }

    /// The chunk's number and whether it is the last: no two chunks of a stream share one, and a stream's key is its own.
    fn nonce(&mut self, is_last: bool) -> Result<Nonce, SealError> {
        if self.ended {
            return Err(SealError::Malformed);
        }
        let mut nonce = [0; NONCE_LEN];
        if let Some(counter) = nonce.get_mut(3..11) {
            counter.copy_from_slice(&self.chunk.to_be_bytes());
        }
        if let Some(last) = nonce.last_mut() {
            *last = u8::from(is_last);
        }
        self.chunk += 1;
        self.ended = is_last;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; SALT_BYTES] = [7; SALT_BYTES];

    fn key(byte: u8) -> StreamKey {
        StreamKey::new(&KeyRing::from_bytes([[byte; 32]]), &SALT, "test", b"header").unwrap()
    }

    fn sealed(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut key = key(1);
        let seal = |(at, chunk): (usize, &&[u8])| {
            let mut chunk = chunk.to_vec();
            key.seal(&mut chunk, at + 1 == chunks.len()).unwrap();
            chunk
        };
        chunks.iter().enumerate().map(seal).collect()
    }

    fn opened(mut key: StreamKey, chunks: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, SealError> {
        let open = |(at, chunk): (usize, &Vec<u8>)| {
            let mut chunk = chunk.clone();
            key.open(&mut chunk, at + 1 == chunks.len()).map(|()| chunk)
        };
        chunks.iter().enumerate().map(open).collect()
    }

    #[test]
    fn a_stream_opens_whole_and_in_order_only() {
        let chunks = sealed(&[b"one", b"two", b"three"]);
        assert_eq!(opened(key(1), &chunks).unwrap(), [&b"one"[..], b"two", b"three"]);
        let cut = &chunks[..2];
        let swapped = [chunks[1].clone(), chunks[0].clone(), chunks[2].clone()];
        let twice = [chunks[0].clone(), chunks[0].clone(), chunks[2].clone()];
        let mut changed = chunks.clone();
        changed[1][0] ^= 1;
        for bad in [cut, &swapped, &twice, &changed] {
            assert_eq!(opened(key(1), bad), Err(SealError::Forged));
        }
        assert_eq!(opened(key(2), &chunks), Err(SealError::Forged));
        let ring = KeyRing::from_bytes([[1; 32]]);
        for other in [
            StreamKey::new(&ring, &SALT, "test", b"another header"),
            StreamKey::new(&ring, &SALT, "another purpose", b"header"),
            StreamKey::new(&ring, &[8; SALT_BYTES], "test", b"header"),
        ] {
            assert_eq!(opened(other.unwrap(), &chunks), Err(SealError::Forged));
        }
    }

    #[test]
    fn nothing_comes_after_the_end() {
        let mut key = key(1);
        key.seal(&mut b"last".to_vec(), true).unwrap();
        assert_eq!(key.seal(&mut b"more".to_vec(), true), Err(SealError::Malformed));
    }
}
