//! `orrery demo`: the main job, done from outside as an app does it. Exits 0 only when every step was true.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use orrery_actors::{random::Random, store::Pool};
use orrery_maily::config::TransportKind;
use orrery_schemas::trace::TraceParent;
use reqwest::{Client, StatusCode, redirect::Policy};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use url::Url;

use crate::config::Config;

/// NASA's photograph of the astronaut Eileen Collins, in the public domain.
const PHOTOGRAPH: &[u8] = include_bytes!("../../../tests/pictures/astronaut.jpg");
const DEADLINE: Duration = Duration::from_secs(30);

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
        None => Url::parse(&format!("http://{}", config.gateway.listen))?,
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
    let token = demo.sign_up().await.context("sign-up")?;
    let name = demo.name.clone();
    demo.step("signed up", &name);
    let how = demo.mail(&config).await.context("the welcome mail")?;
    demo.step("welcome mail", &how);
    let location = demo.upload(&token).await.context("the upload")?;
    demo.step("picture taken", &format!("{} KiB, 202 Accepted", PHOTOGRAPH.len() / 1024));
    demo.wait_done(&token, &location).await.context("the optimised picture")?;
    demo.step("picture optimised", "three variants in the profile");
    let fetched = demo.fetch(&token).await.context("the variants")?;
    demo.step("variants fetched", &fetched);
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

    async fn mail(&self, config: &Config) -> anyhow::Result<String> {
        match config.maily.transport {
            TransportKind::Capture => {
                let folder = &config.maily.capture_dir;
                until("no mail was captured", || async { captured(folder, &self.email) }).await?;
                Ok(format!("captured in {}", folder.display()))
            }
            TransportKind::Smtp => {
                // The mailbox is not ours to look into; that the server took the mail is written in the inbox.
                let pool = Pool::admin(&config.database, 1, Handle::current())?;
                let trace = self.trace.trace_id();
                until("no mail was handed over", || async {
                    let mut connection = pool.get().await?;
                    Ok(orrery_actors::store::inbox::done_of_trace(
                        &mut connection,
                        orrery_schemas::email::QUEUE,
                        &trace,
                    )
                    .await?)
                })
                .await?;
                Ok("taken by the SMTP server".to_owned())
            }
        }
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
        location.context("no Location")
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
}

/// Whether a captured mail is to that address.
fn captured(folder: &Path, email: &str) -> anyhow::Result<bool> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(false) };
    for entry in entries {
        let path = entry?.path();
        let is_mail = path.extension().is_some_and(|extension| extension == "eml");
        if is_mail && String::from_utf8_lossy(&std::fs::read(&path)?).contains(email) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn until<F, Fut>(otherwise: &str, condition: F) -> anyhow::Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = anyhow::Result<bool>>,
{
    let end = Instant::now() + DEADLINE;
    while !condition().await? {
        ensure!(Instant::now() < end, "{otherwise} after {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn say(text: &str) {
    println!("{text}");
}
