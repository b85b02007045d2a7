//! From the 201 of a sign-up to the mail at the SMTP server; sign-up and login themselves beside bare Argon2id.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use orrery_tests::Person;

use crate::figures::{Bound, Figure, Times, milliseconds};
use crate::progress;
use crate::stage::{PATIENCE, Stage};

const WARM_UP: usize = 5;
const MEASURED: usize = 100;
const MAIL_AIM_MS: f64 = 50.0;

/// Signs people up one after the other, each when the mail of the one before is there; then logs them in.
///
/// # Errors
/// A sign-up or login fails, or a mail does not come.
pub async fn measure(stage: &Stage) -> Result<Vec<Figure>> {
    progress("bare Argon2id");
    let argon2 = argon2_times()?;
    let limit = Bound::Limit(milliseconds(argon2.percentile(50)?));
    progress(&format!("{MEASURED} sign-ups, each to its mail, and logins"));
    let client = stage.client()?;
    let (mut sign_ups, mut mails, mut logins) = (Times::default(), Times::default(), Times::default());
    let people: Vec<Person> = (0..WARM_UP + MEASURED).map(|_| Person::new()).collect();
    for (number, person) in people.iter().enumerate() {
        let sent = Instant::now();
        client.signed_up(person).await?;
        let answered = Instant::now();
        let arrived = mail_to(stage, person).await?;
        if number >= WARM_UP {
            sign_ups.add(answered - sent);
            // A mail that overtakes its 201 took no time.
            mails.add(arrived.saturating_duration_since(answered));
        }
    }
    for person in people.iter().skip(WARM_UP) {
        let sent = Instant::now();
        client.logged_in(person).await?;
        logins.add(sent.elapsed());
    }
    Ok(vec![
        mails.figure("201 to mail at the SMTP server", 50, Bound::Aim(MAIL_AIM_MS))?,
        mails.figure("201 to mail at the SMTP server", 99, Bound::Aim(MAIL_AIM_MS))?,
        argon2.figure("bare Argon2id (19456 KiB, 2, 1)", 50, Bound::None)?,
        sign_ups.figure("sign-up (POST /create)", 50, limit)?,
        sign_ups.figure("sign-up (POST /create)", 99, limit)?,
        logins.figure("login (POST /login)", 50, limit)?,
        logins.figure("login (POST /login)", 99, limit)?,
    ])
}

async fn mail_to(stage: &Stage, person: &Person) -> Result<Instant> {
    let smtp = stage.world.smtp();
    let mails =
        smtp.wait_until(|mails| mails.iter().rev().any(|mail| mail.is_to(&person.email)), PATIENCE).await?;
    let mail = mails.iter().rev().find(|mail| mail.is_to(&person.email));
    Ok(mail.context("the mail is gone again")?.received_at)
}

/// One hash with the parameters of autha, memory kept between hashes as its workers keep it.
fn argon2_times() -> Result<Times> {
    let params = Params::new(19_456, 2, 1, None)?;
    let mut memory = vec![Block::new(); params.block_count()];
    let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut times = Times::default();
    for number in 0..WARM_UP + MEASURED {
        let mut output = [0; Params::DEFAULT_OUTPUT_LEN];
        let start = Instant::now();
        hasher.hash_password_into_with_memory(b"a long password", &[7; 16], &mut output, &mut memory)?;
        let time: Duration = start.elapsed();
        if number >= WARM_UP {
            times.add(time);
        }
    }
    Ok(times)
}
