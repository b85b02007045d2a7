//! Whether a replica is ready, asked of itself; without a path to ask by, whether it takes connections.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    endpoint::Endpoint,
    link::{Tls, connect},
};

/// How long one replica may take in all. Each has a time of its own: one that hangs makes nobody else wait.
const LIMIT: Duration = Duration::from_millis(800);
/// How much of an answer is read: its status line.
const STATUS_BYTES: usize = 12;

/// Asks one replica.
pub async fn probe(endpoint: &Endpoint, path: Option<&str>, tls: Option<&Tls>) -> bool {
    timeout(LIMIT, ask(endpoint, path, tls)).await.unwrap_or(false)
}

async fn ask(endpoint: &Endpoint, path: Option<&str>, tls: Option<&Tls>) -> bool {
    let Ok(mut link) = connect(endpoint, tls, LIMIT).await else { return false };
    let Some(path) = path else { return true };
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: orrery-gateway\r\nconnection: close\r\n\r\n",
        endpoint.authority
    );
    if link.write_all(request.as_bytes()).await.is_err() || link.flush().await.is_err() {
        return false;
    }
    let mut status = [0; STATUS_BYTES];
    link.read_exact(&mut status).await.is_ok()
        && status.starts_with(b"HTTP/1.")
        && status.get(9) == Some(&b'2')
}
