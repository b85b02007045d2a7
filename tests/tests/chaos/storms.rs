//! Everything is killed at random: consumers, relays, API, broker and PostgreSQL.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use orrery_tests::ports::Port;
use orrery_tests::{Client, Dice, Person, Service, World};

use crate::crowd::Crowd;
use crate::scene::{Ground, Scene, Victim};
use crate::verdict::{self, Findings};

/// As many as their names and tokens are looked for in every log; more would take longer than the storm.
const WATCHED: usize = 40;

/// How many come, and what is killed meanwhile: some before each kill.
struct Plan {
    before_each_kill: usize,
    each_service: usize,
    broker: usize,
    postgres: usize,
}

impl Plan {
    fn kills(&self, dice: &mut Dice) -> Vec<Victim> {
        let mut kills: Vec<Victim> =
            Victim::OURS.iter().flat_map(|victim| vec![*victim; self.each_service]).collect();
        kills.extend(vec![Victim::Broker; self.broker]);
        kills.extend(vec![Victim::Postgres; self.postgres]);
        dice.shuffle(&mut kills);
        kills
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eighty_people_miss_nothing_while_everything_is_killed() -> Result<()> {
    let begin = Instant::now();
    let mut dice = Dice::thrown()?;
    told(&format!("ORRERY_CHAOS_SEED={}", dice.seed()));
    let ground = Ground::start().await?;
    let world = World::builder().on(&ground.postgres, &ground.broker)?.start().await?;
    let mut scene = Scene::start(&ground, &world, &[]).await?;
    let plan = Plan { before_each_kill: 8, each_service: 2, broker: 1, postgres: 1 };
    let kills = plan.kills(&mut dice);
    let mut crowd = gather(&world, kills.len() * plan.before_each_kill)?;
    storm(&mut scene, &mut crowd, &plan, &kills, &mut dice).await?;
    let findings = verdict::everything_is_there(&world, crowd.settle().await?).await?;
    report(&scene, &findings, begin.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: ./dev test chaos"]
async fn two_thousand_people_miss_nothing_and_memory_does_not_grow() -> Result<()> {
    const CALM: usize = 200;
    let begin = Instant::now();
    let mut dice = Dice::thrown()?;
    told(&format!("ORRERY_CHAOS_SEED={}", dice.seed()));
    let ground = Ground::start().await?;
    let world = World::builder().on(&ground.postgres, &ground.broker)?.start().await?;
    // One process of everything but the gateway is never killed, and meets every loss of broker and database: its memory
    // tells whether what is built anew each time is also taken down.
    let port = Port::reserve()?;
    let listen = port.address().to_string();
    let survivor = ["autha", "spinoza", "maily"];
    let survivor = world.spawn_with(&survivor, &[("ORRERY_AUTHA__LISTEN", &listen)]).await?;
    let mut scene = Scene::start(&ground, &world, &[format!("http://{listen}")]).await?;
    let plan = Plan { before_each_kill: 12, each_service: 35, broker: 5, postgres: 5 };
    let kills = plan.kills(&mut dice);
    let mut crowd = gather(&world, CALM + kills.len() * plan.before_each_kill)?;

    for _ in 0..CALM / plan.before_each_kill {
        crowd.let_in(plan.before_each_kill).await?;
    }
    crowd.let_in(CALM % plan.before_each_kill).await?;
    verdict::everything_is_there(&world, crowd.settle().await?).await?;
    let before = own_memory(&survivor)?;

    storm(&mut scene, &mut crowd, &plan, &kills, &mut dice).await?;
    let findings = verdict::everything_is_there(&world, crowd.settle().await?).await?;
    let after = own_memory(&survivor)?;
    told(&format!(
        "memory of the process that was not killed: {before} KiB after {CALM}, {after} KiB at the end"
    ));
    report(&scene, &findings, begin.elapsed())?;
    ensure!(after * 10 <= before * 12, "memory grew from {before} to {after} KiB");
    Ok(())
}

fn gather(world: &World, count: usize) -> Result<Crowd> {
    let people: Vec<Person> = (0..count).map(|_| Person::new()).collect();
    for person in people.iter().take(WATCHED) {
        world.keep(person);
    }
    Crowd::gather(&people, &[Client::new(&world.gateway_url())?])
}

async fn storm(
    scene: &mut Scene<'_>,
    crowd: &mut Crowd,
    plan: &Plan,
    kills: &[Victim],
    dice: &mut Dice,
) -> Result<()> {
    for victim in kills {
        crowd.let_in(plan.before_each_kill).await?;
        tokio::time::sleep(dice.millis(200, 2000)).await;
        scene.strike(*victim, dice).await.with_context(|| format!("after {}", scene.kills))?;
    }
    scene.calm().await
}

fn own_memory(service: &Service) -> Result<u64> {
    Ok(service.memory()?.anonymous_bytes / 1024)
}

fn report(scene: &Scene<'_>, findings: &Findings, time: Duration) -> Result<()> {
    told(&format!("{findings}; {}; {:.0} s", scene.kills, time.as_secs_f64()));
    let (doubled, kills) = (findings.doubled, scene.kills.total());
    ensure!(doubled <= kills, "{doubled} doubled mails, more than the {kills} kills");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the report of a storm")]
fn told(text: &str) {
    println!("chaos: {text}");
}
