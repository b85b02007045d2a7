//! TCP ports on 127.0.0.1 that no other test takes: outside the range of outgoing connections, and held by a lock file
//! for as long as the [`Port`] lives, since a port that is only tried and let go may be taken before it is used.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, bail};

use crate::fresh;

const FIRST: u16 = 12_000;
/// Ports from 32768 on are what Linux gives to outgoing connections.
const COUNT: u16 = 20_000;

/// A port that is this test's alone until it is dropped; nothing listens on it yet.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Closing it lets go of the lock.
    _lock: File,
}

impl Port {
    /// Finds a free port and locks it against the other tests on this machine.
    ///
    /// # Errors
    /// The folder of lock files cannot be written, or 200 random ports in a row are taken.
    pub fn reserve() -> Result<Self> {
        let folder = std::env::temp_dir().join("orrery-test-ports");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for _ in 0..200 {
            let (_, low, ..) = fresh::uuid().as_fields();
            let number = FIRST + low % COUNT;
            let path = folder.join(number.to_string());
            let lock = File::options()
                .create(true)
                .append(true)
                .open(&path)
                .with_context(|| format!("opening {}", path.display()))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error).context("locking a port"),
            }
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        bail!("no free port between {FIRST} and {} after 200 tries", FIRST + COUNT)
    }

    /// The address on 127.0.0.1 to listen on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}
