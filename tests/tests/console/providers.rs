//! The admin API of service providers: programs with a token of their own, and nobody else.

use anyhow::{Context, Result, ensure};
use orrery_tests::World;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Browser, Page, SOON};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_registers_providers_and_a_cookie_does_not() -> Result<()> {
    let world = World::start().await?;
    let service = world.spawn(&["console"]).await?;
    let made = async |kind: &str| -> Result<String> {
        let made = world.run_revealing(&["console", "token", kind, "--name", "ada"], &[], SOON).await?;
        ensure!(made.status.success(), "{}", made.output);
        let token = made.output.lines().find(|line| line.starts_with("v1.")).context("no token")?.trim();
        world.secret(token);
        Ok(token.to_owned())
    };
    let (token, reader) = (made("--admin").await?, made("--api").await?);
    let program = Browser::new(&service)?;
    let ask = async |method: Method, path: &str, body: Option<Value>, token: Option<&str>| -> Result<Page> {
        let mut request = program.http.request(method, format!("{}{path}", program.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        program.send(request).await
    };
    let (at, token) = ("/api/providers/sp1", Some(token.as_str()));
    let sp1 = json!({"title": "Ada's shop", "colour": "#1A2B3C", "domains": ["one.example.org"], "upstreams": ["http://127.0.0.1:1"]});

    // Neither without a token nor by one that reads, nor by a cookie, which a browser sends by itself.
    ask(Method::PUT, at, Some(sp1.clone()), None).await?.expect(401)?;
    ask(Method::PUT, at, Some(sp1.clone()), Some(&reader)).await?.expect(401)?;
    // And the token opens nothing else.
    ask(Method::GET, "/api/overview.json", None, token).await?.expect(401)?;
    let browser = Browser::logged_in(&world, &service).await?;
    let url = format!("{}{at}", browser.base);
    browser.send(browser.http.put(&url).json(&sp1)).await?.expect(401)?;
    browser.send(browser.http.delete(&url)).await?.expect(401)?;
    ensure!(world.database().count("SELECT count(*) FROM providers.providers").await? == 0);

    ask(Method::GET, at, None, token).await?.expect(404)?;
    let made: Value = serde_json::from_str(&ask(Method::PUT, at, Some(sp1), token).await?.expect(201)?)?;
    ensure!(made["title"] == "Ada's shop" && made["colour"] == "#1a2b3c", "{made}");
    ensure!(made["requests_per_second"] == 500 && made["usage"] == json!([]), "{made}");
    let changed = ask(Method::PUT, at, Some(json!({"concurrent": 7})), token).await?.expect(200)?;
    let changed: Value = serde_json::from_str(&changed)?;
    ensure!(changed["concurrent"] == 7 && changed["domains"] == json!(["one.example.org"]), "{changed}");
    for (body, status) in [
        (json!({"concurrent": 0}), 422),
        (json!({"domains": ["127.0.0.1"]}), 422),
        (json!({"upstreams": ["http://a/b"]}), 422),
        (json!({"unknown": 1}), 422),
    ] {
        ask(Method::PUT, at, Some(body), token).await?.expect(status)?;
    }
    let other = json!({"domains": ["one.example.org"], "upstreams": ["http://127.0.0.1:2"]});
    ask(Method::PUT, "/api/providers/sp2", Some(other.clone()), token).await?.expect(409)?;
    ask(Method::PUT, "/api/providers/Sp2", Some(other), token).await?.expect(422)?;
    let listed = ask(Method::GET, "/api/providers.json", None, Some(&reader)).await?.expect(200)?;
    let listed: Value = serde_json::from_str(&listed)?;
    ensure!(listed["providers"].as_array().is_some_and(|all| all.len() == 1), "{listed}");
    ask(Method::DELETE, at, None, token).await?.expect(204)?;
    ask(Method::DELETE, at, None, token).await?.expect(404)?;
    let sql = "SELECT count(*) FROM console.audit WHERE actor = 'ada' AND face = 'console' AND finished_at IS NOT NULL AND action LIKE 'provider.%'";
    let lines = world.database().count(sql).await?;
    ensure!(lines == 9, "{lines} lines in the audit log");
    Ok(())
}
