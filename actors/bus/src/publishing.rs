//! What is published on the channels that all share: in batches with pipelined confirms, so that a message which the broker returns is told
//! from every other. Channels live in `channels`, the relay's batches in `relay::batch`.
//!
//! lapin hands a returned message to whichever confirm of its channel completes next: as long as another publish is under way on the channel, the
//! one that no queue took may be told as safe. So a channel is one batch's alone, and nothing in it is safe before all of it is answered for.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::oneshot;

use super::{
    BusError,
    channels::{Channels, mandatory},
    envelope::{MAX_HEADER_BYTES, header_bytes},
    patience::{LOOK, Patience},
};

/// Batches of the shared pool that are under way at once, and how many messages make one.
const BATCHES: usize = 4;
const BATCH: usize = 256;
/// Which pool is everybody's, but for the relays': a message of the outbox for which the broker closes the connection takes nobody else with it.
const SHARED: &str = "publish";
/// What everybody publishes, but for the relays.
#[derive(Clone)]
pub(super) struct Publishing {
    channels: Channels,
    /// How long the broker may take for a confirm.
    limit: Duration,
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

impl Publishing {
    pub fn new(channels: Channels, limit: Duration) -> Self {
        Self { channels, limit, waiting: Arc::default() }
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
            if let Some(reason) = self.channels.blocked()
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
        let patience = Patience::always();
        let (mut sent, mut answers) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Message { to, properties, body, answer } in batch {
            answers.push((to.clone(), answer));
            sent.push((to, properties, body));
        }
        let told = async {
            let taken = self.channels.take(SHARED, &patience).await?;
            let (channel, link) = taken.get()?;
            let all =
                join_all(sent.iter().map(|(to, properties, body)| answer(channel, to, properties, body)));
            let told = link.patiently(self.limit, &patience, all).await?;
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
                    self.channels.forget(SHARED);
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
