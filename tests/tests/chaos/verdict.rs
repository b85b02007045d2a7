//! What must be true when the storm is over: nothing that was answered is missing, and no effect in the database happened
//! twice. Doubled mails are counted, since some are allowed.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{World, eventually};

use crate::crowd::Guest;

/// The longest until all that was taken is done: leases of what was killed end, retries come back.
const QUIET: Duration = Duration::from_secs(120);
/// Guests whose pictures are fetched as a browser does; of all others the rows and objects are looked at.
const FETCHED: usize = 10;
const HANDLERS: [&str; 3] = ["maily.email", "spinoza.images", "autha.pictures"];

/// What is still to be done; all are 0 in the end.
const TO_DO: [(&str, &str); 3] = [
    ("rows of the outbox that are not published", "SELECT count(*) FROM bus.outbox WHERE status = 'pending'"),
    ("messages that are claimed and not done", "SELECT count(*) FROM bus.inbox WHERE done_at IS NULL"),
    ("uploads that are pending", "SELECT count(*) FROM autha.uploads WHERE state = 'pending'"),
];

/// What must not be; all are 0.
const WRONG: [(&str, &str); 13] = [
    ("dead letters", "SELECT count(*) FROM bus.dead_letters"),
    ("rows that could not be published", "SELECT count(*) FROM bus.outbox WHERE status = 'failed'"),
    (
        "accounts with more or fewer sessions than one",
        "SELECT count(*) FROM autha.accounts a \
      LEFT JOIN (SELECT account, count(*) AS n FROM autha.sessions GROUP BY account) s ON s.account = a.id \
      WHERE coalesce(n, 0) <> 1",
    ),
    (
        "accounts that were not told of once",
        "SELECT count(*) FROM autha.accounts a \
      LEFT JOIN (SELECT subject, count(*) AS n FROM bus.outbox \
                 WHERE type = 'com.gravitalia.account.created.v1' GROUP BY subject) t ON t.subject = a.id::text \
      WHERE coalesce(n, 0) <> 1",
    ),
    (
        "accounts without exactly one mail command",
        "SELECT count(*) FROM autha.accounts a \
      LEFT JOIN (SELECT subject, count(*) AS n FROM bus.outbox \
                 WHERE type = 'com.gravitalia.email' GROUP BY subject) t ON t.subject = a.id::text \
      WHERE coalesce(n, 0) <> 1",
    ),
    (
        "uploads that were not told of once",
        "SELECT count(*) FROM autha.uploads u \
      LEFT JOIN (SELECT data->>'upload' AS upload, count(*) AS n FROM bus.outbox \
                 WHERE type = 'com.gravitalia.image.uploaded.v1' GROUP BY 1) t ON t.upload = u.id::text \
      WHERE coalesce(n, 0) <> 1",
    ),
    (
        "uploads with more or fewer results than one",
        "SELECT count(*) FROM autha.uploads u \
      LEFT JOIN (SELECT data->>'upload' AS upload, count(*) AS n FROM bus.outbox \
                 WHERE type = 'com.gravitalia.image.optimized.v1' GROUP BY 1) t ON t.upload = u.id::text \
      WHERE coalesce(n, 0) <> 1",
    ),
    (
        "accounts whose wanted picture is not shown",
        "SELECT count(*) FROM autha.accounts \
      WHERE avatar_upload IS NULL OR avatar_upload IS DISTINCT FROM icon_upload",
    ),
    (
        "uploads that are neither done nor replaced",
        "SELECT count(*) FROM autha.uploads \
      WHERE state NOT IN ('done', 'replaced')",
    ),
    (
        "done uploads with more or fewer variants than three",
        "SELECT count(*) FROM autha.uploads u \
      LEFT JOIN (SELECT upload, count(*) AS n FROM autha.variants GROUP BY upload) v ON v.upload = u.id \
      WHERE coalesce(n, 0) <> CASE u.state WHEN 'done' THEN 3 ELSE 0 END",
    ),
    // One for the account, one for each result that was applied: twice applied would be one more.
    (
        "accounts with another version than their changes",
        "SELECT count(*) FROM autha.accounts a \
      LEFT JOIN (SELECT account, count(*) FILTER (WHERE state IN ('done', 'rejected')) AS applied \
                 FROM autha.uploads GROUP BY account) u ON u.account = a.id \
      WHERE version <> 1 + coalesce(applied, 0)",
    ),
    (
        "applied results that were not told of once",
        "SELECT abs((SELECT count(*) FROM autha.uploads WHERE state = 'done') \
      - (SELECT count(*) FROM bus.outbox WHERE type = 'com.gravitalia.account.updated.v1'))",
    ),
    (
        "messages that never reached their handler",
        "SELECT \
      abs((SELECT count(*) FROM autha.accounts) - (SELECT count(*) FROM bus.inbox WHERE handler = 'maily.email')) \
      + abs((SELECT count(*) FROM autha.uploads) - (SELECT count(*) FROM bus.inbox WHERE handler = 'spinoza.images')) \
      + abs((SELECT count(*) FROM autha.uploads) - (SELECT count(*) FROM bus.inbox WHERE handler = 'autha.pictures'))",
    ),
];

/// What was found, beside that all is there.
pub struct Findings {
    people: usize,
    repeats: usize,
    uploads: i64,
    mails: usize,
    /// Mails that came twice.
    pub doubled: usize,
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { people, repeats, uploads, mails, doubled } = self;
        write!(
            f,
            "{people} people asked again {repeats} times; {uploads} uploads, each with its variants; \
             {mails} mails, {doubled} of them doubled; no dead letter"
        )
    }
}

/// Waits until nothing is left to do, then looks at everything.
pub async fn everything_is_there(world: &World, guests: &[Guest]) -> Result<Findings> {
    quiet(world).await?;
    let database = world.database();
    for (what, sql) in WRONG {
        let wrong = database.count(sql).await?;
        ensure!(
            wrong == 0,
            "{wrong} {what}: {:?}",
            database.rows("SELECT * FROM bus.dead_letters LIMIT 3").await?
        );
    }
    let accounts = database.count("SELECT count(*) FROM autha.accounts").await?;
    ensure!(usize::try_from(accounts)? == guests.len(), "{accounts} accounts for {} people", guests.len());
    uploads_are_known(world, guests).await?;
    variants_are_there(world).await?;
    for guest in guests.iter().rev().take(FETCHED) {
        pictures_can_be_fetched(world, guest).await?;
    }
    let (mails, doubled) = mails(world, guests)?;
    Ok(Findings {
        people: guests.len(),
        repeats: guests.iter().map(|guest| guest.repeats).sum(),
        uploads: database.count("SELECT count(*) FROM autha.uploads").await?,
        mails,
        doubled,
    })
}

/// Waits until the tables have nothing to do and no queue holds anything.
async fn quiet(world: &World) -> Result<()> {
    done(world).await?;
    let dead = HANDLERS.map(|handler| format!("{handler}.dead"));
    world.broker().wait_settled(&dead.each_ref().map(String::as_str), &HANDLERS, QUIET).await?;
    // What was held meanwhile has had its effect.
    done(world).await
}

async fn done(world: &World) -> Result<()> {
    let mut left = String::new();
    let waited = eventually(QUIET, "nothing to be left to do", async || {
        for (what, sql) in TO_DO {
            let count = world.database().count(sql).await.ok()?;
            if count > 0 {
                left = format!("{count} {what}");
                return None;
            }
        }
        Some(())
    })
    .await;
    waited.with_context(|| format!("there were still {left}"))
}

/// Each upload that was answered with 202 is there. A repeated one may have been replaced by its own repetition.
async fn uploads_are_known(world: &World, guests: &[Guest]) -> Result<()> {
    let rows = world.database().rows("SELECT id FROM autha.uploads").await?;
    let known: HashSet<&str> = rows.iter().filter_map(|row| row.get("id")?.as_str()).collect();
    let lost = guests.iter().filter(|guest| !known.contains(guest.upload.as_str())).count();
    ensure!(lost == 0, "{lost} uploads that were answered are not there");
    Ok(())
}

async fn variants_are_there(world: &World) -> Result<()> {
    let objects: HashSet<String> = world.objects()?.into_iter().collect();
    let rows = world.database().rows("SELECT object_key FROM autha.variants").await?;
    let keys = rows.iter().filter_map(|row| row.get("object_key")?.as_str());
    let missing = keys.filter(|key| !objects.contains(*key)).count();
    ensure!(missing == 0, "{missing} variants have no object");
    Ok(())
}

async fn pictures_can_be_fetched(world: &World, guest: &Guest) -> Result<()> {
    let client = world.client()?;
    let profile = client.user(&guest.person.id).await?.expect(200)?;
    let icons =
        profile.body.get("icon").and_then(|icons| icons.as_array()).context("a profile without a picture")?;
    ensure!(icons.len() == 3, "{} variants", icons.len());
    for icon in icons {
        let url = icon.get("url").and_then(|url| url.as_str()).context("a variant without an address")?;
        client.get(url).await?.expect(200)?;
    }
    Ok(())
}

/// Everybody has a mail, nobody else has; what came twice is the same mail. Gives how many, and how many too many.
fn mails(world: &World, guests: &[Guest]) -> Result<(usize, usize)> {
    let mails = world.smtp().mails();
    let mut by_address: HashMap<&str, HashSet<Option<&str>>> = HashMap::new();
    for mail in &mails {
        let to = mail.to.first().context("a mail to nobody")?;
        by_address.entry(to).or_default().insert(mail.message_id.as_deref());
    }
    for guest in guests {
        let ids = by_address.remove(guest.person.email.as_str()).context("somebody has no mail")?;
        ensure!(ids.len() == 1, "a doubled mail has {} Message-IDs", ids.len());
    }
    ensure!(by_address.is_empty(), "{} mails went to nobody who signed up", by_address.len());
    Ok((mails.len(), mails.len() - guests.len()))
}
