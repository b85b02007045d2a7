//! The handler of mail commands: what one command becomes, and what became of it. The steps are plain functions; how deliveries come and
//! go is the consumer's matter.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use cloudevents::AttributesReader as _;
use orrery_bus::{Delivery, Failure, Handler, HandlerSpec, Once, Outcome};
use orrery_observability::{
    metrics,
    trace::{Kind, Span},
};
use orrery_schemas::email::{Details, QUEUE, SendEmail, Template};
use orrery_seal::{SealError, Sealer};
use orrery_store::{Pool, StoreError};
use orrery_supervise::{Mailbox, clock::Clock};
use tracing::{info, warn};

use crate::{
    config::Config,
    records::{self, Digests},
    render::{MailContext, Renderer},
    state::State,
    transport::{Doubt, OutgoingMail, SendError, Transport, message_id},
};

/// How long a mail may hold its place while its domain has had enough for now; after it, others get the place.
const PACE_LIMIT: Duration = Duration::from_millis(500);

/// The queue and its limits; `orrery migrate` declares by it.
pub fn spec(config: &Config) -> HandlerSpec {
    HandlerSpec {
        name: QUEUE,
        mailbox: Mailbox {
            capacity: usize::from(config.capacity),
            concurrency: usize::from(config.concurrency),
        },
        retry_delay: config.retry_delay,
        // A mail may wait for another one's connection before it has its own turn.
        time_limit: config.longest_send() * 2 + Duration::from_secs(10),
        bindings: Vec::new(),
        once: Once::Inbox,
    }
}

/// Sends mails.
pub struct Mailer {
    /// Its settings.
    pub config: Config,
    /// Opens texts.
    pub keys: Keys,
    /// Looks addresses up.
    pub digests: Digests,
    /// What is known of recipients.
    pub pool: Pool,
    /// Writes mails.
    pub renderer: Renderer,
    /// Takes them away.
    pub transport: Transport,
    /// How many a domain gets.
    pub pace: Pace,
    /// What health shows of it.
    pub state: State,
    /// The time.
    pub clock: Clock,
}

/// What opens the sealed texts of a command.
pub struct Keys {
    /// Opens addresses.
    pub addresses: Sealer,
    /// Opens details.
    pub details: Sealer,
}

#[async_trait]
impl Handler for Mailer {
    fn spec(&self) -> HandlerSpec {
        spec(&self.config)
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let (mail, template) = match self.mail(delivery).await {
            Ok(Some(prepared)) => prepared,
            Ok(None) => {
                metrics::mail("dropped", None);
                return Outcome::Done;
            }
            Err(outcome) => {
                if matches!(outcome, Outcome::Reject(_)) {
                    metrics::mail("rejected", None);
                }
                return outcome;
            }
        };
        if let Some(wait) = self.pace.wait_of(&mail.to, Instant::now()) {
            if wait > PACE_LIMIT {
                metrics::mail("delayed", None);
                return Outcome::Later(Failure::new(
                    "its domain has had as many mails as it gets in a minute (maily.domain_rate)",
                ));
            }
            tokio::time::sleep(wait).await;
        }
        let in_doubt = |raised| delivery.set_in_doubt(raised);
        let begun = Instant::now();
        let span = Span::new(Kind::Client, || "smtp send".to_owned()).with("network.protocol.name", "smtp");
        let sent = span.clone().run(self.transport.send(&mail, &Doubt::new(&in_doubt))).await;
        let outcome = outcome(&sent);
        metrics::mail(outcome, Some(begun.elapsed()));
        if sent.is_err() {
            span.fail(outcome);
        }
        drop(span);
        let Err(error) = sent else {
            self.state.is_open();
            info!(template = template.name(), "sent");
            return Outcome::Done;
        };
        let failure = Failure::of(&error);
        match error {
            SendError::Permanent { .. } => Outcome::Reject(failure),
            SendError::Temporary { .. } => Outcome::Retry(failure),
            SendError::Doubtful { .. } => {
                // Whether the server is well or not: without the count it could go out again and again.
                warn!("the mail may be out: its answer was lost, so it may come twice");
                delivery.set_in_doubt(true);
                Outcome::Retry(failure)
            }
            // A server that answers others and not this mail fails at this mail, which counts.
            SendError::Unreachable { .. } => match self.transport.probe().await {
                Ok(()) => Outcome::Retry(failure),
                Err(_) => {
                    self.state.is_closed(&failure.reason);
                    Outcome::Wait(failure)
                }
            },
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        let probed = self.transport.probe().await.map_err(|error| Failure::of(&error));
        match &probed {
            Ok(()) => self.state.is_open(),
            Err(failure) => self.state.is_closed(&failure.reason),
        }
        probed
    }

    async fn close(&self) {
        self.transport.close().await;
    }
}

/// What became of a try, as metrics name it.
fn outcome(sent: &Result<(), SendError>) -> &'static str {
    match sent {
        Ok(()) => "sent",
        Err(SendError::Permanent { .. }) => "rejected",
        Err(SendError::Temporary { .. }) => "retried",
        Err(SendError::Doubtful { .. }) => "doubtful",
        Err(SendError::Unreachable { .. }) => "unreachable",
    }
}

impl Mailer {
    /// The mail that a command asks for; none when there is nobody to send it to any more.
    async fn mail(&self, delivery: &Delivery) -> Result<Option<(OutgoingMail, Template)>, Outcome> {
        let reject = |error: &dyn std::error::Error| Outcome::Reject(Failure::of(error));
        let command: SendEmail = delivery.data().map_err(Outcome::Reject)?;
        let owner = command.account.to_string();
        let to = self.opened(&self.keys.addresses, &command.to, &owner)?;
        let details = match &command.details {
            Some(sealed) => {
                let text = self.opened(&self.keys.details, sealed, &owner)?;
                // serde's messages can quote the input.
                serde_json::from_str(&text)
                    .map_err(|_| Outcome::Reject(Failure::new("the details of the mail cannot be read")))?
            }
            None => Details::default(),
        };
        let known = self.known(&command, &to).await?;
        // The last mail of an account tells that it is gone.
        if known.is_deleted && command.template != Template::DeletionDone {
            info!(template = command.template.name(), "dropped: the account was deleted meanwhile");
            return Ok(None);
        }
        if let Some(status) = known.suppressed {
            metrics::mail("suppressed", None);
            return Err(Outcome::Reject(Failure::new(format!(
                "mail to this address came back before ({status}): nothing more is sent to it until `orrery mail release` lets it"
            ))));
        }
        let now = self.clock.now();
        let occurred_at = delivery.event().time().map_or(now, |time| time.to_utc()).min(now);
        let context = MailContext { username: command.username, occurred_at, now, details };
        let rendered = self
            .renderer
            .render(command.template, &command.locale, &context)
            .map_err(|error| reject(&error))?;
        let message_id = message_id(delivery.id(), self.transport.from());
        Ok(Some((OutgoingMail { to, rendered, message_id, date: now }, command.template)))
    }

    /// Opens a sealed text. A key that we do not have is our configuration's fault, not the mail's.
    fn opened(&self, sealer: &Sealer, sealed: &str, owner: &str) -> Result<String, Outcome> {
        let opened = sealer.open(sealed, owner).map_err(|error| match error {
            SealError::UnknownKey => {
                let failure = Failure::new(
                    "a mail is sealed under a key that is not in the configuration: put autha's keys.mail among keys.mail or keys.mail_previous of maily",
                );
                self.state.lacks_key(&failure.reason);
                // Others, under keys that we have, go on.
                Outcome::Later(failure)
            }
            error => Outcome::Reject(Failure::of(&error)),
        })?;
        String::from_utf8(opened.to_vec())
            .map_err(|_| Outcome::Reject(Failure::new("a sealed text is no text")))
    }

    async fn known(&self, command: &SendEmail, to: &str) -> Result<records::Known, Outcome> {
        let asked = async {
            let mut connection = self.pool.get().await?;
            Ok::<_, StoreError>(records::known(&mut connection, &self.digests, command.account, to).await?)
        };
        asked.await.map_err(|error| {
            let failure = Failure::of(&error);
            if error.is_outage() { Outcome::Wait(failure) } else { Outcome::Retry(failure) }
        })
    }
}

/// How many mails a domain gets: at most so many a minute, evenly (a leaky bucket of one).
#[derive(Debug)]
pub struct Pace {
    interval: Option<Duration>,
    next: Mutex<HashMap<String, Instant>>,
}

impl Pace {
    /// So many a minute; 0 is no limit.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        let interval = (per_minute > 0).then(|| Duration::from_secs(60) / per_minute);
        Self { interval, next: Mutex::default() }
    }

    /// How long a mail to this address has to wait; none when it may go now. A wait that is short is taken as granted.
    fn wait_of(&self, to: &str, now: Instant) -> Option<Duration> {
        let interval = self.interval?;
        let domain = to.rsplit_once('@').map_or(to, |(_, domain)| domain).to_lowercase();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // What is over needs no memory.
        if next.len() > 10_000 {
            next.retain(|_, at| *at > now);
        }
        let at = next.get(&domain).copied().unwrap_or(now).max(now);
        let wait = at - now;
        if wait <= PACE_LIMIT {
            next.insert(domain, at + interval);
        }
        (!wait.is_zero()).then_some(wait)
    }
}

/// A mail made of sample data, for an operator who tries the way out.
#[must_use]
pub(crate) fn trial(
    renderer: &Renderer,
    transport: &Transport,
    to: &str,
    id: &str,
    now: DateTime<Utc>,
) -> Option<OutgoingMail> {
    let context =
        MailContext { username: "orrery".into(), occurred_at: now, now, details: Details::default() };
    let rendered = renderer.render(Template::Welcome, "en", &context).ok()?;
    Some(OutgoingMail {
        to: to.to_owned(),
        rendered,
        message_id: message_id(id, transport.from()),
        date: now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_gets_so_many_a_minute_and_others_do_not_wait_for_it() {
        let (pace, now) = (Pace::new(60), Instant::now());
        assert_eq!(pace.wait_of("a@one.example", now), None);
        assert_eq!(pace.wait_of("b@One.example", now), Some(Duration::from_secs(1)));
        assert_eq!(
            pace.wait_of("c@one.example", now),
            Some(Duration::from_secs(1)),
            "who was sent away holds no place"
        );
        assert_eq!(pace.wait_of("a@other.example", now), None);
        assert_eq!(
            pace.wait_of("b@one.example", now + Duration::from_millis(600)),
            Some(Duration::from_millis(400))
        );
        assert_eq!(
            pace.wait_of("c@one.example", now + Duration::from_millis(1_000)),
            Some(Duration::from_secs(1))
        );
        assert_eq!(Pace::new(0).wait_of("a@one.example", now), None);
    }
}
