//! Programs of this machine that tests stand beside.

use std::path::{Path, PathBuf};

/// Where a program is: on PATH, or among those that Debian keeps from a user's PATH. None where the machine has none.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([Path::new("/usr/sbin").to_owned()]);
    folders.map(|folder| folder.join(name)).find(|file| file.exists())
}
