//! Mails through servers that others wrote: Debian's postfix and maildev. They need what `tests/maily/install` installs and postfix needs root, so they run by
//! name: `./dev test maily`.

mod kills;
mod maildev;
mod postfix;
mod read_back;
mod servers;
