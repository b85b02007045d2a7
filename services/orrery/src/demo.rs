//! `orrery demo`: the main job, done from outside as an app does it. Exits 0 only when every step was true. It removes what it made,
//! where the server has the routes for it.

mod mailbox;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use orrery_schemas::trace::TraceParent;
use orrery_supervise::random::Random;
use reqwest::{Client, StatusCode, redirect::Policy};
use serde_json::{Value, json};
use url::Url;

use crate::config::Config;
use mailbox::Mailbox;

/// NASA's photograph of the astronaut Eileen Collins, in the public domain.
const PHOTOGRAPH: &[u8] = include_bytes!("../../../tests/pictures/astronaut.jpg");
const DEADLINE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

struct Demo {
    client: Client,
    base: Url,
    name: String,
    email: String,
    password: String,
    trace: TraceParent,
    since: Instant,
}

/// Runs every step, telling each with its time.
pub async fn demo(config: Config, url: Option<Url>) -> anyhow::Result<ExitCode> {
    let base = match url {
        Some(url) => url,
        None => {
            let gateway: orrery_gateway::config::Config = config.source.section("gateway")?;
            Url::parse(&format!("http://{}", gateway.listen))?
        }
    };
    let random = Random::system()?;
    let tag: String = random.bytes::<6>().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut demo = Demo {
        client: client(&base)?,
        base,
        name: format!("demo_{tag}"),
        email: format!("demo-{tag}@orrery.example"),
        password: format!("orrery {tag} turns"),
        trace: random.trace(),
        since: Instant::now(),
    };
    say(&format!("orrery demo against {}", demo.base));
    let mailbox = Mailbox::open(&config, &demo.trace).await.context("the welcome mail")?;
    demo.since = Instant::now();
    let token = demo.sign_up().await.context("sign-up")?;
    let name = demo.name.clone();
    demo.step("signed up", &name);
    let shown = demo.show(&token, mailbox).await;
    // Whatever became of the steps: they have made something by now.
    let removed = demo.remove(&token).await;
    if let (Err(_), Err(error)) = (&shown, &removed) {
        say(&format!("{name} could not be removed: {}", crate::told(error)));
    }
    shown?;
    removed.with_context(|| format!("{name} could not be removed"))?;
    say("everything is true");
    Ok(ExitCode::SUCCESS)
}

/// A client that trusts the system's authorities, where the address wants any.
fn client(base: &Url) -> anyhow::Result<Client> {
    let client = Client::builder().redirect(Policy::none()).timeout(DEADLINE);
    match base.scheme() {
        "https" => {
            client.build().context("this system trusts no certificate authority: install ca-certificates")
        }
        _ => Ok(client.tls_certs_only([]).build()?),
    }
}

impl Demo {
    fn url(&self, path: &str) -> anyhow::Result<Url> {
        Ok(self.base.join(path)?)
    }

    #[expect(clippy::print_stdout, reason = "what the command is for")]
    fn step(&mut self, what: &str, detail: &str) {
        println!("{:>6} ms  {what:<18} {detail}", self.since.elapsed().as_millis());
        self.since = Instant::now();
    }

    async fn sign_up(&self) -> anyhow::Result<String> {
        let body = json!({
            "id": self.name, "email": self.email, "password": self.password, "locale": "en",
        });
        let answer = self
            .client
            .post(self.url("/create")?)
            .header("traceparent", self.trace.to_string())
            .json(&body)
            .send()
            .await?;
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status == StatusCode::CREATED, "answered {status}: {body}");
        let body: Value = serde_json::from_str(&body)?;
        body.get("access_token").and_then(Value::as_str).map(str::to_owned).context("no access token")
    }

    /// The steps of somebody who has signed up.
    async fn show(&mut self, token: &str, mailbox: Mailbox) -> anyhow::Result<()> {
        let how = mailbox.wait_for(&self.email).await.context("the welcome mail")?;
        self.step("welcome mail", &how);
        let location = self.upload(token).await.context("the upload")?;
        self.step("picture taken", &format!("{} KiB, 202 Accepted", PHOTOGRAPH.len() / 1024));
        self.wait_done(token, &location).await.context("the optimised picture")?;
        self.step("picture optimised", "three variants in the profile");
        let fetched = self.fetch(token).await.context("the variants")?;
        self.step("variants fetched", &fetched);
        Ok(())
    }

    async fn upload(&self, token: &str) -> anyhow::Result<String> {
        let answer = self
            .client
            .put(self.url("/users/@me/avatar")?)
            .bearer_auth(token)
            .header("content-type", "image/jpeg")
            .body(PHOTOGRAPH)
            .send()
            .await?;
        let location =
            answer.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (status, body) = (answer.status(), answer.text().await?);
        ensure!(status == StatusCode::ACCEPTED, "answered {status}: {body}");
        // The public address need not be the one by which the gateway is reached from here.
        Ok(self.url(&location.context("no Location")?)?.path().to_owned())
    }

    async fn wait_done(&self, token: &str, location: &str) -> anyhow::Result<()> {
        until("the upload is still pending", || async {
            let answer: Value =
                self.client.get(self.url(location)?).bearer_auth(token).send().await?.json().await?;
            match answer.get("status").and_then(Value::as_str) {
                Some("done") => Ok(true),
                Some("pending") => Ok(false),
                _ => bail!("the upload ended as {answer}"),
            }
        })
        .await
    }

    async fn fetch(&self, token: &str) -> anyhow::Result<String> {
        let me: Value =
            self.client.get(self.url("/users/@me")?).bearer_auth(token).send().await?.json().await?;
        let icons = me.get("icon").and_then(Value::as_array).cloned().unwrap_or_default();
        ensure!(icons.len() == 3, "the profile has {} variants, not 3", icons.len());
        let mut told = Vec::new();
        for icon in &icons {
            let url = icon.get("url").and_then(Value::as_str).context("a variant without an address")?;
            let path = Url::parse(url)?.path().to_owned();
            let answer = self.client.get(self.url(&path)?).send().await?.error_for_status()?;
            let bytes = answer.bytes().await?;
            ensure!(bytes.get(8..12) == Some(b"WEBP"), "{path} is no WebP picture");
            told.push(format!("{} px {} KiB", icon.get("width").unwrap_or(&Value::Null), bytes.len() / 1024));
        }
        let short = self.client.get(self.url(&format!("/avatars/{}", self.name))?).send().await?;
        ensure!(short.status() == StatusCode::FOUND, "/avatars/{} answered {}", self.name, short.status());
        Ok(told.join(", "))
    }

    /// Removes picture and account, as far as the server has routes for it, and says what stays.
    async fn remove(&mut self, token: &str) -> anyhow::Result<()> {
        let picture = self.client.delete(self.url("/users/@me/avatar")?).bearer_auth(token).send().await?;
        let (status, body) = (picture.status(), picture.text().await?);
        ensure!(status.is_success() || is_not_offered(status), "the picture: answered {status}: {body}");
        let account = self
            .client
            .delete(self.url("/users/@me")?)
            .bearer_auth(token)
            .json(&json!({"password": self.password}))
            .send()
            .await?;
        let (status, body) = (account.status(), account.text().await?);
        let body: Value = serde_json::from_str(&body).unwrap_or(Value::String(body));
        let name = self.name.clone();
        if is_not_offered(status) {
            let why = format!("{name} could not be removed: the server has no DELETE /users/@me");
            self.step("account stays", &why);
            return Ok(());
        }
        ensure!(status.is_success(), "answered {status}: {body}");
        let told = match body.get("restorableUntil").and_then(Value::as_str) {
            Some(until) => format!("{name}, for good after {until}"),
            None => name,
        };
        self.step("account removed", &told);
        Ok(())
    }
}

/// Whether an answer says that there is no such route; nobody else's account is meant by ours.
fn is_not_offered(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
}

/// Looks again and again, at longer and longer intervals.
async fn until(
    otherwise: &str,
    mut condition: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let (end, mut pause) = (Instant::now() + DEADLINE, FIRST_PAUSE);
    while !condition().await? {
        ensure!(Instant::now() < end, "{otherwise} after {DEADLINE:?}");
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.5).min(LONGEST_PAUSE);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn say(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer() {
        let mut looks = Vec::new();
        let six = until("nothing", async || {
            looks.push(Instant::now());
            Ok(looks.len() == 6)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(six).unwrap();
        let pauses: Vec<_> = looks.iter().zip(looks.iter().skip(1)).map(|(a, b)| *b - *a).collect();
        // 20 ms, 30, 45, 68, 101
        assert!(pauses.iter().sum::<Duration>() >= Duration::from_millis(250), "{pauses:?}");
    }
}
