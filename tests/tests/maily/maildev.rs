//! What maildev shows: the mail as a developer sees it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{Person, World, deadline::eventually};

use crate::servers::Maildev;

const SOON: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs maildev: ./dev test maily"]
async fn maildev_shows_the_mail_with_both_bodies() -> Result<()> {
    let maildev = Maildev::start().await?;
    let mut builder = World::builder();
    for (key, value) in maildev.settings() {
        builder = builder.env(key, &value);
    }
    let world = builder.start().await?;
    let _all = world.spawn(&[]).await?;
    let person = Person::new().reading("de");
    world.client()?.sign_up(&person).await?.expect(201)?;
    let mail = eventually(SOON, "the mail", async || maildev.mails().await.ok()?.into_iter().next()).await?;
    ensure!(mail["to"][0]["address"] == person.email.as_str(), "{}", mail["to"]);
    ensure!(mail["from"][0]["address"] == "no-reply@orrery.example" && mail["from"][0]["name"] == "Orrery");
    ensure!(
        mail["subject"].as_str().is_some_and(|subject| subject.contains("Willkommen")),
        "{}",
        mail["subject"]
    );
    for body in ["text", "html"] {
        let body = mail[body].as_str().with_context(|| format!("no {body}"))?;
        ensure!(body.contains(&person.id), "it names nobody");
    }
    Ok(())
}
