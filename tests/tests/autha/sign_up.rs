//! Sign-up: who may, with which name, address and password.

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use orrery_tests::{Person, World};
use reqwest::Method;
use serde_json::json;

use crate::{fault, internal_id, mailbox, send, somebody};

#[tokio::test]
async fn two_spellings_of_a_password_are_one() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let composed = "Z\u{fc}rich-Stra\u{df}e-\u{e9}-47!";
    let decomposed = "Zu\u{308}rich-Stra\u{df}e-e\u{301}-47!";
    let mut person = Person::new();
    person.password = composed.to_owned();
    world.client()?.signed_up(&person).await?;
    for password in [composed, decomposed] {
        person.password = password.to_owned();
        world.client()?.logged_in(&person).await?;
    }
    // RFC 8265 keeps full-width digits apart from others.
    let mut wide = Person::new();
    wide.password = "Z\u{fc}rich-Stra\u{df}e-\u{ff14}\u{ff17}!".to_owned();
    world.client()?.signed_up(&wide).await?;
    world.client()?.logged_in(&wide).await?;
    let narrow = Person { password: composed.replace("-\u{e9}-", "-"), ..wide.clone() };
    world.client()?.login(&narrow).await?.expect(401)?;
    // 64 letters of two code points each: 128 when they are composed, which is counted on both sides.
    let mut long = Person::new();
    long.password = format!("{}{}", "e\u{301}\u{323}x".repeat(20), "Qz7!kW");
    world.client()?.signed_up(&long).await?;
    world.client()?.logged_in(&long).await?;
    Ok(())
}

#[tokio::test]
async fn addresses_are_those_that_can_be_mailed_and_two_spellings_are_one_account() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?;
    for email in
        ["\"john..x\"@example.org", "j\u{fc}rgen@example.org", "a@b", "a@[127.0.0.1]", "a b@example.org"]
    {
        let mut person = Person::new();
        person.email = email.to_owned();
        fault(&client.sign_up(&person).await?, 422, "email", "invalid_email")?;
    }
    let mut person = Person::new();
    let local = person.email.split('@').next().unwrap_or_default().to_owned();
    person.email = format!("{local}@b\u{fc}cher.example");
    client.signed_up(&person).await?;
    let mut again = Person::new();
    again.email = format!("{}@xn--bcher-kva.EXAMPLE", local.to_uppercase());
    fault(&client.sign_up(&again).await?, 409, "email", "taken")?;
    again.password.clone_from(&person.password);
    client.login(&again).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn an_address_outside_ascii_that_sign_up_takes_is_mailed() -> Result<()> {
    let world = World::builder().env("ORRERY_AUTHA__INTERNATIONAL_ADDRESSES", "true").start().await?;
    let _service = world.spawn(&[]).await?;
    let mut person = Person::new();
    let local = person.email.split('@').next().unwrap_or_default().to_owned();
    person.email = format!("j\u{fc}rgen.{local}@b\u{fc}cher.example");
    world.client()?.signed_up(&person).await?;
    let delivered = format!("j\u{fc}rgen.{local}@xn--bcher-kva.example");
    world.smtp().wait_until(|mails| mails.iter().any(|mail| mail.is_to(&delivered)), crate::SOON).await?;
    ensure!(world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0);
    // A domain in its other spelling is the same mailbox.
    person.email = delivered;
    world.client()?.login(&person).await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn what_is_taken_and_what_is_reserved_is_told_by_its_field() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (person, client) = somebody(&world).await?;
    let answer = client.sign_up(&person).await?.expect(409)?;
    let problem = answer.problem()?;
    ensure!(problem.field("id")?.code == "taken" && problem.field("email")?.code == "taken", "{problem:?}");
    for id in ["admin", "Root", "supp0rt", "postmaster", "security", "login", "me", "4dm1n"] {
        let mut person = Person::new();
        person.id = id.to_owned();
        fault(&client.sign_up(&person).await?, 422, "id", "reserved")?;
    }
    Ok(())
}

#[tokio::test]
async fn an_address_is_verified_by_its_link_once_and_a_login_waits_for_it() -> Result<()> {
    let world = mailbox::world(&[("ORRERY_AUTHA__VERIFICATION", "require")]).await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (client, person) = (world.client()?, Person::new());
    let answer = client.sign_up(&person).await?.expect(202)?;
    ensure!(answer.body["access_token"].is_null(), "{}", answer.body);
    fault(&client.login(&person).await?, 403, "email", "unverified")?;
    // A taken address answers like a free one, and its owner hears of it.
    let mut other = Person::new();
    other.email.clone_from(&person.email);
    let taken = client.sign_up(&other).await?.expect(202)?;
    ensure!(taken.bytes == answer.bytes);
    let account = internal_id(&world, &person).await?;
    ensure!(mailbox::count(&world, &account, "verify").await? == 2);
    ensure!(world.database().count("SELECT count(*) FROM autha.accounts").await? == 1);

    let secret = mailbox::secret(&world, &account, "verify").await?;
    let verify = async || send(&client, Method::POST, "/verify", json!({"token": secret})).await;
    let answers = try_join_all((0..4).map(|_| verify())).await?;
    let used = answers.iter().filter(|answer| answer.status == 204).count();
    ensure!(used == 1, "the link was used {used} times");
    fault(&verify().await?, 422, "token", "invalid_token")?;
    client.logged_in(&person).await?;
    let third = Person { email: person.email.clone(), ..Person::new() };
    client.sign_up(&third).await?.expect(202)?;
    ensure!(mailbox::count(&world, &account, "address_taken").await? == 1);
    Ok(())
}

#[tokio::test]
async fn an_instance_for_the_invited_takes_each_invite_once() -> Result<()> {
    let world = mailbox::world(&[("ORRERY_AUTHA__SIGN_UP", "invite")]).await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let client = world.client()?;
    ensure!(client.get("/status.json").await?.expect(200)?.body["invite_only"] == true);
    fault(&client.sign_up(&Person::new()).await?, 422, "invite", "invalid_invite")?;
    let made = world.run_revealing(&["account", "invite"], &[], crate::SOON).await?;
    ensure!(made.status.success(), "{}", made.output);
    let invite = made.output.lines().find(|line| line.len() == 43).unwrap_or_default().to_owned();
    let invited = |person: &Person| json!({"id": person.id, "email": person.email, "password": person.password, "invite": invite});
    let (first, second) = (Person::new(), Person::new());
    world.keep(&first);
    world.keep(&second);
    send(&client, Method::POST, "/create", invited(&first)).await?.expect(201)?;
    fault(&send(&client, Method::POST, "/create", invited(&second)).await?, 422, "invite", "invalid_invite")
}

#[tokio::test]
async fn a_closed_instance_takes_nobody_but_whom_its_operator_makes() -> Result<()> {
    let world = World::builder().env("ORRERY_AUTHA__SIGN_UP", "closed").start().await?;
    let _service = world.spawn(&["gateway", "autha"]).await?;
    let (client, person) = (world.client()?, Person::new());
    client.sign_up(&person).await?.expect(403)?;
    ensure!(world.database().count("SELECT count(*) FROM autha.accounts").await? == 0);
    let made = world.run(&["account", "create", &person.id, &person.email], crate::SOON).await?;
    ensure!(made.status.success(), "{}", made.output);
    client.user(&person.id).await?.expect(200)?;
    Ok(())
}
