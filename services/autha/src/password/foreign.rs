//! Password hashes that other systems made: verified at login, and upgraded there. Argon2id of our own lives in `hash`.
//!
//! They are kept as text: PHC strings (`$argon2...`, `$scrypt$`, `$pbkdf2-...$`), bcrypt's own form (`$2b$...`), and for Firebase's scrypt
//! `$firebase-scrypt$r=..,m=..,s=<separator>,k=<signer key>$<salt>$<hash>`, base64 throughout.

use std::num::NonZeroU32;

use aws_lc_rs::{
    cipher::{AES_256, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey},
    pbkdf2,
};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use subtle::ConstantTimeEq;

/// The most that a foreign hash may cost: work beyond it would let an imported row hold a thread for minutes.
const MOST_BCRYPT: u32 = 16;
const MOST_PBKDF2: u32 = 10_000_000;
const MOST_SCRYPT_BYTES: u64 = 256 * 1024 * 1024;

/// Base64 with or without padding.
pub const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A hash that is not Argon2's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForeignHash {
    /// bcrypt, of any version (`$2a$`, `$2b$`, `$2x$`, `$2y$`).
    Bcrypt(String),
    /// PBKDF2 with HMAC.
    Pbkdf2 {
        /// The digest.
        digest: Pbkdf2Digest,
        /// Iterations.
        iterations: u32,
        /// The salt.
        salt: Vec<u8>,
        /// The derived key.
        hash: Vec<u8>,
    },
    /// scrypt (RFC 7914).
    Scrypt {
        /// The base-2 logarithm of N.
        log_n: u8,
        /// Block size.
        r: u32,
        /// Parallelism.
        p: u32,
        /// The salt.
        salt: Vec<u8>,
        /// The derived key.
        hash: Vec<u8>,
    },
    /// Firebase's scrypt: the derived key encrypts the project's signer key.
    Firebase {
        /// The base-2 logarithm of N.
        memory_cost: u8,
        /// Block size.
        rounds: u32,
        /// The project's salt separator.
        separator: Vec<u8>,
        /// The project's signer key.
        signer_key: Vec<u8>,
        /// The salt.
        salt: Vec<u8>,
        /// The encrypted signer key.
        hash: Vec<u8>,
    },
}

/// A digest of PBKDF2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pbkdf2Digest {
    /// HMAC-SHA-1.
    Sha1,
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
}

/// A foreign hash cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// No kind that is known.
    #[error("the hash is of no kind that is known: bcrypt, scrypt, PBKDF2, Argon2, Firebase's scrypt")]
    Unknown,
    /// A known kind, and not whole.
    #[error("the hash is damaged: {0} is missing or wrong")]
    Damaged(&'static str),
    /// It would cost too much.
    #[error("the hash costs more than a login may: {0}")]
    TooCostly(&'static str),
}

impl Pbkdf2Digest {
    const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "pbkdf2-sha1",
            Self::Sha256 => "pbkdf2-sha256",
            Self::Sha512 => "pbkdf2-sha512",
        }
    }

    const fn algorithm(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

impl ForeignHash {
    /// Reads the text that is kept.
    ///
    /// # Errors
    /// When it is of no known kind, damaged, or too costly.
    pub fn parse(text: &str) -> Result<Self, ForeignError> {
        let hash = if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|start| text.starts_with(start)) {
            Self::parse_bcrypt(text)?
        } else {
            Self::parse_phc(text)?
        };
        hash.check_cost()?;
        Ok(hash)
    }

    fn parse_bcrypt(text: &str) -> Result<Self, ForeignError> {
        let parts: bcrypt::HashParts =
            text.parse().map_err(|_| ForeignError::Damaged("a part of bcrypt's text"))?;
        if parts.get_cost() > MOST_BCRYPT {
            return Err(ForeignError::TooCostly("bcrypt with a cost above 16"));
        }
        Ok(Self::Bcrypt(text.to_owned()))
    }

    fn parse_phc(text: &str) -> Result<Self, ForeignError> {
        let mut parts = text.split('$').skip(1);
        let kind = parts.next().ok_or(ForeignError::Unknown)?;
        let parameters = parts.next().ok_or(ForeignError::Damaged("its parameters"))?;
        let mut bytes = |what| {
            let text: &str = parts.next().ok_or(ForeignError::Damaged(what))?;
            BASE64.decode(text).map_err(|_| ForeignError::Damaged(what))
        };
        let (salt, hash) = (bytes("its salt")?, bytes("its hash")?);
        if hash.len() < 16 {
            return Err(ForeignError::Damaged("its hash"));
        }
        let parameter = |name: &str| {
            parameters.split(',').find_map(|parameter| parameter.strip_prefix(name)?.strip_prefix('='))
        };
        fn number<T: std::str::FromStr>(text: Option<&str>, what: &'static str) -> Result<T, ForeignError> {
            text.and_then(|text| text.parse().ok()).ok_or(ForeignError::Damaged(what))
        }
        let digest = match kind {
            "pbkdf2" | "pbkdf2-sha1" => Some(Pbkdf2Digest::Sha1),
            "pbkdf2-sha256" => Some(Pbkdf2Digest::Sha256),
            "pbkdf2-sha512" => Some(Pbkdf2Digest::Sha512),
            _ => None,
        };
        match (kind, digest) {
            (_, Some(digest)) => {
                Ok(Self::Pbkdf2 { digest, iterations: number(parameter("i"), "its iterations")?, salt, hash })
            }
            ("scrypt", _) => Ok(Self::Scrypt {
                log_n: number(parameter("ln"), "its cost")?,
                r: number(parameter("r"), "its block size")?,
                p: number(parameter("p"), "its parallelism")?,
                salt,
                hash,
            }),
            ("firebase-scrypt", _) => {
                let bytes = |name, what| {
                    let text = parameter(name).ok_or(ForeignError::Damaged(what))?;
                    BASE64.decode(text).map_err(|_| ForeignError::Damaged(what))
                };
                Ok(Self::Firebase {
                    memory_cost: number(parameter("m"), "its memory cost")?,
                    rounds: number(parameter("r"), "its rounds")?,
                    separator: bytes("s", "its salt separator")?,
                    signer_key: bytes("k", "its signer key")?,
                    salt,
                    hash,
                })
            }
            _ => Err(ForeignError::Unknown),
        }
    }

    fn check_cost(&self) -> Result<(), ForeignError> {
        match self {
            Self::Bcrypt(_) => Ok(()),
            Self::Pbkdf2 { iterations, .. } if *iterations == 0 => {
                Err(ForeignError::Damaged("its iterations"))
            }
            Self::Pbkdf2 { iterations, .. } if *iterations > MOST_PBKDF2 => {
                Err(ForeignError::TooCostly("PBKDF2 with more than 10,000,000 iterations"))
            }
            Self::Pbkdf2 { .. } => Ok(()),
            Self::Scrypt { log_n, r, p, .. } => scrypt_parameters(*log_n, *r, *p).map(drop),
            Self::Firebase { memory_cost, rounds, .. } => {
                scrypt_parameters(*memory_cost, *rounds, 1).map(drop)
            }
        }
    }

    /// The text that is kept.
    pub fn to_text(&self) -> String {
        let text = |bytes: &[u8]| BASE64.encode(bytes);
        match self {
            Self::Bcrypt(text) => text.clone(),
            Self::Pbkdf2 { digest, iterations, salt, hash } => {
                format!("${}$i={iterations}${}${}", digest.name(), text(salt), text(hash))
            }
            Self::Scrypt { log_n, r, p, salt, hash } => {
                format!("$scrypt$ln={log_n},r={r},p={p}${}${}", text(salt), text(hash))
            }
            Self::Firebase { memory_cost, rounds, separator, signer_key, salt, hash } => format!(
                "$firebase-scrypt$r={rounds},m={memory_cost},s={},k={}${}${}",
                text(separator),
                text(signer_key),
                text(salt),
                text(hash)
            ),
        }
    }

    /// Whether the password is the one that the hash was made from, in constant time where the hash's own library leaves that to us.
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            // What bcrypt cannot read it cuts off after 72 bytes: so did the system that made the hash.
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Self::Pbkdf2 { digest, iterations, salt, hash } => {
                NonZeroU32::new(*iterations).is_some_and(|iterations| {
                    pbkdf2::verify(digest.algorithm(), iterations, salt, password, hash).is_ok()
                })
            }
            Self::Scrypt { log_n, r, p, salt, hash } => {
                let mut derived = vec![0; hash.len()];
                scrypt_parameters(*log_n, *r, *p)
                    .is_ok_and(|parameters| scrypt::scrypt(password, salt, &parameters, &mut derived).is_ok())
                    && bool::from(derived.ct_eq(hash))
            }
            Self::Firebase { memory_cost, rounds, separator, signer_key, salt, hash } => {
                let mut derived = [0; 32];
                let salt = [salt.as_slice(), separator.as_slice()].concat();
                scrypt_parameters(*memory_cost, *rounds, 1).is_ok_and(|parameters| {
                    scrypt::scrypt(password, &salt, &parameters, &mut derived).is_ok()
                }) && encrypted(&derived, signer_key).is_some_and(|made| bool::from(made.ct_eq(hash)))
            }
        }
    }
}

fn scrypt_parameters(log_n: u8, r: u32, p: u32) -> Result<scrypt::Params, ForeignError> {
    let bytes = 128_u64
        .checked_shl(log_n.into())
        .and_then(|bytes| bytes.checked_mul(r.into()))
        .filter(|bytes| *bytes <= MOST_SCRYPT_BYTES && log_n < 32);
    if bytes.is_none() || p > 16 {
        return Err(ForeignError::TooCostly("scrypt with more than 256 MiB"));
    }
    scrypt::Params::new(log_n, r, p).map_err(|_| ForeignError::Damaged("a parameter of scrypt"))
}

/// AES-256-CTR with a counter block of zeros, as Firebase has it.
fn encrypted(key: &[u8; 32], plain: &[u8]) -> Option<Vec<u8>> {
    let key = UnboundCipherKey::new(&AES_256, key).ok()?;
    let key = EncryptingKey::ctr(key).ok()?;
    let mut buffer = plain.to_vec();
    let context = EncryptionContext::Iv128([0; 16].into());
    let _: DecryptionContext = key.less_safe_encrypt(&mut buffer, context).ok()?;
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by libcrypt, Python's hashlib, and Firebase's published example.
    fn samples() -> Vec<(&'static str, String)> {
        vec![
            ("correct horse", "$2b$05$qhbsZmlxUtdnXCxb8w7.Hu5uKoCRdixF7ZbKXJpHzkE66zCEJbYPm".to_owned()),
            ("correct horse", "$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$cBg8D2DungRB9k76szThf5ehfyBz991ay6PT8Srwk4M".to_owned()),
            ("correct horse", "$scrypt$ln=10,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$6g3umF+uVrJsObaTZhIbbTlgrvOEFcCItdwSjtPF67M".to_owned()),
            (
                "user1password",
                "$firebase-scrypt$r=8,m=14,s=Bw==,k=jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==$42xEC+ixf3L2lw==$\
                 lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
                    .to_owned(),
            ),
        ]
    }

    #[test]
    fn hashes_of_other_systems_verify() {
        for (password, text) in samples() {
            let hash = ForeignHash::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(hash.verify(password.as_bytes()), "{text}");
            assert!(!hash.verify(b"correct hors"), "{text}");
            assert_eq!(ForeignHash::parse(&hash.to_text()), Ok(hash), "{text}");
        }
    }

    #[test]
    fn hostile_hashes_are_errors() {
        for text in [
            "",
            "x",
            "$",
            "$5$x$y",
            "$2b$12$short",
            "$2b$31$abcdefghijklmnopqrstuv0123456789012345678901234567890",
            "$pbkdf2-sha256$i=0$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$pbkdf2-sha256$i=4000000000$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$pbkdf2-sha256$i=1000$c2FsdHNhbHQ$",
            "$scrypt$ln=60,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
            "$scrypt$ln=20,r=4000000000,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        ] {
            assert!(ForeignHash::parse(text).is_err(), "{text}");
        }
    }
}
