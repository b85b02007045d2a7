//! Channels with confirms to publish on, from a pool for each connection, and what the broker says of these connections.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, RecycleError, RecycleResult},
};
use futures_util::StreamExt;
use lapin::{
    Channel, Connection, ConnectionStatus, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tracing::{info, warn};

use super::{
    BusError,
    connection::{FRAME_MAX_BYTES, Opener, within},
    patience::{LOOK, Patience},
};

/// Channels of one pool, all on one connection.
const CHANNELS: usize = 8;

/// Every pool of a bus.
#[derive(Clone)]
pub(super) struct Channels {
    opener: Opener,
    pools: Arc<Mutex<HashMap<String, managed::Pool<Manager>>>>,
    links: Links,
}

/// The connections that are published on.
#[derive(Clone, Default)]
struct Links(Arc<Mutex<Vec<Link>>>);

/// What the broker says of a connection that is published on.
#[derive(Clone)]
pub(super) struct Link {
    status: ConnectionStatus,
    /// Its words.
    reason: Arc<Mutex<String>>,
}

/// Opens channels on a connection of that name, which is opened anew once it is lost.
struct Manager {
    name: String,
    opener: Opener,
    links: Links,
    connection: tokio::sync::Mutex<Option<(Arc<Connection>, Link)>>,
}

/// A channel with confirms.
struct Confirming {
    channel: Channel,
    /// It ends with the last channel.
    _connection: Arc<Connection>,
    link: Link,
}

/// A channel that is somebody's alone. It goes back to its pool once it is known to have nothing under way; dropped before, it is closed.
pub(super) struct Taken(Option<Object<Manager>>);

impl Link {
    /// Whether the broker takes nothing on it.
    pub fn is_blocked(&self) -> bool {
        self.status.connected() && self.status.blocked()
    }

    pub fn status(&self) -> &ConnectionStatus {
        &self.status
    }

    fn reason(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits so long for the broker; the time in which it takes nothing does not count, as far as there is patience.
    pub async fn patiently<T>(
        &self,
        limit: Duration,
        patience: &Patience,
        work: impl Future<Output = T>,
    ) -> Result<T, BusError> {
        let (mut work, mut left) = (pin!(work), limit);
        loop {
            let began = Instant::now();
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = tokio::time::sleep(LOOK.min(left)) => {}
            }
            if self.is_blocked() && patience.is_left() {
                left = limit;
                continue;
            }
            left = left.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(if self.is_blocked() {
                    BusError::Blocked(self.reason())
                } else {
                    BusError::Timeout(limit)
                });
            }
        }
    }
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, Vec<Link>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to what the broker says of a connection, until that ends.
    fn watch(&self, name: &str, connection: &Connection) -> Link {
        let link = Link { status: connection.status().clone(), reason: Arc::default() };
        let mut links = self.lock();
        links.retain(|link| link.status.connected());
        links.push(link.clone());
        drop(links);
        let (mut events, reason, name) =
            (Box::pin(connection.events_listener()), Arc::clone(&link.reason), name.to_owned());
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(words) => {
                        warn!(
                            name,
                            reason = words,
                            "the broker takes no messages: what is to be published waits"
                        );
                        *reason.lock().unwrap_or_else(PoisonError::into_inner) = words;
                    }
                    Event::ConnectionUnblocked => info!(name, "the broker takes messages again"),
                    // Whoever publishes hears of it, and nothing is lost but this listener.
                    Event::Error(_) => return,
                    _ => {}
                }
            }
        });
        link
    }
}

impl managed::Manager for Manager {
    type Type = Confirming;
    type Error = BusError;

    async fn create(&self) -> Result<Confirming, BusError> {
        let mut current = self.connection.lock().await;
        let (connection, link) = match current.take().filter(|(_, link)| link.status.connected()) {
            Some(open) => open,
            None => {
                let connection = self.opener.open(&self.name, FRAME_MAX_BYTES).await?;
                let link = self.links.watch(&self.name, &connection);
                (Arc::new(connection), link)
            }
        };
        *current = Some((Arc::clone(&connection), link.clone()));
        drop(current);
        let open = async {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        let channel = within(self.opener.timeout(), open).await?;
        Ok(Confirming { channel, _connection: connection, link })
    }

    async fn recycle(&self, confirming: &mut Confirming, _: &Metrics) -> RecycleResult<BusError> {
        if confirming.link.status.connected() && confirming.channel.status().connected() {
            Ok(())
        } else {
            Err(RecycleError::message("it is closed"))
        }
    }
}

impl Taken {
    /// The channel, and what the broker says of its connection.
    pub fn get(&self) -> Result<(&Channel, &Link), BusError> {
        let confirming = self.0.as_ref().ok_or_else(|| BusError::Channels("it was given back".to_owned()))?;
        Ok((&confirming.channel, &confirming.link))
    }

    /// Gives it back: nothing is under way on it.
    pub fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

impl Channels {
    pub fn new(opener: Opener) -> Self {
        Self { opener, pools: Arc::default(), links: Links::default() }
    }

    /// Why the broker takes nothing, while it does not.
    pub fn blocked(&self) -> Option<String> {
        self.links.lock().iter().find(|link| link.is_blocked()).map(Link::reason)
    }

    /// The pool of that name.
    fn pool(&self, name: &str) -> Result<managed::Pool<Manager>, BusError> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pools.get(name) {
            return Ok(pool.clone());
        }
        let manager = Manager {
            name: name.to_owned(),
            opener: self.opener.clone(),
            links: self.links.clone(),
            connection: tokio::sync::Mutex::default(),
        };
        let limit = self.opener.timeout();
        let pool = managed::Pool::builder(manager)
            .max_size(CHANNELS)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(limit))
            .create_timeout(Some(limit * 2))
            .recycle_timeout(Some(limit))
            .build()
            .map_err(|error| BusError::Channels(error.to_string()))?;
        pools.insert(name.to_owned(), pool.clone());
        Ok(pool)
    }

    /// A channel of the pool of that name, whose connection the broker knows by it.
    pub async fn take(&self, name: &str, patience: &Patience) -> Result<Taken, BusError> {
        // A blocked connection opens no channel.
        while let Some(reason) = self.blocked() {
            if !patience.is_left() {
                return Err(BusError::Blocked(reason));
            }
            tokio::time::sleep(LOOK).await;
        }
        match self.pool(name)?.get().await {
            Ok(object) => Ok(Taken(Some(object))),
            Err(managed::PoolError::Backend(error)) => Err(error),
            Err(error) => Err(BusError::Channels(error.to_string())),
        }
    }

    /// Closes the connection of that name once its channels are given back.
    pub fn forget(&self, name: &str) {
        if let Some(pool) = self.pools.lock().unwrap_or_else(PoisonError::into_inner).remove(name) {
            pool.close();
        }
    }
}

/// Mandatory: an unroutable message published without it is confirmed and gone.
pub(super) fn mandatory() -> BasicPublishOptions {
    BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() }
}
