//! Several servers in order, and which of them gets a mail: the first whose circuit is closed. One conversation lives in `smtp`.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use lettre::message::Mailbox;
use tracing::{info, warn};

use super::{
    Doubt, SendError, SetupError, Stage,
    message::Packed,
    scrub::Scrubber,
    smtp::{Dialogue, Smtp},
};
use crate::config::{self, Config};

/// For how long nothing is sent to a server after it first could not be reached, and at most.
const OPEN_FIRST: Duration = Duration::from_secs(1);
const OPEN_LONGEST: Duration = Duration::from_secs(60);

/// The servers that take mails, in the order in which they are tried.
#[derive(Debug)]
pub struct Relays {
    from: Mailbox,
    relays: Vec<Relay>,
    /// The furthest stage that mails failed at without an answer, and that a probe has to pass. Zero when mails get away.
    depth: AtomicU8,
}

#[derive(Debug)]
struct Relay {
    smtp: Smtp,
    circuit: Circuit,
}

/// Whether a server is asked at all: one that could not be reached is left alone for a while, so that mails go to the next one without
/// waiting for it first.
#[derive(Debug, Default)]
struct Circuit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

impl Circuit {
    /// Whether one may try now. Of several that ask when its time is over one is let through; the others wait for what it finds.
    fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.open_until {
            None => true,
            Some(until) if until > now => false,
            Some(_) => {
                state.open_until = Some(now + OPEN_FIRST);
                true
            }
        }
    }

    /// True when it was open.
    fn close(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *state).open_until.is_some()
    }

    /// True when it was closed.
    fn open(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = OPEN_FIRST.saturating_mul(2_u32.saturating_pow(state.failures.min(16))).min(OPEN_LONGEST);
        state.failures = state.failures.saturating_add(1);
        state.open_until.replace(now + wait).is_none()
    }
}

impl Relays {
    /// Makes the clients. Connects to nothing.
    ///
    /// # Errors
    /// What of a server's section cannot be used.
    pub(super) fn new(from: Mailbox, config: &Config) -> Result<Self, SetupError> {
        let relay = |(path, relay): (String, &config::Relay)| {
            Ok::<_, SetupError>(Relay { smtp: Smtp::new(relay, &path)?, circuit: Circuit::default() })
        };
        let relays = config.relays().map(relay).collect::<Result<_, _>>()?;
        Ok(Self { from, relays, depth: AtomicU8::new(0) })
    }

    pub(super) fn from(&self) -> &Mailbox {
        &self.from
    }

    /// Sends one mail to the first server that can be reached. What a server answered, or may have taken, is not tried at the next.
    pub(super) async fn send(
        &self,
        mail: &Packed,
        doubt: &Doubt<'_>,
        scrubber: &Scrubber,
    ) -> Result<(), SendError> {
        let mut last = None;
        for (number, relay) in self.relays.iter().enumerate() {
            if !relay.circuit.admits(Instant::now()) {
                continue;
            }
            let sent = relay.smtp.send(mail, doubt, scrubber).await;
            let Err(SendError::Unreachable { stage, cause }) = sent else {
                if relay.circuit.close() {
                    info!(relay = number + 1, "the mail server is back");
                }
                if sent.is_ok() {
                    self.depth.store(0, Ordering::Relaxed);
                }
                return sent;
            };
            // Further on it may be about this mail alone.
            if stage <= Stage::Login && relay.circuit.open(Instant::now()) {
                let others = self.relays.len() - number - 1;
                warn!(relay = number + 1, others, %stage, cause, "a mail server cannot be reached and is left alone for a while");
            }
            self.depth.fetch_max(stage.rank(), Ordering::Relaxed);
            last = Some(SendError::Unreachable { stage, cause });
        }
        Err(last.unwrap_or_else(|| SendError::Unreachable {
            stage: Stage::Connect,
            cause: "no mail server could be reached a moment ago".into(),
        }))
    }

    /// Whether a server would take a mail: as far as the stage at which mails failed.
    pub(super) async fn probe(&self) -> Result<(), SendError> {
        let depth = Stage::of_rank(self.depth.load(Ordering::Relaxed));
        let mut last = None;
        for relay in &self.relays {
            match relay.smtp.probe(depth, &self.from.email).await {
                Ok(()) => {
                    relay.circuit.close();
                    return Ok(());
                }
                Err(error) => last = last.or(Some(error)),
            }
        }
        last.map_or(Ok(()), Err)
    }

    /// Sends one mail with each server's part taken down, until one takes it.
    pub(super) async fn try_out(&self, mail: &Packed, dialogue: &Dialogue) -> Result<(), SendError> {
        let mut last = Ok(());
        for relay in &self.relays {
            dialogue.note(&format!("mail server {}", relay.smtp.name()));
            last = relay.smtp.try_out(mail, dialogue).await;
            if !matches!(last, Err(SendError::Unreachable { .. })) {
                break;
            }
        }
        last
    }

    pub(super) async fn close(&self) {
        for relay in &self.relays {
            relay.smtp.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_circuit_lets_one_through_when_its_time_is_over() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        assert!(circuit.admits(now) && circuit.admits(now));
        assert!(circuit.open(now));
        assert!(!circuit.admits(now));
        let later = now + OPEN_FIRST;
        assert!(circuit.admits(later));
        assert!(!circuit.admits(later), "the first one has not found out yet");
        assert!(!circuit.open(later));
        assert!(!circuit.admits(later + OPEN_FIRST), "it grows");
        assert!(circuit.close());
        assert!(circuit.admits(later));
    }

    #[test]
    fn a_circuit_is_never_open_for_longer_than_its_limit() {
        let (circuit, now) = (Circuit::default(), Instant::now());
        for _ in 0..100 {
            circuit.open(now);
        }
        assert!(circuit.admits(now + OPEN_LONGEST));
    }
}
