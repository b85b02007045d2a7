//! Argon2id (RFC 9106) with memory that is kept between hashes. Threads and queues live in `pool`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt},
};
use subtle::ConstantTimeEq;

use super::ForeignHash;
use crate::operator::NO_PASSWORD;

/// Memory, passes and lanes of new hashes, as OWASP's first choice; older hashes keep the parameters that they name.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// The most that an imported hash may cost.
const MOST_MEMORY_KIB: u32 = 256 * 1024;
const MOST_PASSES: u32 = 20;

/// Room for 33 MiB, of which only what is used becomes memory. glibc maps all that is above 32 MiB by itself and unmaps it when it is
/// freed; what is smaller it keeps for itself once such a piece was freed before (M_MMAP_THRESHOLD in mallopt(3)).
const MAPPED_BLOCKS: usize = 33 * 1024;

/// A hash could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("the password hash cannot be made or read: {0}")]
pub struct HashError(String);

fn fault(error: impl std::fmt::Display) -> HashError {
    HashError(error.to_string())
}

/// Hashes passwords; clones share their memory.
#[derive(Clone, Default)]
pub struct Hasher {
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    /// About 19 MiB each, the last used on top: one after another need one of them, and as many as hash at once are kept.
    free: Vec<Vec<Block>>,
    /// When the last hash was done.
    used: Option<Instant>,
}

/// The parts of an Argon2 hash.
struct Parsed {
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: Vec<u8>,
    expected: Vec<u8>,
}

fn parsed(phc: &str) -> Result<Parsed, HashError> {
    let hash = PasswordHash::new(phc).map_err(fault)?;
    let algorithm = hash.algorithm.as_str().parse::<Algorithm>().map_err(fault)?;
    let version = match hash.version {
        Some(version) => Version::try_from(version).map_err(fault)?,
        None => Version::V0x10,
    };
    let params = Params::try_from(&hash).map_err(fault)?;
    if params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES {
        return Err(fault("it costs more than a login may"));
    }
    let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else {
        return Err(fault("no salt or no hash"));
    };
    let (salt, expected) = (salt.as_ref().to_vec(), expected.as_ref().to_vec());
    Ok(Parsed { algorithm, version, params, salt, expected })
}

impl Hasher {
    /// A hasher without memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes `password` under `salt` to a PHC string.
    ///
    /// # Errors
    /// When the library refuses, which valid parameters never bring about.
    pub fn hash(&self, password: &[u8], salt: &[u8; 16]) -> Result<String, HashError> {
        let params =
            Params::new(MEMORY_KIB, PASSES, LANES, Some(Params::DEFAULT_OUTPUT_LEN)).map_err(fault)?;
        let output = self.digest(Algorithm::Argon2id, Version::V0x13, params.clone(), password, salt)?;
        let hash = PasswordHash {
            algorithm: Ident::new("argon2id").map_err(fault)?,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params).map_err(fault)?,
            salt: Some(Salt::new(salt).map_err(fault)?),
            hash: Some(Output::new(&output).map_err(fault)?),
        };
        Ok(hash.to_string())
    }

    /// Whether `password` is the one that `phc` was made from, in constant time.
    ///
    /// # Errors
    /// When `phc` is no hash that is known.
    pub fn verify(&self, password: &[u8], phc: &str) -> Result<bool, HashError> {
        if phc == NO_PASSWORD {
            // As long as another hash takes.
            self.hash(password, &[0; 16])?;
            return Ok(false);
        }
        if !phc.starts_with("$argon2") {
            return Ok(ForeignHash::parse(phc).map_err(fault)?.verify(password));
        }
        let Parsed { algorithm, version, params, salt, expected } = parsed(phc)?;
        let output = self.digest(algorithm, version, params, password, &salt)?;
        Ok(output.ct_eq(expected.as_slice()).into())
    }

    /// Whether an Argon2 hash is whole, and costs no more than a login may.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(phc: &str) -> Result<(), HashError> {
        parsed(phc).map(drop)
    }

    /// Whether the hash is as new ones are.
    pub fn is_current(phc: &str) -> bool {
        phc.starts_with(&format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}$"))
    }

    /// Whether there is memory that no hash is at work in.
    #[cfg(test)]
    pub fn keeps_memory(&self) -> bool {
        !self.memory().free.is_empty()
    }

    /// Gives the memory back to the system if there was no hash for `idle`.
    pub fn release(&self, idle: Duration) {
        let mut memory = self.memory();
        if memory.used.is_some_and(|used| used.elapsed() >= idle) {
            memory.free.clear();
        }
    }

    fn digest(
        &self,
        algorithm: Algorithm,
        version: Version,
        params: Params,
        password: &[u8],
        salt: &[u8],
    ) -> Result<Vec<u8>, HashError> {
        let blocks = params.block_count();
        let mut output = vec![0; params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
        let kept = self.memory().free.pop();
        let mut memory = kept.unwrap_or_else(|| Vec::with_capacity(MAPPED_BLOCKS));
        if memory.len() < blocks {
            memory.resize(blocks, Block::new());
        }
        let hashed = Argon2::new(algorithm, version, params).hash_password_into_with_memory(
            password,
            salt,
            &mut output,
            memory.get_mut(..blocks).unwrap_or_default(),
        );
        let mut kept = self.memory();
        kept.free.push(memory);
        kept.used = Some(Instant::now());
        drop(kept);
        hashed.map_err(fault)?;
        Ok(output)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_verifies_against_its_own_hash_only() {
        let hasher = Hasher::new();
        let phc = hasher.hash(b"correct horse", &[7; 16]).unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(hasher.verify(b"correct horse", &phc).unwrap());
        assert!(!hasher.verify(b"correct hors", &phc).unwrap());
    }

    #[test]
    fn memory_is_kept_between_hashes_and_given_back_when_there_are_none() {
        let hasher = Hasher::new();
        for _ in 0..3 {
            hasher.hash(b"correct horse", &[7; 16]).unwrap();
            hasher.release(Duration::from_secs(3600));
            assert_eq!(hasher.memory().free.len(), 1);
        }
        hasher.release(Duration::ZERO);
        assert!(!hasher.keeps_memory());
        hasher.hash(b"correct horse", &[7; 16]).unwrap();
    }

    #[test]
    fn a_foreign_hash_is_an_error() {
        let hasher = Hasher::new();
        assert!(hasher.verify(b"x", "$2b$12$abcdefghijklmnopqrstuv").is_err());
        assert!(hasher.verify(b"x", "$argon2id$v=19$m=4000000,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g").is_err());
        assert!(hasher.verify(b"x", "").is_err());
    }
}
