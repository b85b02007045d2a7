//! The console over HTTP: who is let in, what is shown, what is done, and what it says while broker or database are away.

#![expect(clippy::indexing_slicing, reason = "what a JSON value lacks is null")]

mod accounts;
mod acts;
mod alerts;
mod browser;
mod letters;
mod outages;
mod providers;
mod roles;
mod webhooks;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{Service, World, deadline::eventually};
use reqwest::{
    RequestBuilder, StatusCode,
    header::{COOKIE, LOCATION, ORIGIN, SET_COOKIE},
    redirect,
};

/// The longest that anything here may take.
const SOON: Duration = Duration::from_secs(40);

/// A browser without scripts: it keeps its cookie and follows nothing.
struct Browser {
    http: reqwest::Client,
    base: String,
    cookie: String,
}

/// An answer, read.
struct Page {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Page {
    /// The text, if the answer has this status.
    fn expect(self, status: u16) -> Result<String> {
        ensure!(self.status.as_u16() == status, "{} instead of {status}: {}", self.status, self.text);
        Ok(self.text)
    }

    fn location(&self) -> &str {
        self.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default()
    }
}

impl Browser {
    /// One that nobody is logged in with.
    fn new(service: &Service) -> Result<Self> {
        let http =
            reqwest::Client::builder().redirect(redirect::Policy::none()).tls_certs_only([]).timeout(SOON);
        Ok(Self { http: http.build()?, base: service.console_url(), cookie: String::new() })
    }

    /// One that is logged in by a link of the command line.
    async fn logged_in(world: &World, service: &Service) -> Result<Self> {
        let mut browser = Self::new(service)?;
        let token = link(world).await?;
        let page = browser.send(browser.post("/login", &[("token", &token)])).await?;
        browser.take_cookie(&page)?;
        page.expect(303)?;
        Ok(browser)
    }

    fn take_cookie(&mut self, page: &Page) -> Result<()> {
        let set = page.headers.get(SET_COOKIE).context("no cookie")?.to_str()?;
        for flag in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            ensure!(set.contains(flag), "{flag} is missing in the cookie");
        }
        self.cookie = set.split(';').next().unwrap_or_default().to_owned();
        Ok(())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Page> {
        let answer = request.header(COOKIE, &self.cookie).send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        // Where a long word may break is no part of it.
        let text = answer.text().await?.replace("<wbr>", "");
        Ok(Page { status, headers, text })
    }

    async fn get(&self, path: &str) -> Result<Page> {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }

    fn post(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.base)).header(ORIGIN, &self.base).form(fields)
    }

    /// The form token of any page.
    async fn form(&self) -> Result<String> {
        let page = self.get("/jobs").await?.expect(200)?;
        let (_, rest) = page.split_once("name=\"form\" value=\"").context("no form")?;
        Ok(rest.split('"').next().unwrap_or_default().to_owned())
    }

    /// Sends a page's own form.
    async fn act(&self, path: &str, fields: &[(&str, &str)]) -> Result<Page> {
        let form = self.form().await?;
        let mut all = vec![("form", form.as_str())];
        all.extend_from_slice(fields);
        self.send(self.post(path, &all)).await
    }

    /// The page, once it has `text`.
    async fn until(&self, path: &str, text: &str) -> Result<String> {
        eventually(SOON, &format!("{path} says '{text}'"), async || {
            let page = self.get(path).await.ok()?.expect(200).ok()?;
            page.contains(text).then_some(page)
        })
        .await
    }
}

/// The token of a link of `orrery console token`.
async fn link(world: &World) -> Result<String> {
    let told = world.run_revealing(&["console", "token", "--name", "ada"], &[], SOON).await?;
    ensure!(told.status.success(), "{}", told.output);
    let (_, token) = told.output.split_once("token=").context("no link")?;
    let token = token.split_whitespace().next().unwrap_or_default().to_owned();
    world.secret(&token);
    Ok(token)
}

/// Dead letters as archived, with ids in the order of archiving.
async fn make_letters(world: &World, count: u32, reason: &str) -> Result<()> {
    let headers = r#"{"cloudEvents_specversion": "1.0", "cloudEvents_id": "1", "cloudEvents_source": "/test", "cloudEvents_type": "com.gravitalia.email"}"#;
    let sql = format!(
        "INSERT INTO bus.dead_letters (id, handler, letter, source, event_id, type, reason, attempts, failed_at, content_type, headers, body) \
         SELECT (lpad(to_hex(1700000000000 + n), 12, '0') || '7000800000000000' || lpad(to_hex(n), 4, '0'))::uuid, 'maily.email', 'letter-' || n || random(), '/test', \
                n::text, 'com.gravitalia.email', '{reason}', 2, now(), 'application/json', '{headers}', \
                convert_to('{{\"account\": \"1\", \"username\": \"Margarethe\", \"n\": 1}}', 'UTF8') \
         FROM generate_series(1, {count}) AS n"
    );
    world.database().execute(&sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_logs_in_once_and_a_session_ends_with_its_log_out() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    let nobody = Browser::new(&service)?;
    let page = nobody.get("/").await?;
    ensure!(page.status == 303 && page.location() == "/login", "{}", page.status);
    nobody.get("/login").await?.expect(200)?;
    for path in ["/api/overview.json", "/live/overview"] {
        nobody.get(path).await?.expect(401)?;
    }

    let token = link(&world).await?;
    let mut ada = Browser::new(&service)?;
    // Looking at the link uses nothing up.
    ada.get(&format!("/login?token={token}")).await?.expect(200)?;
    let page = ada.send(ada.post("/login", &[("token", &token)])).await?;
    ada.take_cookie(&page)?;
    ensure!(page.status == 303 && page.location() == "/", "{}: {}", page.status, page.text);
    nobody.send(nobody.post("/login", &[("token", &token)])).await?.expect(403)?;
    nobody.send(nobody.post("/login", &[("token", "v1.00000000.AAAA")])).await?.expect(403)?;

    let overview = ada.until("/", "maily.email").await?;
    ensure!(overview.contains("spinoza") && overview.contains("<svg"), "{overview}");
    for path in [
        "/queues",
        "/dead",
        "/jobs",
        "/outbox",
        "/outbox?which=failed",
        "/actors",
        "/replicas",
        "/audit",
        "/start",
        "/mail",
        "/accounts",
        "/webhooks",
        "/events",
        "/routes",
    ] {
        let page = ada.get(path).await?;
        let policy = page.headers.get("content-security-policy").and_then(|policy| policy.to_str().ok());
        ensure!(
            policy.is_some_and(|policy| policy.contains("script-src 'self'") && !policy.contains("unsafe")),
            "{path}"
        );
        let text = page.expect(200)?;
        ensure!(
            !text.contains("<script>") && !text.contains("style=\"") && !text.contains("onclick"),
            "{path} has something inline"
        );
    }
    for facts in ["overview", "queues", "dead", "outbox", "replicas", "jobs", "audit", "check"] {
        let page = ada.get(&format!("/api/{facts}.json")).await?.expect(200)?;
        serde_json::from_str::<serde_json::Value>(&page).with_context(|| facts.to_owned())?;
    }
    ada.get("/nowhere").await?.expect(404)?;
    ensure!(ada.until("/audit", "console.log_in").await?.contains("ada"));

    // A forged cookie, and one that was changed, are nobody's.
    for cookie in ["orrery_console=v1.00000000.AAAA".to_owned(), format!("{}x", ada.cookie)] {
        let forged = Browser { http: ada.http.clone(), base: ada.base.clone(), cookie };
        ensure!(forged.get("/").await?.status == 303);
        forged.send(forged.post("/actors/restart", &[("actor", "console.observer")])).await?.expect(401)?;
    }
    ada.act("/logout", &[]).await?.expect(303)?;
    ensure!(ada.get("/").await?.status == 303, "the cookie is good still");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_reads_facts_by_a_bearer_token_and_changes_nothing() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&[]).await?;
    let told = world.run_revealing(&["console", "token", "--api"], &[], SOON).await?;
    let token = told.output.lines().next().context("no token")?.to_owned();
    world.secret(&token);
    let browser = Browser::new(&service)?;
    let with = |request: RequestBuilder| request.bearer_auth(&token);
    let page = browser
        .send(with(browser.http.get(format!("{}/api/check.json", browser.base))))
        .await?
        .expect(200)?;
    ensure!(page.contains("\"configuration\""), "{page}");
    ensure!(browser.send(with(browser.http.get(format!("{}/", browser.base)))).await?.status == 303);
    browser.send(with(browser.post("/logout", &[]))).await?.expect(401)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_page_names_one_next_step() -> Result<()> {
    let next = async |settings: &[(&str, &str)]| {
        let mut builder = World::builder();
        for (name, value) in settings {
            builder = builder.env(name, value);
        }
        let world = builder.start().await?;
        let service = world.spawn(&["console"]).await?;
        let page = Browser::logged_in(&world, &service).await?.get("/start").await?.expect(200)?;
        let (_, rest) = page.split_once("class=\"verdict").context("no verdict")?;
        Ok::<_, anyhow::Error>(rest.split("<ul").next().unwrap_or_default().to_owned())
    };
    // The harness' installation is for no public; then what lacks comes before what should be set.
    let domain = next(&[]).await?;
    ensure!(domain.contains("autha.public_url") && !domain.contains("maily."), "{domain}");
    let public = ("ORRERY_AUTHA__PUBLIC_URL", "https://id.orrery.example");
    ensure!(next(&[public]).await?.contains("Everything that is configured works"));
    let mail = next(&[public, ("ORRERY_MAILY__TRANSPORT", "capture"), ("ORRERY_MAILY__CAPTURE_DIR", "/tmp")])
        .await?;
    ensure!(mail.contains("maily.transport to smtp"), "{mail}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_viewers_share_one_look() -> Result<()> {
    const VIEWERS: usize = 40;
    let world = World::builder().env("ORRERY_CONSOLE__POLL_EVERY", "3s").start().await?;
    let service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    ada.until("/api/overview.json", "\"at\"").await?;
    let begun = std::time::Instant::now();
    let mut looks = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let pages = futures_util::future::join_all((0..VIEWERS).map(|_| ada.get("/api/overview.json"))).await;
        for page in pages {
            let facts: serde_json::Value = serde_json::from_str(&page?.expect(200)?)?;
            looks.insert(facts["at"].as_str().context("no time")?.to_owned());
        }
    }
    let most = usize::try_from(begun.elapsed().as_secs() / 3)? + 2;
    ensure!(looks.len() <= most, "{VIEWERS} viewers cost {} looks, where {most} are due", looks.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_that_were_just_made_are_shown_with_what_waits_in_them() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&["console"]).await?;
    let ada = Browser::logged_in(&world, &service).await?;
    // The first look, seconds before the management plugin has figures of new queues.
    let first = ada.until("/api/queues.json", "\"maily.email\"").await?;
    let facts: serde_json::Value = serde_json::from_str(&first)?;
    let queues = facts["queues"].as_array().context("no queues")?;
    for queue in queues {
        ensure!(queue["ready"] == 0 && queue["consumers"] == 0 && queue["retry"] == 0, "{queue}");
    }
    Ok(())
}
