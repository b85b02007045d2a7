//! A thousand mails into postfix while the mailer is killed five times: each arrives, what comes twice was counted as a doubt and has one Message-ID.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use orrery_tests::{Person, World, deadline::eventually};

use crate::servers::Postfix;

const MAILS: usize = 1000;
const KILLS: usize = 5;
const LONG: Duration = Duration::from_secs(600);

/// To whom each message was delivered, and its Message-ID.
fn delivered(postfix: &Postfix) -> Result<Vec<(String, String)>> {
    let field = |text: &str, name: &str| {
        let value = text
            .lines()
            .find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)));
        value.map(|(_, value)| value.trim().to_owned()).with_context(|| format!("no {name}"))
    };
    let read = |file: std::path::PathBuf| {
        let text = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
        Ok((field(&text, "Delivered-To")?, field(&text, "Message-ID")?))
    };
    postfix.delivered().into_iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postfix and root, and some minutes: ./dev test maily"]
async fn a_thousand_mails_arrive_while_the_mailer_is_killed_five_times() -> Result<()> {
    let postfix = Postfix::start().await?;
    // Passwords are not what is tried here.
    let mut builder = World::builder().env("ORRERY_AUTHA__PASSWORD_SCORE", "0");
    for (key, value) in postfix.settings() {
        builder = builder.env(key, &value);
    }
    let world = builder.start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let people: Vec<Person> = (0..MAILS).map(|_| Person::new()).collect();
    let world = &world;
    let signing_up = stream::iter(&people).map(|person| async move {
        world.client()?.sign_up(person).await?.expect(201)?;
        anyhow::Ok(())
    });
    signing_up.buffer_unordered(6).try_collect::<Vec<_>>().await?;
    let mut mailer = world.spawn(&["maily"]).await?;
    for kill in 1..=KILLS {
        // In the midst of them, each time.
        let wanted = MAILS * kill / (KILLS + 1);
        eventually(LONG, "some mails", async || (postfix.delivered().len() >= wanted).then_some(())).await?;
        mailer.kill();
        mailer.restart().await?;
    }
    let recipients = || {
        Ok::<_, anyhow::Error>(delivered(&postfix)?.into_iter().map(|(to, _)| to).collect::<BTreeSet<_>>())
    };
    eventually(LONG, "every mail", async || recipients().is_ok_and(|to| to.len() == MAILS).then_some(()))
        .await?;
    let done = "SELECT count(*) FROM bus.inbox WHERE handler = 'maily.email' AND done_at IS NOT NULL";
    eventually(LONG, "everything is done", async || {
        (world.database().count(done).await.ok()? == i64::try_from(MAILS).ok()?).then_some(())
    })
    .await?;

    let messages = delivered(&postfix)?;
    let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (to, id) in &messages {
        ids.entry(to).or_default().insert(id);
    }
    ensure!(people.iter().all(|person| ids.contains_key(person.email.as_str())), "somebody got no mail");
    ensure!(ids.values().all(|ids| ids.len() == 1), "a mail that came twice has two ids");
    let doubles = messages.len() - MAILS;
    let doubts = "SELECT COALESCE(sum(doubts), 0)::bigint FROM bus.inbox WHERE handler = 'maily.email'";
    let doubts = world.database().count(doubts).await?;
    ensure!(i64::try_from(doubles)? <= doubts, "{doubles} mails came twice, and {doubts} were counted");
    ensure!(
        world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0,
        "a mail was given up"
    );
    println!("{MAILS} mails, {KILLS} kills: {doubles} came twice, {doubts} doubts were counted");
    Ok(())
}
