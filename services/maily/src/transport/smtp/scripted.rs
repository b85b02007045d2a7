//! An SMTP server whose every answer a test decides.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufStream},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What a test's script is asked about in place of a command: a new connection, and the end of a message.
pub(super) const GREETING: &str = "(greeting)";
pub(super) const MESSAGE: &str = "(message)";

/// What the server does about a line.
pub(super) enum Action {
    Say(&'static str),
    SayAndClose(&'static str),
    /// The same in any encoding; a line end is added, or not.
    SayBytes(&'static [u8]),
    SayRawAndClose(&'static [u8]),
    SayRawAndFreeze(&'static [u8]),
    Close,
    /// Keeps the connection open, reads nothing and says nothing any more.
    Freeze,
}

enum Then {
    Listen,
    Close,
    Freeze,
}

/// A listening server; it ends with its value.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<(usize, String)>>>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Starts a server that does what `script` says, asked with the number of the connection (from 0) and the line.
    pub(super) async fn start(script: impl Fn(usize, &str) -> Action + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                connections.spawn(async move {
                    // An error is a client that left.
                    drop(talk(stream, number, &*script, &log).await);
                });
            }
        });
        Self { address, seen, task }
    }

    /// The commands seen so far that begin with `verb`, with the numbers of their connections.
    pub(super) fn seen(&self, verb: &str) -> Vec<usize> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(_, line)| line.starts_with(verb)).map(|(connection, _)| *connection).collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answers of a server that is well.
pub(super) fn healthy(line: &str) -> Action {
    Action::Say(match line.split([' ', ':']).next().unwrap_or(line) {
        GREETING => "220 here",
        "EHLO" => "250-here\r\n250-AUTH PLAIN\r\n250 8BITMIME",
        "AUTH" => "235 2.7.0 welcome",
        "DATA" => "354 go on",
        "QUIT" => "221 bye",
        _ => "250 2.0.0 fine",
    })
}

async fn talk(
    stream: TcpStream,
    number: usize,
    script: &(impl Fn(usize, &str) -> Action + ?Sized),
    log: &Mutex<Vec<(usize, String)>>,
) -> std::io::Result<()> {
    let mut stream = BufStream::new(stream);
    let mut line = GREETING.to_owned();
    loop {
        log.lock().unwrap().push((number, line.clone()));
        let (answer, end, then) = match script(number, &line) {
            Action::Say(answer) => (answer.as_bytes(), "\r\n", Then::Listen),
            Action::SayBytes(answer) => {
                (answer, if answer.ends_with(b"\r") { "" } else { "\r\n" }, Then::Listen)
            }
            Action::SayAndClose(answer) => (answer.as_bytes(), "\r\n", Then::Close),
            Action::SayRawAndClose(answer) => (answer, "", Then::Close),
            Action::SayRawAndFreeze(answer) => (answer, "", Then::Freeze),
            Action::Close => return Ok(()),
            Action::Freeze => std::future::pending().await,
        };
        stream.write_all(&[answer, end.as_bytes()].concat()).await?;
        stream.flush().await?;
        match then {
            Then::Listen => {}
            Then::Close => return Ok(()),
            Then::Freeze => std::future::pending().await,
        }
        let in_message = answer.starts_with(b"354");
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if !in_message || line == ".\r\n" {
                break;
            }
        }
        line = if in_message { MESSAGE.to_owned() } else { line.trim_end().to_owned() };
    }
}
