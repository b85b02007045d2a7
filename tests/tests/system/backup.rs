//! A backup of a used system, restored into an empty one: identical, and the demo passes. And what a restore refuses.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use orrery_tests::{Client, Person, World, pictures};

const SOON: Duration = Duration::from_secs(60);
const KEY: &str = "QkFDS1VQQkFDS1VQQkFDS1VQQkFDS1VQQkFDS1VQISE=";
/// A digest of each table's rows.
const TABLES: &str = "SELECT string_agg(name || '=' || \
      (xpath('//c/text()', query_to_xml('SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '''')) || ''/'' || count(*) AS c FROM ' || name || ' t', false, true, '')))[1]::text, \
      chr(10) ORDER BY name) \
    FROM (SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
      WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence = 'p' AND n.nspname IN ('autha', 'bus', 'maily', 'orrery') \
        AND c.relname <> '__diesel_schema_migrations') tables";

fn settings(folder: &str) -> [(&str, &str); 2] {
    [("ORRERY_BACKUP__FOLDER", folder), ("ORRERY_BACKUP__KEY", KEY)]
}

/// Every object with its bytes.
fn objects(world: &World) -> Result<BTreeMap<String, Vec<u8>>> {
    let root = world.storage_root();
    let read = |name: String| {
        let bytes = std::fs::read(root.join(&name)).with_context(|| name.clone())?;
        Ok((name, bytes))
    };
    world.objects()?.into_iter().map(read).collect()
}

async fn digests(world: &World) -> Result<String> {
    world.database().text(TABLES).await?.context("there are no tables")
}

/// People with a picture each, the last one replaced and gone again.
async fn fill(world: &World) -> Result<(Client, Person)> {
    let person = Person::new();
    let client = world.client()?.signed_up(&person).await?;
    for _ in 0..2 {
        let taken = client.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?;
        client.wait_upload(taken.location()?, SOON).await?;
    }
    world.client()?.signed_up(&Person::new()).await?;
    Ok((client, person))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_fills_an_empty_system_with_the_same() -> Result<()> {
    let world = World::start().await?;
    let folder = world.folder().join("backups");
    let folder = folder.to_str().context("a path that is no UTF-8")?;
    let mut all = world.spawn(&[]).await?;
    let (client, person) = fill(&world).await?;
    // Made while everything runs: what is written meanwhile is in it as a whole, or not at all.
    let made = world.run_with(&["backup"], &settings(folder), SOON).await?;
    ensure!(made.status.success(), "{}", made.output);
    all.terminate(SOON).await?;
    let made = world.run_with(&["backup"], &settings(folder), SOON).await?;
    ensure!(made.status.success(), "{}", made.output);
    let (rows, files) = (digests(&world).await?, objects(&world)?);
    ensure!(files.len() >= 3, "only {} objects", files.len());
    let checked = world.run_with(&["restore", "--check"], &settings(folder), SOON).await?;
    ensure!(checked.status.success() && checked.output.contains("it is whole"), "{}", checked.output);
    // Nothing of it can be read: no address, no name, no key.
    for file in std::fs::read_dir(folder)? {
        let bytes = std::fs::read(file?.path())?;
        for secret in [person.email.as_bytes(), person.id.as_bytes(), b"avatars/", b"INSERT"] {
            ensure!(!bytes.windows(secret.len()).any(|window| window == secret), "a backup can be read");
        }
    }

    // A system in use is left alone.
    let refused = world.run_with(&["restore"], &settings(folder), SOON).await?;
    ensure!(
        !refused.status.success() && refused.output.contains("autha.accounts has rows"),
        "{}",
        refused.output
    );
    ensure!(digests(&world).await? == rows, "a refused restore changed something");

    // Everything is lost, and the machine is set up anew with the same keys.
    world.wipe().await?;
    let restored = world.run_with(&["restore"], &settings(folder), SOON).await?;
    ensure!(restored.status.success(), "{}", restored.output);
    ensure!(digests(&world).await? == rows, "the rows are others:\n{rows}\n{}", digests(&world).await?);
    ensure!(objects(&world)? == files, "the objects are others");
    world.migrate().await?;
    all.restart().await?;
    // Who had an account has it, with session and picture, and new ones can be made: sequences go on.
    client.me().await?.expect(200)?;
    let again = world.client()?.logged_in(&person).await?;
    let profile = again.user(&person.id).await?.expect(200)?;
    ensure!(profile.body["icon"].as_array().is_some_and(|icon| !icon.is_empty()), "{}", profile.body);
    let demo = world.run(&["demo"], SOON).await?;
    ensure!(demo.status.success(), "{}", demo.output);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_changed_or_of_another_key_restores_nothing() -> Result<()> {
    let world = World::start().await?;
    let folder = world.folder().join("backups");
    let folder = folder.to_str().context("a path that is no UTF-8")?;
    let mut all = world.spawn(&[]).await?;
    fill(&world).await?;
    all.terminate(SOON).await?;
    let made = world.run_with(&["backup"], &settings(folder), SOON).await?;
    ensure!(made.status.success(), "{}", made.output);
    let listed = world.run_with(&["backup", "--list"], &settings(folder), SOON).await?.output;
    let name =
        listed.lines().find(|line| line.ends_with(".backup")).context("no backup is listed")?.to_owned();
    let whole = std::fs::read(format!("{folder}/{name}"))?;
    world.wipe().await?;
    world.migrate().await?;
    let empty = digests(&world).await?;

    let cut = whole[..whole.len() - 1000].to_vec();
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for (bad, bytes) in [("cut", cut), ("changed", changed)] {
        let path = format!("{folder}/{bad}");
        std::fs::write(&path, bytes)?;
        for command in [&["restore", path.as_str()][..], &["restore", "--check", path.as_str()]] {
            let refused = world.run_with(command, &settings(folder), SOON).await?;
            ensure!(!refused.status.success(), "{bad}: {}", refused.output);
            ensure!(refused.output.contains("cut off or changed"), "{bad}: {}", refused.output);
        }
        ensure!(digests(&world).await? == empty, "{bad}: something of it was restored");
    }
    let other = [
        ("ORRERY_BACKUP__FOLDER", folder),
        ("ORRERY_BACKUP__KEY", "T1RIRVJPVEhFUk9USEVST1RIRVJPVEhFUk9USEVSISE="),
    ];
    let refused = world.run_with(&["restore", &name], &other, SOON).await?;
    ensure!(!refused.status.success() && refused.output.contains("backup.key"), "{}", refused.output);

    // On a machine with keys of its own: they are told, and the backup's can be had.
    let keys = world.folder().join("keys");
    std::fs::create_dir(&keys)?;
    let strange = [
        settings(folder).as_slice(),
        &[("ORRERY_KEYS__MASTER", "U1RSQU5HRVNUUkFOR0VTVFJBTkdFU1RSQU5HRSEhISE=")],
    ]
    .concat();
    let refused = world.run_with(&["restore"], &strange, SOON).await?;
    ensure!(!refused.status.success() && refused.output.contains("--keys-into"), "{}", refused.output);
    let keys = keys.to_str().context("a path that is no UTF-8")?;
    let written = world.run_with(&["restore", "--keys-into", keys], &strange, SOON).await?;
    ensure!(written.status.success(), "{}", written.output);
    let (master, mail) = (format!("{keys}/keys.master"), format!("{keys}/keys.mail"));
    let kept = std::fs::read_to_string(&master)?;
    world.secret(kept.trim());
    world.secret(std::fs::read_to_string(&mail)?.trim());
    let restored = world.run_with(&["restore"], &settings(folder), SOON).await?;
    ensure!(restored.status.success(), "{}", restored.output);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_go_to_a_bucket_and_only_as_many_are_kept_as_were_asked_for() -> Result<()> {
    let world = World::start().await?;
    let mut all = world.spawn(&[]).await?;
    fill(&world).await?;
    all.terminate(SOON).await?;
    let storage = world.storage_settings();
    let mut settings: Vec<(&str, &str)> = vec![
        ("ORRERY_BACKUP__KEY", KEY),
        ("ORRERY_BACKUP__STORAGE__BUCKET", "orrery-backups"),
        ("ORRERY_BACKUP__KEEP", "1"),
    ];
    settings.extend(storage.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    for _ in 0..2 {
        let made = world.run_with(&["backup"], &settings, SOON).await?;
        ensure!(made.status.success(), "{}", made.output);
        // A name has the second it was made in.
        let second = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_secs();
        orrery_tests::deadline::eventually(SOON, "the next second", async || {
            (std::time::SystemTime::UNIX_EPOCH.elapsed().ok()?.as_secs() > second).then_some(())
        })
        .await?;
    }
    let listed = world.run_with(&["backup", "--list"], &settings, SOON).await?.output;
    ensure!(listed.lines().filter(|line| line.ends_with(".backup")).count() == 1, "{listed}");
    let (rows, files) = (digests(&world).await?, objects(&world)?);
    world.wipe().await?;
    let restored = world.run_with(&["restore"], &settings, SOON).await?;
    ensure!(restored.status.success(), "{}", restored.output);
    ensure!(digests(&world).await? == rows && objects(&world)? == files, "something is other than it was");
    Ok(())
}
