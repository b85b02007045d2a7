//! Sealing of small secrets (addresses, signing keys, answers) and keyed look-up hashes. Every ciphertext names its key, so keys
//! can rotate. Password hashing does not live here.

pub mod stream;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest, hkdf, hmac,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use orrery_config::keys::KeyRing;
use zeroize::Zeroizing;

/// A ciphertext could not be opened, or a key not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The text has not the shape `v1.<key>.<base64>`.
    #[error("not a sealed text")]
    Malformed,
    /// No key of the ring sealed it.
    #[error("sealed under a key that is not in the configuration: add it to the previous keys")]
    UnknownKey,
    /// Changed, or sealed for another purpose or owner.
    #[error("the sealed text was changed or belongs elsewhere")]
    Forged,
    /// The cryptographic library refused.
    #[error("the cryptographic library refused a key")]
    Library,
}

/// Whether a text looks sealed; whether it can be opened only its key tells.
pub fn is_sealed(text: &str) -> bool {
    text.starts_with("v1.")
}

struct Key {
    id: String,
    aead: RandomizedNonceKey,
    mac: hmac::Key,
}

/// Seals for one purpose, under keys derived (HKDF-SHA-256) from a ring of 32-byte keys; the first seals, all open.
pub struct Sealer {
    keys: Vec<Key>,
}

impl Sealer {
    /// Derives the purpose's keys.
    ///
    /// # Errors
    /// When the library refuses, which no valid ring brings about.
    pub fn new(ring: &KeyRing, purpose: &str) -> Result<Self, SealError> {
        let keys = ring.keys().map(|master| Key::derive(master, purpose)).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    /// Seals `plain` for `owner` (AES-256-GCM, random nonce): `v1.<key id>.<base64 of nonce and ciphertext>`.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn seal(&self, plain: &[u8], owner: &str) -> Result<String, SealError> {
        let key = self.keys.first().ok_or(SealError::UnknownKey)?;
        let mut buffer = plain.to_vec();
        let nonce = key
            .aead
            .seal_in_place_append_tag(Aad::from(owner.as_bytes()), &mut buffer)
            .map_err(|_| SealError::Library)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut buffer);
        Ok(format!("v1.{}.{}", key.id, BASE64.encode(sealed)))
    }

    /// Opens what `seal` made for the same owner.
    ///
    /// # Errors
    /// When the text is malformed, of an unknown key, changed, or another owner's.
    pub fn open(&self, sealed: &str, owner: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let mut parts = sealed.split('.');
        let (Some("v1"), Some(id), Some(text), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(SealError::Malformed);
        };
        let key = self.keys.iter().find(|key| key.id == id).ok_or(SealError::UnknownKey)?;
        let mut bytes = BASE64.decode(text).map_err(|_| SealError::Malformed)?;
        if bytes.len() < NONCE_LEN {
            return Err(SealError::Malformed);
        }
        let mut ciphertext = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).map_err(|_| SealError::Malformed)?;
        let plain = key
            .aead
            .open_in_place(nonce, Aad::from(owner.as_bytes()), &mut ciphertext)
            .map_err(|_| SealError::Forged)?
            .len();
        ciphertext.truncate(plain);
        Ok(Zeroizing::new(ciphertext))
    }

    /// HMAC-SHA-256 under the current key: for look-ups and for deriving one secret from another.
    ///
    /// # Errors
    /// When the ring is empty.
    pub fn mac(&self, text: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.keys.first().ok_or(SealError::UnknownKey)?;
        Ok(hmac::sign(&key.mac, text).as_ref().to_vec())
    }

    /// The HMAC under every key, current first: a row may have been written under an older one.
    pub fn macs(&self, text: &[u8]) -> Vec<Vec<u8>> {
        self.keys.iter().map(|key| hmac::sign(&key.mac, text).as_ref().to_vec()).collect()
    }
}

impl Key {
    fn derive(master: &[u8], purpose: &str) -> Result<Self, SealError> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"orrery").extract(master);
        let expand = |use_: &str| -> Result<Zeroizing<[u8; 32]>, SealError> {
            let mut okm = Zeroizing::new([0; 32]);
            prk.expand(&[purpose.as_bytes(), b"/", use_.as_bytes()], hkdf::HKDF_SHA256)
                .and_then(|okm_| okm_.fill(okm.as_mut_slice()))
                .map_err(|_| SealError::Library)?;
            Ok(okm)
        };
        let id = digest::digest(&digest::SHA256, master);
        Ok(Self {
            id: hex::encode(id.as_ref().get(..4).unwrap_or_default()),
            aead: RandomizedNonceKey::new(&AES_256_GCM, expand("aead")?.as_slice())
                .map_err(|_| SealError::Library)?,
            mac: hmac::Key::new(hmac::HMAC_SHA256, expand("mac")?.as_slice()),
        })
    }
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[u8]) -> KeyRing {
        KeyRing::from_bytes(keys.iter().map(|byte| [*byte; 32]))
    }

    #[test]
    fn what_is_sealed_opens_for_its_owner_only() {
        let sealer = Sealer::new(&ring(&[1]), "email").unwrap();
        let sealed = sealer.seal(b"a@b.c", "owner").unwrap();
        assert_eq!(sealer.open(&sealed, "owner").unwrap().as_slice(), b"a@b.c");
        assert_eq!(sealer.open(&sealed, "other").unwrap_err(), SealError::Forged);
        let other = Sealer::new(&ring(&[1]), "totp").unwrap();
        assert_eq!(other.open(&sealed, "owner").unwrap_err(), SealError::Forged);
    }

    #[test]
    fn an_old_key_still_opens_after_rotation() {
        let sealed = Sealer::new(&ring(&[1]), "email").unwrap().seal(b"x", "o").unwrap();
        assert!(Sealer::new(&ring(&[2, 1]), "email").unwrap().open(&sealed, "o").is_ok());
        assert_eq!(
            Sealer::new(&ring(&[2]), "email").unwrap().open(&sealed, "o").unwrap_err(),
            SealError::UnknownKey
        );
    }

    #[test]
    fn hostile_ciphertexts_are_errors() {
        let sealer = Sealer::new(&ring(&[1]), "email").unwrap();
        let sealed = sealer.seal(b"x", "o").unwrap();
        let key = sealed.split('.').nth(1).unwrap();
        for text in [
            "",
            "v1",
            "v1..",
            "v2.a.b",
            &format!("v1.{key}."),
            &format!("v1.{key}.AAAA"),
            &format!("{sealed}.x"),
        ] {
            assert!(sealer.open(text, "o").is_err(), "{text}");
        }
    }
}
