//! One proxied connection: two pumps that stop at a gate. Who opens and closes the gate is in `proxy`.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

/// Bytes moved at once, and so held back per direction.
const BUFFER_BYTES: usize = 32 * 1024;

/// What may pass now, for all connections of a proxy.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Client to server is held.
    requests_held: bool,
    /// Server to client is held.
    answers_held: bool,
    pattern: Option<Arc<[u8]>>,
    triggered: bool,
}

impl Gate {
    pub(super) fn hold(&mut self, requests: bool, answers: bool) {
        self.requests_held = requests;
        self.answers_held = answers;
    }

    pub(super) fn arm(&mut self, pattern: &[u8]) {
        self.pattern = (!pattern.is_empty()).then(|| Arc::from(pattern));
        self.triggered = false;
    }

    pub(super) fn disarm(&mut self) {
        self.pattern = None;
    }

    pub(super) fn triggered(&self) -> bool {
        self.triggered
    }

    fn trigger(&mut self) {
        self.answers_held = true;
        self.triggered = true;
        self.pattern = None;
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Requests,
    Answers,
}

/// Moves bytes both ways until both sides have ended or one has failed.
pub(super) async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    gate: &watch::Sender<Gate>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        pump(from_client, to_server, gate, Direction::Requests),
        pump(from_server, to_client, gate, Direction::Answers),
    )?;
    Ok(())
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    gate: &watch::Sender<Gate>,
    direction: Direction,
) -> io::Result<()> {
    let mut passage = gate.subscribe();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut scan = Scan::default();
    loop {
        let count = from.read(&mut buffer).await?;
        let bytes = buffer.get(..count).unwrap_or_default();
        // Held bytes pass this point only when the gate opens; the end of a stream waits like any other byte.
        passage
            .wait_for(|gate| match direction {
                Direction::Requests => !gate.requests_held,
                Direction::Answers => !gate.answers_held,
            })
            .await
            .map_err(io::Error::other)?;
        if count == 0 {
            return to.shutdown().await;
        }
        if matches!(direction, Direction::Requests) {
            // Before the bytes go on, so that the answer cannot be faster than the gate.
            gate.send_if_modified(|gate| scan.look(gate, bytes));
        }
        to.write_all(bytes).await?;
    }
}

/// Finds a pattern that arrives in pieces.
#[derive(Default)]
struct Scan {
    tail: Vec<u8>,
}

impl Scan {
    /// Looks for the armed pattern at the seam of what came before and in `bytes`; says whether the gate changed.
    fn look(&mut self, gate: &mut Gate, bytes: &[u8]) -> bool {
        let Some(pattern) = gate.pattern.clone() else {
            self.tail.clear();
            return false;
        };
        self.tail.extend_from_slice(bytes);
        let found = self.tail.windows(pattern.len()).any(|window| window == &*pattern);
        if found {
            gate.trigger();
            self.tail.clear();
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(pattern.len() - 1));
        }
        found
    }
}
