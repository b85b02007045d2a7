//! The handler of mail commands: open the address, render, send, and tell what became of it.

use async_trait::async_trait;
use orrery_actors::{
    bus::{Delivery, Failure, Handler, HandlerSpec, Once, Outcome},
    clock::Clock,
    seal::Sealer,
};
use orrery_schemas::email::{QUEUE, SendEmail};
use std::time::Duration;
use tracing::warn;

use crate::{
    config::Config,
    render::{MailContext, Renderer},
    transport::{OutgoingMail, SendError, Transport, message_id},
};

/// The queue and its limits; `orrery migrate` declares by it.
pub fn spec(config: &Config) -> HandlerSpec {
    HandlerSpec {
        name: QUEUE,
        prefetch: config.concurrency,
        retry_delay: config.retry_delay,
        // A mail may wait for another one's connection before it has its own turn.
        time_limit: config.smtp.longest_send() * 2 + Duration::from_secs(10),
        bindings: Vec::new(),
        once: Once::Inbox,
    }
}

/// Sends mails.
pub struct Mailer {
    /// Its settings.
    pub config: Config,
    /// Opens addresses.
    pub sealer: Sealer,
    /// Writes mails.
    pub renderer: Renderer,
    /// Takes them away.
    pub transport: Transport,
    /// The time.
    pub clock: Clock,
}

#[async_trait]
impl Handler for Mailer {
    fn spec(&self) -> HandlerSpec {
        spec(&self.config)
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let mail = match self.mail(delivery) {
            Ok(mail) => mail,
            Err(failure) => return Outcome::Reject(failure),
        };
        let Err(error) = self.transport.send(&mail).await else { return Outcome::Done };
        let failure = Failure::of(&error);
        match error {
            SendError::Permanent { .. } => Outcome::Reject(failure),
            SendError::Temporary { .. } => Outcome::Retry(failure),
            SendError::Unreachable { .. } | SendError::Doubtful { .. } => {
                if matches!(error, SendError::Doubtful { .. }) {
                    warn!("the mail may be out: its answer was lost, so it may come twice");
                    delivery.doubt();
                }
                // A server that answers others and not this mail fails at this mail, which counts.
                match self.transport.probe().await {
                    Ok(()) => Outcome::Retry(failure),
                    Err(_) => Outcome::Wait(failure),
                }
            }
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        self.transport.probe().await.map_err(|error| Failure::of(&error))
    }

    async fn close(&self) {
        self.transport.close().await;
    }
}

impl Mailer {
    fn mail(&self, delivery: &Delivery) -> Result<OutgoingMail, Failure> {
        let command: SendEmail = delivery.data()?;
        let to = self
            .sealer
            .open(&command.to, &command.account.to_string())
            .map_err(|error| Failure::of(&error))?;
        let to = String::from_utf8(to.to_vec()).map_err(|_| Failure::new("the address is no text"))?;
        let now = self.clock.now();
        let context = MailContext { username: command.username, occurred_at: now };
        let rendered = self
            .renderer
            .render(&command.template, &command.locale, &context)
            .map_err(|error| Failure::of(&error))?;
        let message_id = message_id(delivery.id(), self.transport.from());
        Ok(OutgoingMail { to, rendered, message_id, date: now })
    }
}
