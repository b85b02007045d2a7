//! The handler that writes our own events to the log. Those of partners are logged when they are taken in.

use std::sync::Arc;

use async_trait::async_trait;
use cloudevents::AttributesReader as _;
use orrery_bus::{Delivery, Failure, Handler, HandlerSpec, Mailbox, Once, Outcome};
use orrery_store::{Pool, StoreError};
use std::time::Duration;

use crate::{
    config::Config,
    deliver::tail::Bell,
    publish::SOURCE_CLIENT,
    records::log::{self, NewEvent},
};

/// Its name, and its queue's.
pub const NAME: &str = "partners.log";

/// The queue and its limits; `orrery migrate` declares by it.
pub fn spec(config: &Config) -> HandlerSpec {
    HandlerSpec {
        name: NAME,
        mailbox: Mailbox {
            capacity: usize::from(config.capacity),
            concurrency: usize::from(config.concurrency),
        },
        retry_delay: config.retry_delay,
        time_limit: Duration::from_secs(10),
        bindings: vec!["com.gravitalia.#"],
        // The log knows an event by its source and id.
        once: Once::ByConstruction,
    }
}

/// The handler; it rings `bell` after a commit.
pub fn handler(config: &Config, pool: Pool, bell: Bell) -> Arc<dyn Handler> {
    Arc::new(Logger { spec: spec(config), pool, bell })
}

struct Logger {
    spec: HandlerSpec,
    pool: Pool,
    bell: Bell,
}

#[async_trait]
impl Handler for Logger {
    fn spec(&self) -> HandlerSpec {
        self.spec.clone()
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let mut event = delivery.event().clone();
        // None of our services sets it; whoever reads it in the log is to believe it.
        event.remove_extension(SOURCE_CLIENT);
        let body = match cloudevents_amqp::encode_structured(&event) {
            Ok(encoded) => encoded.body,
            Err(error) => return Outcome::Reject(Failure::of(&error)),
        };
        let new = NewEvent {
            key: log::key(None, event.source(), event.id()),
            sender: None,
            ty: event.ty().to_owned(),
            event: body,
        };
        let logged = async {
            let mut connection = self.pool.get().await?;
            log::add(&mut connection, &[new]).await
        };
        match logged.await {
            Ok(_) => {
                self.bell.ring();
                Outcome::Done
            }
            Err(error) => {
                let failure = Failure::of(&error);
                if error.is_outage() { Outcome::Wait(failure) } else { Outcome::Retry(failure) }
            }
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        let asked = async {
            let mut connection = self.pool.get().await?;
            log::head(&mut connection).await
        };
        asked.await.map(|_| ()).map_err(|error: StoreError| Failure::of(&error))
    }
}
