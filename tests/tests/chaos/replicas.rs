//! A second process of each service comes and goes in good order (SIGTERM) under load, and so does the first one beside it.

use std::time::Duration;

use anyhow::{Result, ensure};
use orrery_tests::ports::Port;
use orrery_tests::{Client, Dice, Person, Service, World};

use crate::crowd::Crowd;
use crate::verdict;

/// People who come between two steps.
const BETWEEN: usize = 5;
/// Above the grace of a process.
const STOP: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_of_each_service_comes_and_goes_without_loss_or_double() -> Result<()> {
    let mut dice = Dice::thrown()?;
    let world = World::start().await?;
    let (door, accounts) = (Port::reserve()?, Port::reserve()?);
    let (door, accounts) = (door.address().to_string(), accounts.address().to_string());
    let mut autha = world.spawn(&["autha"]).await?;
    let upstreams = format!("{},http://{accounts}", autha.autha_url());
    let upstreams = ("ORRERY_GATEWAY__AUTHA", upstreams.as_str());
    let mut gateway = world.spawn_with(&["gateway"], &[upstreams]).await?;
    let (mut spinoza, mut maily) = tokio::try_join!(world.spawn(&["spinoza"]), world.spawn(&["maily"]))?;

    let people: Vec<Person> = (0..4 * 4 * BETWEEN).map(|_| Person::new()).collect();
    for person in &people {
        world.keep(person);
    }
    let doors = [Client::new(&world.gateway_url())?, Client::new(&format!("http://{door}"))?];
    let mut crowd = Crowd::gather(&people, &doors)?;

    let more_autha = ("ORRERY_AUTHA__LISTEN", accounts.as_str());
    let second = world.spawn_with(&["autha"], &[more_autha]).await?;
    come_and_go(&mut crowd, &mut autha, second, &mut dice).await?;
    let second = world.spawn_with(&["gateway"], &[upstreams, ("ORRERY_GATEWAY__LISTEN", &door)]).await?;
    come_and_go(&mut crowd, &mut gateway, second, &mut dice).await?;
    let second = world.spawn(&["spinoza"]).await?;
    come_and_go(&mut crowd, &mut spinoza, second, &mut dice).await?;
    let second = world.spawn(&["maily"]).await?;
    come_and_go(&mut crowd, &mut maily, second, &mut dice).await?;

    let findings = verdict::everything_is_there(&world, crowd.settle().await?).await?;
    ensure!(findings.doubled == 0, "{} doubled mails without a kill", findings.doubled);
    Ok(())
}

/// Beside the second the first one ends and comes back; then the second ends. People come all the while.
async fn come_and_go(
    crowd: &mut Crowd,
    first: &mut Service,
    mut second: Service,
    dice: &mut Dice,
) -> Result<()> {
    crowd.let_in(BETWEEN).await?;
    moment(dice).await;
    end(first).await?;
    crowd.let_in(BETWEEN).await?;
    first.restart().await?;
    crowd.let_in(BETWEEN).await?;
    moment(dice).await;
    end(&mut second).await?;
    crowd.let_in(BETWEEN).await
}

async fn end(service: &mut Service) -> Result<()> {
    let status = service.terminate(STOP).await?;
    ensure!(status.success(), "ended with {status}:\n{}", service.log());
    Ok(())
}

async fn moment(dice: &mut Dice) {
    tokio::time::sleep(dice.millis(0, 500)).await;
}
