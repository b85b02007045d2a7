//! What a process shows to operators, read without a runtime when the process is about to end, so that it can be searched for secrets.
//! What its tests ask of it lives in `client`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;

/// Those pages of the internal listener for which a process asks nobody else.
const PATHS: [&str; 2] = ["/metrics", "/health/actors"];
/// The longest that one page may take: it is written from memory.
const LIMIT: Duration = Duration::from_secs(2);

/// A page as it was read last.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Whose it is: the path, and the process's log.
    pub(crate) name: String,
    /// Header and body.
    pub(crate) text: String,
}

/// The pages that answer at the internal listener of the process that writes `log`; none where nothing does.
pub(crate) fn read(internal: SocketAddr, log: &str) -> Vec<Page> {
    let pages = PATHS.iter().map_while(|path| {
        let text = get(internal, path).ok()?;
        Some(Page { name: format!("{path} of {log}"), text })
    });
    pages.collect()
}

fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    // By 1.0 the body comes in one piece.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
