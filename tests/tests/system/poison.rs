//! What a message can do to the process that works on it: end it, block it, panic in it. It is quarantined; nobody else is harmed.
//! The process that lets itself be hurt is `src/bin/misbehaving.rs`.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use lapin::BasicProperties;
use orrery_tests::{World, broker::event_headers, process::Process};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);
/// Seven runs, before each of which the claim of the one before has to end.
const DEAD: Duration = Duration::from_secs(100);
const QUEUE: &str = "tests.misbehaving";

/// The misbehaving process, started again whenever it ends, as an operator's supervisor does.
struct Misbehaving {
    world: World,
    settings: BTreeMap<String, String>,
    process: Process,
    /// How its lives ended.
    ends: Vec<std::process::ExitStatus>,
}

impl Misbehaving {
    async fn start() -> Result<Self> {
        let world = World::start().await?;
        world.database().execute("CREATE TABLE public.effects (id text NOT NULL)").await?;
        let settings = BTreeMap::from([
            ("ORRERY_DATABASE__URL".to_owned(), world.database().url().to_owned()),
            ("ORRERY_BROKER__URL".to_owned(), world.broker().url().to_owned()),
        ]);
        let mut declare = spawn(&world, &settings, "declare")?;
        ensure!(declare.wait(SOON).await?.success());
        let process = spawn(&world, &settings, "serve")?;
        Ok(Self { world, settings, process, ends: Vec::new() })
    }

    async fn publish(&self, id: &str, wish: &str) -> Result<()> {
        let headers = event_headers(id, "tests", "tests.wish");
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_content_type("application/json".into())
            .with_delivery_mode(2);
        let body = serde_json::to_vec(wish)?;
        self.world.broker().publish_raw("", QUEUE, properties, &body).await?;
        Ok(())
    }

    fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.world.folder().join("misbehaving.log"))?)
    }

    /// Starts the process again if it has ended.
    fn look_after(&mut self) -> Result<()> {
        if let Some(status) = self.process.ended() {
            self.ends.push(status);
            self.process = spawn(&self.world, &self.settings, "serve")?;
        }
        Ok(())
    }

    async fn effects(&self) -> Result<HashMap<String, usize>> {
        let mut effects = HashMap::new();
        for row in self.world.database().rows("SELECT id FROM public.effects").await? {
            *effects
                .entry(row.get("id").and_then(Value::as_str).context("no id")?.to_owned())
                .or_default() += 1;
        }
        Ok(effects)
    }

    /// Looks after the process until every one of `ids` had its effect.
    async fn until_effects(&mut self, ids: &[String], deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        loop {
            self.look_after()?;
            let effects = self.effects().await?;
            let missing: Vec<_> = ids.iter().filter(|id| !effects.contains_key(*id)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            ensure!(Instant::now() < end, "no effect of {missing:?} within {deadline:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Looks after the process until that many dead letters are in the table; their event ids.
    async fn until_dead(&mut self, count: usize) -> Result<Vec<String>> {
        let end = Instant::now() + DEAD;
        loop {
            self.look_after()?;
            let rows = self.world.database().rows("SELECT event_id, reason FROM bus.dead_letters").await?;
            if rows.len() >= count {
                return Ok(rows
                    .iter()
                    .map(|row| format!("{}: {}", row["event_id"].as_str().unwrap_or_default(), row["reason"]))
                    .collect());
            }
            ensure!(Instant::now() < end, "{} dead letters\n{}", rows.len(), self.log()?);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn spawn(world: &World, settings: &BTreeMap<String, String>, argument: &str) -> Result<Process> {
    let program = Path::new(env!("CARGO_BIN_EXE_misbehaving"));
    Process::spawn(program, &[argument], settings, world.folder(), &world.folder().join("misbehaving.log"))
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_aborts_the_process_is_quarantined_and_no_innocent_dies_with_it() -> Result<()> {
    let mut system = Misbehaving::start().await?;
    let before = names("before", 60);
    for id in &before {
        system.publish(id, "slow").await?;
    }
    system.publish("poison", "abort").await?;
    let after = names("after", 60);
    for id in &after {
        system.publish(id, "work").await?;
    }
    let letters = system.until_dead(1).await?;
    // Who comes now finds a process that lives.
    system.publish("late", "work").await?;
    system.until_effects(&["late".to_owned()], Duration::from_secs(5)).await?;
    let innocents: Vec<String> = before.into_iter().chain(after).collect();
    system.until_effects(&innocents, SOON).await?;
    system.world.broker().wait_handled(QUEUE, SOON).await?;
    ensure!(system.effects().await?.values().all(|count| *count == 1), "an effect happened twice");
    let rows = system.world.database().count("SELECT count(*) FROM bus.dead_letters").await?;
    ensure!(rows == 1 && letters.iter().all(|letter| letter.starts_with("poison: ")), "{letters:?}");
    ensure!(system.ends.len() <= 2, "it ended {} main processes: {:?}", system.ends.len(), system.ends);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_served_while_the_poison_is_quarantined() -> Result<()> {
    let mut system = Misbehaving::start().await?;
    system.publish("poison", "abort").await?;
    let end = Instant::now() + SOON;
    while system.ends.len() < 2 {
        system.look_after()?;
        ensure!(Instant::now() < end, "the poison ended {} processes", system.ends.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for id in names("other", 12) {
        system.publish(&id, "work").await?;
        system.until_effects(std::slice::from_ref(&id), Duration::from_secs(5)).await?;
    }
    let early = system.world.database().count("SELECT count(*) FROM bus.dead_letters").await?;
    ensure!(early == 0, "the poison was dead before the others were served: they met nothing");
    let letters = system.until_dead(1).await?;
    ensure!(letters.len() == 1 && letters.iter().all(|letter| letter.starts_with("poison: ")), "{letters:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_blocks_its_thread_ends_the_process_with_a_clear_last_line() -> Result<()> {
    let mut system = Misbehaving::start().await?;
    system.publish("blocks", "block").await?;
    let letters = system.until_dead(1).await?;
    ensure!(letters.iter().all(|letter| letter.starts_with("blocks: ")), "{letters:?}");
    ensure!(
        system.ends.len() <= 2 && system.ends.iter().all(|end| end.code() == Some(70)),
        "{:?}",
        system.ends
    );
    let log = system.log()?;
    let line =
        "tests.misbehaving.consumer has blocked its thread for 2 s: the process ends, to be started again";
    ensure!(log.contains(line), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_handler_is_that_deliverys_failure_and_nothing_more() -> Result<()> {
    let mut system = Misbehaving::start().await?;
    system.publish("panics", "panic").await?;
    let others = names("other", 20);
    for id in &others {
        system.publish(id, "work").await?;
    }
    let letters = system.until_dead(1).await?;
    ensure!(letters == ["panics: \"the handler panicked\""], "{letters:?}");
    system.until_effects(&others, SOON).await?;
    ensure!(system.ends.is_empty(), "the process ended: {:?}", system.ends);
    let tries = system.world.database().count("SELECT attempts FROM bus.dead_letters").await?;
    ensure!(tries == 2, "{tries} tries");
    system.world.broker().wait_handled(QUEUE, SOON).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_its_dependency_does_not_wait_for_its_neighbour() -> Result<()> {
    let mut system = Misbehaving::start().await?;
    // It stays at work until its time limit of 20 s.
    system.publish("stalls", "stall").await?;
    system.publish("waits", "wait").await?;
    system.until_effects(&["waits".to_owned()], Duration::from_secs(10)).await?;
    let others = names("other", 20);
    for id in &others {
        system.publish(id, "work").await?;
    }
    system.until_effects(&others, Duration::from_secs(5)).await?;
    ensure!(system.log()?.contains("taking nothing until it is back"), "{}", system.log()?);
    ensure!(system.world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);
    Ok(())
}
