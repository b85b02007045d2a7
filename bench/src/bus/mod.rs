//! The bus beside bare lapin: the same messages, queue, prefetch and windows on the same broker, ours and bare in turn.
//! What each side does is in `ours` and `bare`; `peer` asks another framework.

mod bare;
mod messages;
mod ours;
mod peer;
mod rounds;

use anyhow::{Context, Result};
use orrery_tests::{Broker, World};

use crate::figures::{Bound, Figure, Unit};
use crate::machine::ProcessorTime;
use crate::progress;
use messages::Message;
use ours::{Inbox, Ours};
use rounds::{Pair, Rates};

/// Rounds of each pair; of each the median counts.
const ROUNDS: usize = 5;
/// Messages in a round: a second or two of work.
const MESSAGES: usize = if cfg!(debug_assertions) { 2_000 } else { 20_000 };
/// How many times as many are consumed without inbox, where so few are gone in the time that opening and closing takes.
const TIMES: usize = 4;
/// Publishes that wait for their confirm, and deliveries that wait for their acknowledgement: `docs/broker.md`.
const WINDOW: usize = 1024;
const PREFETCH: u16 = 256;
/// Connections to PostgreSQL on either side.
const CONNECTIONS: usize = 8;
/// The queue of both sides.
const QUEUE: &str = "bench.messages";

/// What both sides work on.
struct Field {
    world: World,
    messages: Vec<Message>,
}

impl Field {
    fn broker(&self) -> &Broker {
        self.world.broker()
    }

    /// Puts all messages into the queue so many times; it is empty before.
    async fn fill(&self, times: usize) -> Result<()> {
        self.clear().await?;
        for _ in 0..times {
            bare::publish(self.broker().url(), &self.messages, WINDOW).await?;
        }
        Ok(())
    }

    /// Leaves nothing in the queue and the tables.
    async fn clear(&self) -> Result<()> {
        self.broker().purge(QUEUE).await?;
        self.world.database().execute("TRUNCATE bus.inbox, bus.outbox, bench_rows").await
    }

    /// Sees that a round took every message and left none: what was not acknowledged is back in the queue.
    async fn emptied(&self) -> Result<()> {
        let left = self.broker().depth(QUEUE).await?.ready;
        anyhow::ensure!(left == 0, "{left} messages were left");
        Ok(())
    }

    /// Sees that a round wrote down each of its messages.
    async fn has_each(&self, rows: &str) -> Result<()> {
        let written = self.world.database().count(&format!("SELECT count(*) FROM {rows}")).await?;
        anyhow::ensure!(
            usize::try_from(written)? == MESSAGES,
            "{written} of {MESSAGES} messages are in {rows}"
        );
        Ok(())
    }
}

/// Measures every pair, then the way from a commit to its effect, then the peer.
///
/// # Errors
/// A part fails, or a round loses a message.
pub async fn measure() -> Result<Vec<Figure>> {
    let world = World::start().await?;
    world.database().execute(bare::TABLE).await?;
    let ours = Ours::new(world.database().url(), world.broker().url())?;
    ours.declare().await?;
    let field = Field { world, messages: messages::make(MESSAGES)? };

    let publish = publish(&field, &ours).await?;
    let consume = consume(&field, &ours).await?;
    let inbox = inbox(&field, &ours).await?;
    let both = both(&field, &ours).await?;
    let relay = relay(&field, &ours).await?;
    let mut figures = Vec::new();
    for pair in [&publish, &consume, &inbox, &both, &relay] {
        figures.extend(pair.figures()?);
    }
    figures.extend(windows(&field).await?);
    // A tenth of what the whole way can do: the slower of its two halves.
    let rate = relay.ours.median()?.min(inbox.ours.median()?) / 10.0;
    progress(&format!("commit to effect at {rate:.0} messages a second"));
    field.clear().await?;
    // What the rounds before wrote goes to the disk first, not in the midst.
    field.world.database().execute("CHECKPOINT").await?;
    let begun = ProcessorTime::look()?;
    figures.extend(ours.commit_to_effect(rate).await?);
    let stolen = ProcessorTime::look()?.stolen_since(begun);
    figures.push(Figure::once(
        "    processor time that the host took there",
        stolen,
        Unit::Percent,
        Bound::None,
    ));
    field.clear().await?;
    figures.extend(peer::measure(&field, &publish.ours, &consume.ours).await?);
    Ok(figures)
}

async fn publish(field: &Field, ours: &Ours) -> Result<Pair> {
    let mut pair = Pair::new("publish with confirms, window 1024", 0.9);
    for round in 0..ROUNDS {
        progress(&format!("publish, round {round}"));
        field.clear().await?;
        pair.ours.add(MESSAGES, ours.publish(&field.messages).await?);
        field.clear().await?;
        pair.bare.add(MESSAGES, bare::publish(field.broker().url(), &field.messages, WINDOW).await?);
    }
    Ok(pair)
}

async fn consume(field: &Field, ours: &Ours) -> Result<Pair> {
    let mut pair = Pair::new("consume without inbox, prefetch 256", 0.9);
    for round in 0..ROUNDS {
        progress(&format!("consume without inbox, round {round}"));
        field.fill(TIMES).await?;
        pair.ours.add(TIMES * MESSAGES, ours.consume(Inbox::Off, TIMES * MESSAGES).await?);
        field.emptied().await?;
        field.fill(TIMES).await?;
        pair.bare.add(TIMES * MESSAGES, bare::consume(field.broker().url(), TIMES * MESSAGES).await?);
        field.emptied().await?;
    }
    Ok(pair)
}

async fn inbox(field: &Field, ours: &Ours) -> Result<Pair> {
    let mut pair = Pair::new("consume with inbox (bare: one row each)", 0.9);
    let (broker, database) = (field.broker().url(), field.world.database().url());
    for round in 0..ROUNDS {
        progress(&format!("consume with inbox, round {round}"));
        field.fill(1).await?;
        pair.ours.add(MESSAGES, ours.consume(Inbox::On, MESSAGES).await?);
        field.emptied().await?;
        field.has_each("bus.inbox WHERE done_at IS NOT NULL").await?;
        field.fill(1).await?;
        pair.bare.add(MESSAGES, bare::consume_with_rows(broker, database, MESSAGES).await?);
        // Its queue need not be empty: of so many single acknowledgements the broker may forget the last, held back when the channel closes.
        field.has_each("bench_rows").await?;
    }
    Ok(pair)
}

async fn both(field: &Field, ours: &Ours) -> Result<Pair> {
    let mut pair = Pair::new("publish and consume at once, without inbox", 0.9);
    let broker = field.broker().url();
    for round in 0..ROUNDS {
        progress(&format!("publish and consume at once, round {round}"));
        field.clear().await?;
        let (_, time) = tokio::try_join!(ours.publish(&field.messages), ours.consume(Inbox::Off, MESSAGES))?;
        pair.ours.add(MESSAGES, time);
        field.emptied().await?;
        let (_, time) = tokio::try_join!(
            bare::publish(broker, &field.messages, WINDOW),
            bare::consume(broker, MESSAGES)
        )?;
        pair.bare.add(MESSAGES, time);
        field.emptied().await?;
    }
    Ok(pair)
}

async fn relay(field: &Field, ours: &Ours) -> Result<Pair> {
    let mut pair = Pair::new("relay (bare: publish with confirms)", 0.6);
    let database = field.world.database();
    for round in 0..ROUNDS {
        progress(&format!("relay, round {round}"));
        field.clear().await?;
        database.execute(&messages::outbox(MESSAGES)).await?;
        // Not how many: to count them all again and again would be work for PostgreSQL too.
        let any = "SELECT count(*) FROM (SELECT FROM bus.outbox WHERE status = 'pending' LIMIT 1) AS pending";
        let pending = async || database.count(any).await;
        pair.ours.add(MESSAGES, ours.relay(pending).await?);
        field.clear().await?;
        pair.bare.add(MESSAGES, bare::publish(field.broker().url(), &field.messages, WINDOW).await?);
    }
    Ok(pair)
}

/// What the smaller windows give, bare: to compare with `docs/broker.md`.
async fn windows(field: &Field) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for window in [1, 64] {
        progress(&format!("bare publish, window {window}"));
        let some = field.messages.get(..MESSAGES / 10).context("too few messages")?;
        let mut rates = Rates::default();
        for _ in 0..ROUNDS {
            field.clear().await?;
            rates.add(some.len(), bare::publish(field.broker().url(), some, window).await?);
        }
        let name = format!("bare publish with confirms, window {window}");
        figures.push(Figure {
            samples: ROUNDS,
            ..Figure::once(&name, rates.median()?, Unit::PerSecond, Bound::None)
        });
    }
    Ok(figures)
}
