//! Who partners are: made by command and by the admin API, taken over from the configuration, keys that rotate, endpoints that are counted.

use anyhow::{Context, Result, ensure};
use orrery_tests::deadline::until;
use reqwest::Method;
use serde_json::json;

use crate::{
    receiver::Receiver,
    setting::{Party, SOON, Setting, builder, event},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_keys_are_valid_at_once_and_no_third() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let rotate = async || -> Result<String> {
        let output = setting.command(&["rotate-key", "acme"]).await?;
        let secret =
            output.lines().find_map(|line| line.strip_prefix("client_secret ")).context("no secret")?;
        setting.world.secret(secret);
        Ok(secret.to_owned())
    };
    let second = rotate().await?;
    setting.ask_token("acme", &acme.secret, "").await?.expect(200)?;
    setting.ask_token("acme", &second, "").await?.expect(200)?;
    rotate().await?;
    let refused = setting.ask_token("acme", &acme.secret, "").await?.expect(401)?;
    ensure!(refused.body["error"] == "invalid_client", "{}", refused.body);
    setting.ask_token("acme", &second, "").await?.expect(200)?;
    // A token dies with its key.
    until(SOON, "its token is worth nothing", async || {
        acme.send(&event("1")).await.is_ok_and(|answer| answer.status == 401)
    })
    .await?;
    for (name, secret, scope, status) in [
        ("acme", "wrong", "", 401),
        ("beta", second.as_str(), "", 401),
        ("acme", second.as_str(), "partners:admin", 400),
        ("acme", second.as_str(), "everything", 400),
    ] {
        setting.ask_token(name, secret, scope).await?.expect(status)?;
    }
    let client = setting.client()?;
    let basic = client.request(Method::POST, "/partners/token").basic_auth("acme", Some(&second));
    client.send(basic.form(&[("grant_type", "client_credentials")])).await?.expect(200)?;
    let other = client.request(Method::POST, "/partners/token").form(&[("grant_type", "password")]);
    let other = client.send(other).await?.expect(400)?;
    ensure!(other.body["error"] == "unsupported_grant_type", "{}", other.body);
    let digest = setting
        .world
        .database()
        .count("SELECT count(*) FROM partners.keys WHERE octet_length(digest) = 32")
        .await?;
    ensure!(digest == 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_api_does_what_the_command_does_for_operators_only() -> Result<()> {
    let setting = Setting::start().await?;
    let operator = setting.party("operator", &["--admin"]).await?;
    operator.client.get("/admin/partners").await?.expect(403)?;
    let admin = setting.token("operator", &operator.secret, "partners:admin").await?;
    let operator = Party { client: admin, ..operator };
    let new = json!({"name": "acme", "publishes": ["com.acme.#"], "receives": ["com.acme.#"]});
    let made = operator.post("/admin/partners", &new).await?.expect(201)?;
    let secret = made.text("client_secret")?.to_owned();
    setting.world.secret(&secret);
    operator.post("/admin/partners", &new).await?.expect(409)?;
    for (field, value) in [
        ("name", json!("No Name")),
        ("publishes", json!(["com.gravitalia.#"])),
        ("publishes", json!(["#"])),
        ("sources", json!(["*"])),
        ("sources", json!(["com.gravitalia.autha"])),
        ("contact", json!("nobody")),
    ] {
        let mut wrong = json!({"name": "beta"});
        wrong[field] = value.clone();
        let answer = operator.post("/admin/partners", &wrong).await?;
        ensure!(answer.status == 422, "{field} {value}: {}", answer.status);
    }
    // No restart is needed.
    let acme = Party { name: "acme".into(), client: setting.token("acme", &secret, "").await?, secret };
    acme.send(&event("1")).await?.expect(202)?;
    acme.client.get("/admin/partners").await?.expect(403)?;
    let listed = operator.client.get("/admin/partners").await?.expect(200)?.body;
    ensure!(listed["partners"].as_array().is_some_and(|list| list.len() == 2), "{listed}");
    let shown = operator.client.get("/admin/partners/acme").await?.expect(200)?.body;
    ensure!(
        shown["keys"].as_array().is_some_and(|keys| keys.len() == 1) && shown["origin"] == "command",
        "{shown}"
    );
    operator.act(Method::POST, "/admin/partners/acme/disable").await?.expect(200)?;
    until(SOON, "it may do nothing", async || {
        acme.send(&event("2")).await.is_ok_and(|answer| answer.status == 401)
    })
    .await?;
    operator.act(Method::POST, "/admin/partners/acme/enable").await?.expect(200)?;
    until(SOON, "it may again", async || {
        acme.send(&event("3")).await.is_ok_and(|answer| answer.status == 202)
    })
    .await?;
    let rotated = operator.act(Method::POST, "/admin/partners/acme/rotate-key").await?.expect(200)?;
    setting.world.secret(rotated.text("client_secret")?);
    let schema = json!({"type": "object"});
    let put = operator.client.request(Method::PUT, "/admin/event-types/com.acme.order.v1").json(&schema);
    ensure!(operator.client.send(put).await?.expect(200)?.body["version"] == 1);
    let types = operator.client.get("/admin/event-types").await?.expect(200)?.body;
    ensure!(types["event_types"][0]["type"] == "com.acme.order.v1", "{types}");
    operator.act(Method::DELETE, "/admin/partners/acme").await?.expect(204)?;
    operator.client.get("/admin/partners/acme").await?.expect(404)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_audit_log_tells_which_operator_did_what_by_command_and_over_http() -> Result<()> {
    let setting = Setting::start().await?;
    let root = setting.party("root", &["--admin"]).await?;
    let admin = setting.token("root", &root.secret, "partners:admin").await?;
    let root = Party { client: admin, ..root };
    let made = root.post("/admin/partners", &json!({"name": "acme", "receives": ["com.acme.#"]})).await?;
    let secret = made.expect(201)?.text("client_secret")?.to_owned();
    setting.world.secret(&secret);
    // What is refused, and what changes nothing, was not done.
    root.post("/admin/partners", &json!({"name": "acme"})).await?.expect(409)?;
    root.act(Method::POST, "/admin/partners/acme/enable").await?.expect(200)?;
    let rotated = root.act(Method::POST, "/admin/partners/acme/rotate-key").await?.expect(200)?;
    let rotated = rotated.text("client_secret")?.to_owned();
    setting.world.secret(&rotated);
    root.act(Method::POST, "/admin/partners/acme/disable").await?.expect(200)?;
    let put = root.client.request(Method::PUT, "/admin/event-types/com.acme.order.v1");
    root.client.send(put.json(&json!({"type": "object"}))).await?.expect(200)?;
    setting.command(&["enable", "acme"]).await?;
    // What a partner does with its own endpoint is no act of an operator; what an operator does with it is.
    let acme = Party { name: "acme".into(), client: setting.token("acme", &secret, "").await?, secret };
    let receiver = Receiver::start().await?;
    let endpoint = acme.endpoint(&receiver, json!({})).await?;
    let id = endpoint["id"].as_str().context("no id")?;
    acme.post(&format!("/partners/endpoints/{id}/replay"), &json!({"all": true})).await?.expect(200)?;
    setting.command(&["disable", "--endpoint", id]).await?;
    setting.command(&["replay", id, "--all"]).await?;
    root.act(Method::DELETE, "/admin/partners/acme").await?.expect(204)?;

    let printed = setting.command(&["audit"]).await?;
    let lines = printed
        .lines()
        .filter(|line| line.contains("\"actor\""))
        .map(serde_json::from_str::<serde_json::Value>)
        .collect::<Result<Vec<_>, _>>()?;
    let told: Vec<(String, String, String)> = lines
        .iter()
        .rev()
        .map(|line| {
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            let actor = text("actor");
            let actor = if actor.starts_with("cli:") { "cli".to_owned() } else { actor };
            (actor, text("action"), text("target"))
        })
        .collect();
    let wanted = [
        ("cli", "partner.create", "root"),
        ("client:root", "partner.create", "acme"),
        ("client:root", "partner.rotate_key", "acme"),
        ("client:root", "partner.disable", "acme"),
        ("client:root", "event_type.register", "com.acme.order.v1"),
        ("cli", "partner.enable", "acme"),
        ("cli", "endpoint.disable", id),
        ("cli", "endpoint.replay", id),
        ("client:root", "partner.remove", "acme"),
    ];
    let wanted: Vec<_> =
        wanted.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect();
    // A first key comes with its partner, and is no act of its own.
    ensure!(told == wanted, "{told:?}");
    ensure!(!printed.contains(&rotated) && !printed.contains("orrery_secret_"), "a secret is in the log");
    let page = setting.command(&["audit", "--limit", "2"]).await?;
    ensure!(page.lines().filter(|line| line.contains("\"actor\"")).count() == 2, "{page}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partners_of_the_configuration_are_taken_over_at_start() -> Result<()> {
    let partner = orrery_tests::Partner::new();
    let more = "publishes=[\"com.acme.*\"],receives=[\"com.gravitalia.account.#\"]";
    let setting =
        Setting::of(builder().env("ORRERY_BROKER__PARTNERS", &partner.setting(more)), &["partners"]).await?;
    setting.world.secret(&partner.password);
    let listed = async || setting.command(&["list", "--json"]).await;
    until(SOON, "it is taken over", async || {
        listed().await.is_ok_and(|listed| listed.contains(&partner.name))
    })
    .await?;
    ensure!(listed().await?.contains("\"origin\":\"configuration\""));
    let output = setting.command(&["rotate-key", &partner.name]).await?;
    let secret = output.lines().find_map(|line| line.strip_prefix("client_secret ")).context("no secret")?;
    setting.world.secret(secret);
    let client = setting.token(&partner.name, secret, "").await?;
    let party = Party { name: partner.name.clone(), secret: secret.to_owned(), client };
    let mut event = event("1");
    event["type"] = json!("com.acme.order");
    event["source"] = json!(format!("/{}", partner.name));
    party.send(&event).await?.expect(202)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_endpoints_meets_its_limit() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = setting.party("acme", &["--receive", "com.acme.#", "--max-endpoints", "3"]).await?;
    let receiver = Receiver::start().await?;
    let body = json!({"url": receiver.url()});
    let asked = (0..12).map(|_| acme.post("/partners/endpoints", &body));
    let answers = futures_util::future::try_join_all(asked).await?;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    ensure!(
        made == 3 && answers.iter().filter(|answer| answer.status == 403).count() == 9,
        "{made} were made"
    );
    let problem = acme.post("/partners/endpoints", &json!({"url": receiver.url(), "unknown": 1})).await?;
    ensure!(problem.status == 422);
    // Nobody sees another's.
    let beta = setting.party("beta", &["--receive", "com.acme.#"]).await?;
    let id = answers.iter().find(|answer| answer.status == 201).context("none")?.text("id")?;
    beta.client.get(&format!("/partners/endpoints/{id}")).await?.expect(404)?;
    let listed = acme.client.get("/partners/endpoints").await?.expect(200)?.body;
    ensure!(
        listed["endpoints"].as_array().is_some_and(|list| list.len() == 3)
            && !listed.to_string().contains("whsec_")
    );
    Ok(())
}
