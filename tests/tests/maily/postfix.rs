//! What postfix takes and others read: languages, both bodies, DKIM by both algorithms, and a certificate that is not its name's.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use orrery_tests::{Person, World, deadline::eventually};

use crate::{
    read_back::read,
    servers::{Postfix, run},
};

const SOON: Duration = Duration::from_secs(90);
const LOCALES: [(&str, &str); 4] =
    [("en", "Welcome"), ("fr", "Bienvenue"), ("de", "Willkommen"), ("es", "bienvenida")];

/// Keys of both algorithms, and the configuration that signs by them.
fn signing(world_folder: &std::path::Path) -> Result<String> {
    let mut text = String::new();
    for (selector, options) in [
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"][..]),
        ("ed", &["-algorithm", "ED25519"][..]),
    ] {
        let file = world_folder.join(format!("{selector}.pem"));
        let file = file.to_str().context("a path that is no UTF-8")?;
        run("openssl", &[&["genpkey", "-out", file][..], options].concat())?;
        text += &format!(
            "[[maily.dkim]]\nselector = '{selector}'\ndomain = 'orrery.example'\nkey_file = '{file}'\n"
        );
    }
    Ok(text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postfix, root and dkimpy: ./dev test maily"]
async fn postfix_takes_every_language_signed_so_that_others_verify_it() -> Result<()> {
    let postfix = Postfix::start().await?;
    let keys = tempfile::tempdir()?;
    let file = keys.path().join("orrery.toml");
    std::fs::write(&file, signing(keys.path())?)?;
    let file = file.to_str().context("a path that is no UTF-8")?;
    let mut builder = World::builder().env("ORRERY_CONFIG", file);
    for (key, value) in postfix.settings() {
        builder = builder.env(key, &value);
    }
    let world = builder.start().await?;
    // What an operator is told to write into DNS.
    let told = world.run(&["mail", "test", "tester@people.example"], SOON).await?;
    ensure!(told.status.success(), "{}", told.output);
    let records: BTreeMap<String, String> = told
        .output
        .lines()
        .filter_map(|line| line.strip_prefix("* DNS should have: ")?.split_once(" TXT "))
        .map(|(name, text)| (name.to_owned(), text.trim_matches('"').to_owned()))
        .collect();
    for name in ["rsa._domainkey.orrery.example", "ed._domainkey.orrery.example"] {
        ensure!(records.contains_key(name), "no record {name} is told:\n{}", told.output);
    }
    let _all = world.spawn(&[]).await?;
    let people: Vec<Person> = LOCALES.iter().map(|(locale, _)| Person::new().reading(locale)).collect();
    for person in &people {
        world.client()?.sign_up(person).await?.expect(201)?;
    }
    let count = people.len() + 1;
    eventually(SOON, "the mails", async || (postfix.delivered().len() >= count).then_some(())).await?;

    let messages = read(&records, &postfix.delivered())?;
    ensure!(messages.len() == count, "{} messages", messages.len());
    for message in &messages {
        ensure!(message.faults.is_empty(), "{:?}", message.faults);
        ensure!(message.longest_line <= 998, "a line of {} bytes", message.longest_line);
        ensure!(
            message.from == "no-reply@orrery.example" && message.media_type == "multipart/alternative",
            "{message:?}"
        );
        ensure!(message.auto_submitted.as_deref() == Some("auto-generated"), "{:?}", message.auto_submitted);
        let mut algorithms: Vec<_> =
            message.signatures.iter().map(|signature| signature.algorithm.as_str()).collect();
        algorithms.sort_unstable();
        ensure!(algorithms == ["ed25519-sha256", "rsa-sha256"], "{algorithms:?}");
        for signature in &message.signatures {
            ensure!(signature.valid, "{}: {:?}", signature.algorithm, signature.fault);
            ensure!(signature.domain == "orrery.example");
            for header in ["from", "to", "subject", "date", "message-id"] {
                ensure!(signature.signed.iter().any(|signed| signed == header), "{header} is not signed");
            }
        }
    }
    for (person, (locale, word)) in people.iter().zip(LOCALES) {
        let message = messages
            .iter()
            .find(|message| message.delivered_to == person.email)
            .context("a mail is missing")?;
        ensure!(message.to == std::slice::from_ref(&person.email));
        ensure!(message.language.as_deref() == Some(locale), "{:?}", message.language);
        let both = [
            &message.subject,
            message.text.as_ref().context("no text")?,
            message.html.as_ref().context("no HTML")?,
        ];
        ensure!(
            both.iter().any(|part| part.to_lowercase().contains(&word.to_lowercase())),
            "{locale}: {}",
            message.subject
        );
        ensure!(both[1].contains(&person.id) && both[2].contains(&person.id), "{locale} names nobody");
    }
    // Who changes a word, or has another key in DNS, is found out.
    let first = postfix.delivered().into_iter().next().context("no message")?;
    let raw = std::fs::read_to_string(&first)?;
    let changed = keys.path().join("changed");
    std::fs::write(&changed, raw.replacen("Subject: ", "Subject: Re: ", 1))?;
    let (rsa, ed) = ("rsa._domainkey.orrery.example", "ed._domainkey.orrery.example");
    let mut swapped = records.clone();
    swapped.insert(rsa.to_owned(), records[ed].clone());
    swapped.insert(ed.to_owned(), records[rsa].clone());
    for (records, file) in [(&records, changed), (&swapped, first)] {
        for signature in &read(records, &[file])?[0].signatures {
            ensure!(!signature.valid, "{} verifies what was changed", signature.algorithm);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postfix and root: ./dev test maily"]
async fn a_postfix_whose_certificate_is_not_its_names_gets_nothing() -> Result<()> {
    let postfix = Postfix::start().await?;
    let mut builder = World::builder();
    for (key, value) in postfix.settings() {
        builder = builder.env(key, &value);
    }
    // Its certificate is for localhost.
    let world = builder.env("ORRERY_MAILY__SMTP__HOST", "127.0.0.1").start().await?;
    let service = world.spawn(&[]).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    eventually(SOON, "mail is told as away", async || {
        let health = service.health().await.ok()?;
        health.body["degraded"].to_string().contains("mail").then_some(())
    })
    .await?;
    ensure!(postfix.delivered().is_empty(), "it got a mail");
    ensure!(
        world.database().count("SELECT count(*) FROM bus.dead_letters").await? == 0,
        "the mail was given up"
    );
    Ok(())
}
