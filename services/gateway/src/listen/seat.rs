//! A connection as requests see it: who is at its other end, how many requests it has at work. How its bytes travel lives in `wire`.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    rc::Rc,
};

use tokio::{sync::Notify, time::Instant};

use super::network::{Network, Place};

/// One connection.
#[derive(Debug)]
pub struct Seat {
    /// Who connected, or for whom a trusted proxy did.
    pub peer: Peer,
    /// Whether it came by TLS to us.
    pub tls: bool,
    requests: Cell<usize>,
    idle_since: Cell<Instant>,
    may_mislead: Cell<bool>,
    has_left: Cell<bool>,
    leaves: Notify,
    _place: RefCell<Option<Place>>,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address; none behind a Unix socket whose proxy does not tell.
    pub address: Option<IpAddr>,
    /// The network that limits go by.
    pub network: Network,
    /// Whether its forwarding headers are believed.
    pub trusted: bool,
}

/// The mark that a request of this connection is being served.
#[derive(Debug)]
pub struct Busy(Rc<Seat>);

impl Seat {
    /// A new connection with its place among those of its network.
    pub fn new(peer: Peer, tls: bool, place: Option<Place>) -> Self {
        Self {
            peer,
            tls,
            requests: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            may_mislead: Cell::new(false),
            has_left: Cell::new(false),
            leaves: Notify::new(),
            _place: RefCell::new(place),
        }
    }

    /// How many requests are at work.
    pub fn requests(&self) -> usize {
        self.requests.get()
    }

    /// Whether a body on it could be taken for the parser's last answer.
    pub fn may_mislead(&self) -> bool {
        self.may_mislead.get()
    }

    /// Says that the client closed the connection, or its half of it.
    pub fn leave(&self) {
        self.has_left.set(true);
        self.leaves.notify_waiters();
    }

    /// Returns when the client has closed the connection, or its half of it.
    pub async fn left(&self) {
        let mut leaves = std::pin::pin!(self.leaves.notified());
        leaves.as_mut().enable();
        if !self.has_left.get() {
            leaves.await;
        }
    }

    /// Since when none is.
    pub fn idle_since(&self) -> Instant {
        self.idle_since.get()
    }
}

impl Busy {
    /// Marks the connection for as long as the mark lives.
    pub fn new(seat: &Rc<Seat>) -> Self {
        seat.requests.set(seat.requests.get() + 1);
        Self(Rc::clone(seat))
    }
}

impl Busy {
    /// Looks at a chunk of an answer's body: one that ends as a head does could be taken for the parser's last answer.
    pub fn look_at(&self, chunk: &[u8]) {
        if chunk.ends_with(b"\r\n\r\n") {
            self.0.may_mislead.set(true);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
    }
}
