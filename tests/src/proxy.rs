//! A TCP proxy that stands before a real part and can cut, pause and withhold it. It moves bytes and knows no protocol;
//! the flow of one connection is in `proxy::pump`.

mod pump;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::deadline::eventually;
use crate::ports::Port;
use pump::Gate;

/// A proxy from a port of its own to `upstream`. Dropping it closes everything.
///
/// Memory: two buffers of 32 KiB a connection; what is held beyond them waits in the sockets of its sender.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

/// What the acceptor and the connections see.
#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    gate: watch::Sender<Gate>,
    connections: Mutex<JoinSet<()>>,
    open: Arc<AtomicUsize>,
    accepted: AtomicUsize,
}

impl Proxy {
    /// Listens on a port of its own and forwards to `upstream`, which need not answer yet.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(upstream: SocketAddr) -> Result<Self> {
        let shared = Shared {
            upstream,
            gate: watch::Sender::new(Gate::default()),
            connections: Mutex::default(),
            open: Arc::default(),
            accepted: AtomicUsize::new(0),
        };
        let proxy = Self { port: Port::reserve()?, shared: Arc::new(shared), acceptor: Mutex::new(None) };
        proxy.restore().await?;
        Ok(proxy)
    }

    /// The address that clients connect to: the same for the proxy's whole life.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.address()
    }

    /// Closes the listener and every connection: new connects are refused until [`Proxy::restore`].
    pub async fn cut(&self) {
        let acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(acceptor) = acceptor {
            acceptor.abort();
            // The listener is closed once its task has ended; it ended by our abort, which is no error.
            acceptor.await.ok();
        }
        self.kill_connections().await;
    }

    /// Listens again on the same port; nothing happens where it does already.
    ///
    /// # Errors
    /// The port cannot be bound within 5 s.
    pub async fn restore(&self) -> Result<()> {
        if self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let address = self.addr();
        let what = format!("port {address} of a proxy");
        let listener =
            eventually(Duration::from_secs(5), &what, async || TcpListener::bind(address).await.ok()).await?;
        let task = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(())
    }

    /// Closes every connection now and goes on accepting new ones.
    pub async fn kill_connections(&self) {
        let mut connections =
            std::mem::take(&mut *self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner));
        connections.shutdown().await;
    }

    /// Holds the bytes of both directions, ends of streams included; connects are still accepted.
    pub fn pause(&self) {
        self.shared.gate.send_modify(|gate| gate.hold(true, true));
    }

    /// Lets both directions flow again, also after [`Proxy::withhold_answers`], and disarms a pattern.
    pub fn resume(&self) {
        self.shared.gate.send_modify(|gate| {
            gate.hold(false, false);
            gate.disarm();
        });
    }

    /// Holds what the server says while what the client says still arrives: the work is done, its answer is not seen.
    pub fn withhold_answers(&self) {
        self.shared.gate.send_modify(|gate| gate.hold(false, true));
    }

    /// The same, from the moment when any client has sent `pattern` (at most 1 KiB, on one connection) after this call.
    /// The server sees the pattern; not a byte of what it answers to it passes.
    pub fn withhold_answers_after(&self, pattern: &[u8]) {
        self.shared.gate.send_modify(|gate| gate.arm(pattern));
    }

    /// Lets through what the server has said meanwhile, to clients that still listen, and disarms a pattern.
    pub fn release_answers(&self) {
        self.resume();
    }

    /// Waits until the pattern of [`Proxy::withhold_answers_after`] was sent.
    ///
    /// # Errors
    /// It was not within `deadline`.
    pub async fn wait_triggered(&self, deadline: Duration) -> Result<()> {
        let mut gate = self.shared.gate.subscribe();
        tokio::time::timeout(deadline, gate.wait_for(Gate::triggered))
            .await
            .with_context(|| format!("waited {deadline:?} for the pattern to pass the proxy"))?
            .context("the proxy is gone")?;
        Ok(())
    }

    /// Connections open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Connections accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(acceptor) = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).take() {
            acceptor.abort();
        }
        self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// Takes connections in until it is aborted.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // An accept fails for one connection (reset, no descriptors left); the next may do.
        let Ok((client, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let open = Open::new(&shared.open);
        let gate = shared.gate.clone();
        let upstream = shared.upstream;
        let mut connections = shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let _open = open;
            // An upstream that refuses shows as a connection that closes at once, an error as one that breaks off.
            if let Ok(server) = TcpStream::connect(upstream).await {
                pump::forward(client, server, &gate).await.ok();
            }
        });
    }
}

/// Counts one open connection while it lives.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
