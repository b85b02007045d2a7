//! Channels to publish on, from pools, and what is published on those that all share: in batches with pipelined confirms, so that a message
//! which the broker returns is told from every other. The relay's batches live in `relay::batch`, which of them are safe in `batch` here.
//!
//! lapin hands a returned message to whichever confirm of its channel completes next: as long as another publish is under way on the channel, the
//! one that no queue took may be told as safe. So a channel is one batch's alone, and nothing in it is safe before all of it is answered for.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, RecycleError, RecycleResult},
};
use futures_util::{StreamExt, future::join_all};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionStatus, Event,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use orrery_supervise::{Progress, Shutdown};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{
    BusError,
    connection::{FRAME_MAX_BYTES, Opener, within},
    envelope::{MAX_HEADER_BYTES, header_bytes},
};

/// Channels of one pool, all on one connection.
const CHANNELS: usize = 8;
/// Batches of the shared pool that are under way at once, and how many messages make one.
const BATCHES: usize = 4;
const BATCH: usize = 256;
/// Which pool is everybody's, but for the relays': a message of the outbox for which the broker closes the connection takes nobody else with it.
const SHARED: &str = "publish";
/// How soon it is seen that the broker takes messages again.
const LOOK: Duration = Duration::from_millis(250);

/// How long somebody waits whose message is not taken.
#[derive(Clone)]
pub struct Patience(Waits);

#[derive(Clone)]
enum Waits {
    /// Who has it looks after itself.
    Always,
    Until(Progress, Shutdown),
    Never,
}

impl Patience {
    /// An actor's: as long as the broker is short of memory or disk, until the process ends. It tells the watchdog meanwhile that it waits.
    pub fn of(progress: &Progress, shutdown: &Shutdown) -> Self {
        Self(Waits::Until(progress.clone(), shutdown.clone()))
    }

    /// A command's: no longer than for any other answer.
    pub fn none() -> Self {
        Self(Waits::Never)
    }

    /// Whether to wait on; tells that this is no stall.
    pub(super) fn is_left(&self) -> bool {
        match &self.0 {
            Waits::Always => true,
            Waits::Until(progress, shutdown) => {
                progress.advance();
                !shutdown.is_requested()
            }
            Waits::Never => false,
        }
    }
}

/// Every pool of a bus.
#[derive(Clone)]
pub(super) struct Publishing {
    opener: Opener,
    pools: Arc<Mutex<HashMap<String, Channels>>>,
    links: Links,
    waiting: Arc<Mutex<Waiting>>,
}

/// What is to be published by the shared pool.
#[derive(Default)]
struct Waiting {
    messages: VecDeque<Message>,
    /// Batches that are under way.
    batches: usize,
}

/// A message, and who waits for its confirm.
struct Message {
    to: Address,
    properties: BasicProperties,
    body: Vec<u8>,
    answer: oneshot::Sender<Result<(), BusError>>,
}

/// An exchange and a routing key.
type Address = (String, String);

/// How the broker answered for a message.
enum Answer {
    /// With the address of a returned message, which is any of the batch.
    Acked(Option<Address>),
    Nacked(Option<Address>),
    Broken(lapin::Error),
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
pub(super) struct Manager {
    name: String,
    opener: Opener,
    links: Links,
    connection: tokio::sync::Mutex<Option<(Arc<Connection>, Link)>>,
}

/// The channels of one connection.
pub(super) type Channels = managed::Pool<Manager>;

/// A channel with confirms.
pub(super) struct Confirming {
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

impl Publishing {
    pub fn new(opener: Opener) -> Self {
        Self { opener, pools: Arc::default(), links: Links::default(), waiting: Arc::default() }
    }

    /// Why the broker takes nothing, while it does not.
    pub fn blocked(&self) -> Option<String> {
        self.links.lock().iter().find(|link| link.is_blocked()).map(Link::reason)
    }

    /// The pool of that name.
    fn pool(&self, name: &str) -> Result<Channels, BusError> {
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

    /// Publishes one message by the shared pool, in a batch with what others publish meanwhile.
    pub async fn publish(
        &self,
        patience: &Patience,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), BusError> {
        let bytes = properties.headers().as_ref().map_or(0, header_bytes);
        if bytes > MAX_HEADER_BYTES {
            return Err(BusError::Headers(bytes));
        }
        let (answer, mut answered) = oneshot::channel();
        let to = (exchange.to_owned(), routing_key.to_owned());
        let begins = {
            let mut waiting = self.lock();
            waiting.messages.push_back(Message { to, properties, body: body.to_vec(), answer });
            let begins = waiting.batches < BATCHES;
            waiting.batches += usize::from(begins);
            begins
        };
        if begins {
            // Not the caller's: one that is cut off takes no other's message with it. It ends with what waits.
            tokio::spawn(self.clone().batches());
        }
        loop {
            tokio::select! {
                biased;
                answer = &mut answered => {
                    return answer.unwrap_or_else(|_| Err(BusError::Channels("its batch ended".to_owned())));
                }
                () = tokio::time::sleep(LOOK) => {}
            }
            if let Some(reason) = self.blocked()
                && !patience.is_left()
            {
                return Err(BusError::Blocked(reason));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes batches until nothing waits.
    async fn batches(self) {
        loop {
            let batch: Vec<_> = {
                let mut waiting = self.lock();
                let most = waiting.messages.len().min(BATCH);
                if most == 0 {
                    waiting.batches -= 1;
                    return;
                }
                // Who gave up waiting does something else with it.
                waiting.messages.drain(..most).filter(|message| !message.answer.is_closed()).collect()
            };
            self.batch(batch).await;
        }
    }

    async fn batch(&self, batch: Vec<Message>) {
        let patience = Patience(Waits::Always);
        let (mut sent, mut answers) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Message { to, properties, body, answer } in batch {
            answers.push((to.clone(), answer));
            sent.push((to, properties, body));
        }
        let told = async {
            let taken = self.take(SHARED, &patience).await?;
            let (channel, link) = taken.get()?;
            let all =
                join_all(sent.iter().map(|(to, properties, body)| answer(channel, to, properties, body)));
            let told = link.patiently(self.opener.confirm_timeout(), &patience, all).await?;
            if !told.iter().any(|answer| matches!(answer, Answer::Broken(_))) {
                taken.give_back();
            }
            Ok::<_, BusError>(told)
        };
        let told = match told.await {
            Ok(told) => told,
            Err(error) => {
                if matches!(error, BusError::Timeout(_)) {
                    // A connection that does not answer is opened anew.
                    self.forget(SHARED);
                }
                for (_, answer) in answers {
                    let _gone = answer.send(Err(alike(&error))).is_err();
                }
                return;
            }
        };
        let addresses: Vec<_> = answers.iter().map(|(to, _)| to.clone()).collect();
        for ((_, answer), result) in answers.into_iter().zip(results(&addresses, told)) {
            let _gone = answer.send(result).is_err();
        }
    }
}

async fn answer(
    channel: &Channel,
    (exchange, key): &Address,
    properties: &BasicProperties,
    body: &[u8],
) -> Answer {
    let publish = async {
        let (exchange, key) = (exchange.as_str().into(), key.as_str().into());
        channel.basic_publish(exchange, key, mandatory(), body, properties.clone()).await?.await
    };
    let address = |returned: Box<lapin::message::BasicReturnMessage>| {
        let told = &returned.delivery;
        (told.exchange.to_string(), told.routing_key.to_string())
    };
    match publish.await {
        Ok(Confirmation::Ack(returned)) => Answer::Acked(returned.map(Box::new).map(address)),
        Ok(Confirmation::Nack(returned)) => Answer::Nacked(returned.map(Box::new).map(address)),
        // Never on a channel of ours: it was asked for confirms.
        Ok(Confirmation::NotRequested) => Answer::Nacked(None),
        Err(error) => Answer::Broken(error),
    }
}

/// What became of each message of a batch. All that went to an address from which one was returned count as returned: they went to the same
/// missing queue, and one that is sent twice is told by its id, one that is lost by nobody.
fn results(addresses: &[Address], answers: Vec<Answer>) -> Vec<Result<(), BusError>> {
    let returned: HashSet<Address> = answers
        .iter()
        .filter_map(|answer| match answer {
            Answer::Acked(returned) | Answer::Nacked(returned) => returned.clone(),
            Answer::Broken(_) => None,
        })
        .collect();
    let broken = answers.iter().find_map(|answer| match answer {
        Answer::Broken(error) => Some(error.clone()),
        _ => None,
    });
    addresses
        .iter()
        .zip(answers)
        .map(|(to, answer)| match (answer, &broken) {
            (Answer::Broken(error), _) => Err(BusError::Amqp(error)),
            _ if returned.contains(to) => Err(BusError::Unroutable(to.1.clone())),
            // Another return may still lie behind the one that was handed out when the channel broke.
            (Answer::Acked(_), Some(error)) if !returned.is_empty() => Err(BusError::Amqp(error.clone())),
            (Answer::Acked(_), _) => Ok(()),
            (Answer::Nacked(_), _) => Err(BusError::Nacked),
        })
        .collect()
}

/// The same error for each message of a batch.
fn alike(error: &BusError) -> BusError {
    match error {
        BusError::Amqp(error) => BusError::Amqp(error.clone()),
        BusError::Timeout(limit) => BusError::Timeout(*limit),
        BusError::Blocked(reason) => BusError::Blocked(reason.clone()),
        BusError::Address(words) => BusError::Address(words.clone()),
        BusError::Authority(words) => BusError::Authority(words.clone()),
        other => BusError::Channels(other.to_string()),
    }
}

/// Mandatory: an unroutable message published without it is confirmed and gone.
pub(super) fn mandatory() -> BasicPublishOptions {
    BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(queue: &str) -> Address {
        (String::new(), queue.to_owned())
    }

    fn broken() -> Answer {
        Answer::Broken(lapin::Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset)))
    }

    #[test]
    fn a_return_that_another_confirm_brought_is_told_of_the_message_it_belongs_to() {
        let addresses = ["a", "missing", "b", "missing"].map(to);
        // Its own confirms say nothing of it.
        let answers = vec![
            Answer::Acked(Some(to("missing"))),
            Answer::Acked(None),
            Answer::Acked(Some(to("missing"))),
            Answer::Acked(None),
        ];
        let results: Vec<_> = results(&addresses, answers).into_iter().map(|result| result.is_ok()).collect();
        assert_eq!(results, [true, false, true, false]);
    }

    #[test]
    fn nothing_is_safe_of_a_broken_batch_in_which_one_was_returned() {
        let addresses = ["a", "b", "c"].map(to);
        let told = |answers| {
            results(&addresses, answers).into_iter().map(|result| result.is_ok()).collect::<Vec<_>>()
        };
        let one_returned = vec![Answer::Acked(Some(to("elsewhere"))), Answer::Acked(None), broken()];
        assert_eq!(told(one_returned), [false, false, false]);
        assert_eq!(told(vec![Answer::Acked(None), Answer::Nacked(None), broken()]), [true, false, false]);
    }
}
