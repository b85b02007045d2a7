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
///
/// # Errors
/// Why it is not ready.
pub async fn probe(endpoint: &Endpoint, path: Option<&str>, tls: Option<&Tls>) -> Result<(), String> {
    let asked = timeout(LIMIT, ask(endpoint, path, tls)).await;
    asked.unwrap_or_else(|_| Err(format!("it does not answer within {LIMIT:?}")))
}

async fn ask(endpoint: &Endpoint, path: Option<&str>, tls: Option<&Tls>) -> Result<(), String> {
    let mut link = connect(endpoint, tls, LIMIT).await.map_err(|error| error.to_string())?;
    let Some(path) = path else { return Ok(()) };
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: orrery-gateway\r\nconnection: close\r\n\r\n",
        endpoint.authority
    );
    let mut status = [0; STATUS_BYTES];
    let answered = async {
        link.write_all(request.as_bytes()).await?;
        link.flush().await?;
        link.read_exact(&mut status).await
    };
    answered.await.map_err(|error| format!("it ends the connection: {error}"))?;
    match status.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..)) {
        Some([b'2', ..]) => Ok(()),
        Some(code) => Err(format!("{path} answers {}", String::from_utf8_lossy(code))),
        None => Err("it does not speak HTTP/1.1".to_owned()),
    }
}
