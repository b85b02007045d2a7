//! What a socket knows, and what all sockets of a process share.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use orrery_supervise::{Shutdown, Supervisor, clock::Clock, random::Random};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Outgoing, bucket::Bucket, delivery::Receipt};
use crate::{
    link::Link,
    name::Name,
    phoenix::Serializer,
    presence::{Presence, SocketId},
    store::Store,
};

/// What a socket may do.
#[derive(Debug, Clone)]
pub struct SocketLimits {
    /// Bytes of a frame.
    pub frame: usize,
    /// Frames a second, and at once.
    pub frames_per_second: u32,
    /// Frames at once.
    pub frame_burst: u32,
    /// Offers a minute.
    pub offers_per_minute: u32,
    /// Frames that wait.
    pub frames_capacity: usize,
    /// Bytes that wait for the client.
    pub buffer: usize,
    /// The longest silence.
    pub idle: Duration,
    /// How often it is pinged.
    pub ping: Duration,
    /// How long a receipt may take.
    pub receipt: Duration,
    /// Bytes of a message's content.
    pub message: usize,
}

/// What all sockets of a process share.
#[derive(Clone)]
pub struct Shared {
    /// Who is online.
    pub presence: Presence,
    /// What is kept.
    pub store: Store,
    /// The way to other replicas.
    pub link: Link,
    /// What a socket may do.
    pub limits: Arc<SocketLimits>,
    /// The server after the `@` of our peers.
    pub domain: Arc<str>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Keeps the actors.
    pub supervisor: Supervisor,
    /// Told when the process is asked to end, before its listeners are.
    pub stopping: Shutdown,
}

impl Shared {
    /// Tells every socket of a peer, wherever it is, that messages wait. What is not told is found by the sweep.
    pub fn wake(&self, name: Name) {
        let elsewhere = self.presence.lock().wake(&name);
        let _told = self.link.wake(&elsewhere, name);
    }
}

/// One socket. Whoever holds it keeps its place in the directory.
pub struct Socket {
    /// What it shares with the others.
    pub shared: Shared,
    /// Its place in the directory.
    pub id: SocketId,
    /// By which it holds messages.
    pub lease: Uuid,
    /// Whose it is.
    pub name: Name,
    /// When its token ends.
    pub expires_at: DateTime<Utc>,
    /// Where frames for the client go.
    pub outgoing: Outgoing,
    /// How they are written.
    pub serializer: Serializer,
    /// Rung when messages wait.
    pub wake: Arc<Notify>,
    /// What the client says that it has received.
    pub(super) receipt: Receipt,
    /// Rung when the connection is gone.
    pub(super) hung_up: Notify,
    pub(super) is_hung_up: AtomicBool,
    pub(super) is_joined: AtomicBool,
    pub(super) budgets: Mutex<Budgets>,
}

/// What is left of what a socket may do.
pub(super) struct Budgets {
    pub frames: Bucket,
    pub offers: Bucket,
}

impl Budgets {
    fn new(limits: &SocketLimits) -> Self {
        let second = Duration::from_secs(1);
        Self {
            frames: Bucket::new(limits.frame_burst, limits.frames_per_second, second),
            offers: Bucket::new(limits.offers_per_minute, limits.offers_per_minute, second * 60),
        }
    }
}

/// What a socket is made of.
pub struct Parts {
    /// Its place in the directory.
    pub id: SocketId,
    /// Whose it is.
    pub name: Name,
    /// When its token ends.
    pub expires_at: DateTime<Utc>,
    /// Where frames for the client go.
    pub outgoing: Outgoing,
    /// How they are written.
    pub serializer: Serializer,
    /// Rung when messages wait.
    pub wake: Arc<Notify>,
}

impl Socket {
    /// A socket that is in the directory already.
    pub fn new(shared: Shared, parts: Parts) -> Self {
        let Parts { id, name, expires_at, outgoing, serializer, wake } = parts;
        Self {
            id,
            lease: shared.random.uuid_v4(),
            name,
            expires_at,
            outgoing,
            serializer,
            wake,
            receipt: Receipt::default(),
            hung_up: Notify::new(),
            is_hung_up: AtomicBool::new(false),
            is_joined: AtomicBool::new(false),
            budgets: Mutex::new(Budgets::new(&shared.limits)),
            shared,
        }
    }

    /// Whether it has joined the channel.
    pub fn is_joined(&self) -> bool {
        self.is_joined.load(Ordering::Acquire)
    }

    /// The connection is gone: its actor ends.
    pub fn hang_up(&self) {
        self.is_hung_up.store(true, Ordering::Release);
        self.hung_up.notify_waiters();
    }

    /// Returns when the connection is gone.
    pub async fn gone(&self) {
        loop {
            let mut gone = std::pin::pin!(self.hung_up.notified());
            gone.as_mut().enable();
            if self.is_hung_up.load(Ordering::Acquire) {
                return;
            }
            gone.await;
        }
    }

    /// Sends what nobody asked for.
    pub fn push(&self, event: &str, payload: &serde_json::Value) {
        self.outgoing.text(&self.serializer.push(event, payload));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shared.presence.lock().close(self.id);
        self.shared.presence.changed();
        let why = self.outgoing.why_closed().map_or("gone", |close| close.told().2);
        crate::metrics::closed(why);
    }
}
