//! Whether `openapi.yaml` says what a running system does: its paths and methods, and the answers of the main routes.

use anyhow::{Context, Result, bail, ensure};
use orrery_schemas::OPENAPI;
use orrery_tests::{Answer, Client, Person, World, fresh, pictures};
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE, IF_NONE_MATCH},
};
use serde_json::{Value, json};

use crate::{Footprint, LONG, unharmed};

const METHODS: [&str; 7] = ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE"];

/// The description, and how many answers were compared with it.
struct Contract {
    document: Value,
    components: Value,
    compared: usize,
}

/// Says of every object with described fields that it has no others: an answer must not hold what is not described.
fn closed(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            if object.get("type") == Some(&json!("object")) && object.contains_key("properties") {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
            object.values_mut().for_each(closed);
        }
        Value::Array(array) => array.iter_mut().for_each(closed),
        _ => {}
    }
}

impl Contract {
    fn read() -> Result<Self> {
        let document: Value = yaml_serde::from_str(OPENAPI)?;
        let mut components = document["components"].clone();
        closed(&mut components["schemas"]);
        Ok(Self { document, components, compared: 0 })
    }

    /// What a reference leads to, or the value itself.
    fn follow<'a>(&'a self, value: &'a Value) -> Result<&'a Value> {
        let Some(reference) = value["$ref"].as_str() else { return Ok(value) };
        let found = reference.strip_prefix('#').and_then(|pointer| self.document.pointer(pointer));
        found.with_context(|| format!("{reference} leads nowhere"))
    }

    fn fits(&self, schema: &Value, value: &Value, what: &str) -> Result<()> {
        let mut schema = schema.clone();
        schema["components"] = self.components.clone();
        let validator = jsonschema::options().should_validate_formats(true).build(&schema)?;
        let faults: Vec<_> =
            validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        ensure!(faults.is_empty(), "{what}: {faults:?} in {value}");
        Ok(())
    }

    /// Compares an answer with what is described for its status, and gives it back.
    fn check(&mut self, method: &str, path: &str, answer: Answer) -> Result<Answer> {
        let what = format!("{} of {method} {path}", answer.status);
        let operation = &self.document["paths"][path][method.to_lowercase()];
        ensure!(operation.is_object(), "{method} {path} is not described");
        let responses = &operation["responses"];
        let response = responses.get(answer.status.to_string()).or_else(|| responses.get("default"));
        let response = self.follow(response.with_context(|| format!("{what} is not described"))?)?;
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let header = self.follow(header)?;
            match answer.header(name) {
                Some(value) => self.fits(&header["schema"], &json!(value), &format!("{name} in {what}"))?,
                None => ensure!(header["required"] != json!(true), "{what} has no {name}"),
            }
        }
        let media_type = answer
            .header("content-type")
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .to_owned();
        match response["content"].as_object() {
            None => ensure!(answer.bytes.is_empty(), "{what} has a body"),
            Some(content) => {
                let described = content.get(&media_type);
                let described =
                    described.with_context(|| format!("{what} is {media_type:?}: {:?}", answer.bytes))?;
                if let Some(schema) = described.get("schema") {
                    self.fits(schema, &answer.body, &what)?;
                }
            }
        }
        if answer.status >= 400 && !path.starts_with("/health") {
            answer.problem().context(what)?;
        }
        self.compared += 1;
        Ok(answer)
    }
}

/// An address of this path.
fn filled(path: &str) -> Result<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        parts.push(match part {
            "{id}" | "{vanity}" => "nobody_at_all".to_owned(),
            "{upload}" | "{picture}" | "{session}" | "{export}" | "{account}" | "{partner}"
            | "{endpoint}" | "{secret}" => fresh::uuid().to_string(),
            "{type}" => "com.acme.thing.v1".to_owned(),
            "{file}" => "64.webp".to_owned(),
            _ if part.starts_with('{') => bail!("what is {part}?"),
            _ => part.to_owned(),
        });
    }
    Ok(parts.join("/"))
}

#[tokio::test]
async fn described_routes_are_served_and_other_methods_are_not() -> Result<()> {
    // Partners are described too, and run on request only.
    let world = World::builder()
        .env("ORRERY_SERVICES", "autha,maily,spinoza,partners,discovery,gateway,console")
        .start()
        .await?;
    let _orrery = world.spawn(&[]).await?;
    let (stranger, ada) = (world.client()?, world.client()?.signed_up(&Person::new()).await?);
    let before = Footprint::of(&world).await?;
    let mut contract = Contract::read()?;
    let paths = contract.document["paths"].as_object().context("no paths")?.clone();
    for (path, item) in &paths {
        let address = filled(path)?;
        for name in METHODS {
            let method = Method::from_bytes(name.as_bytes())?;
            let what = format!("{name} {path}");
            for client in [&stranger, &ada] {
                let answer = client.send(client.request(method.clone(), &address)).await?;
                if item.get(name.to_lowercase()).is_some() {
                    ensure!(answer.status != 405, "{what} is described and not served");
                    ensure!(
                        !String::from_utf8_lossy(&answer.bytes).contains("nothing is at this"),
                        "{what} is described and not served"
                    );
                    contract.check(name, path, answer)?;
                } else if path != "/auth/verify" {
                    // That one is asked by the method of the request that a proxy asks about.
                    ensure!(answer.status == 405, "{what} is not described and answers {}", answer.status);
                    let allow =
                        answer.header("allow").with_context(|| format!("{what}: no Allow"))?.to_owned();
                    ensure!(!allow.contains(name), "{what}: {allow}");
                    if name != "TRACE" {
                        answer.problem().with_context(|| what.clone())?;
                    }
                }
            }
        }
        let answer = stranger.send(stranger.request(Method::HEAD, &address)).await?;
        let taken = item.get("get").is_some() && !path.starts_with("/health");
        ensure!((answer.status != 405) == taken, "HEAD {path} answers {}", answer.status);
        ensure!(answer.bytes.is_empty(), "HEAD {path} has a body");
    }
    ensure!(contract.compared >= 2 * paths.len(), "only {} answers", contract.compared);
    // To log out takes nothing but the token: that has ended Ada's session, which is told.
    unharmed(&world, &Footprint { sessions: 0, outbox: before.outbox + 1, ..before }).await
}

async fn send(client: &Client, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
    let request = client.request(method, path);
    client
        .send(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
}

async fn accounts(world: &World, contract: &mut Contract) -> Result<Client> {
    let (client, person) = (world.client()?, Person::new());
    let made =
        contract.check("POST", "/create", client.sign_up_with_key(&person, "a key").await?.expect(201)?)?;
    contract.check("POST", "/create", client.sign_up(&person).await?.expect(409)?)?;
    for (body, status) in [(json!([]), 400), (json!({}), 422), (json!("x".repeat(70_000)), 413)] {
        for path in ["/create", "/login", "/oauth/token"] {
            // RFC 6749, 5.2 knows 400 alone.
            let status = if path == "/oauth/token" && status == 422 { 400 } else { status };
            contract.check(
                "POST",
                path,
                send(&client, Method::POST, path, Some(body.clone())).await?.expect(status)?,
            )?;
        }
    }
    contract.check("POST", "/create", send(&client, Method::POST, "/create", None).await?.expect(415)?)?;
    let session = contract.check("POST", "/login", client.login(&person).await?.expect(200)?)?;
    contract.check("POST", "/login", client.login(&Person::new()).await?.expect(401)?)?;
    let token = session.text("refresh_token")?;
    contract.check("POST", "/oauth/token", client.refresh(token).await?.expect(200)?)?;
    contract.check("POST", "/oauth/token", client.refresh("x").await?.expect(400)?)?;
    let ada = client.with_token(made.text("access_token")?);
    contract.check("GET", "/users/@me", ada.me().await?.expect(200)?)?;
    contract.check("GET", "/users/{id}", ada.user(&person.id).await?.expect(200)?)?;
    contract.check("GET", "/users/{id}", ada.user("nobody_at_all").await?.expect(404)?)?;
    let request = ada.request(Method::GET, &format!("/users/{}", person.id));
    let activity = ada.send(request.header(ACCEPT, "application/activity+json")).await?.expect(200)?;
    let activity = contract.check("GET", "/users/{id}", activity)?;
    ensure!(activity.body["id"] == activity.body["url"], "no address as id: {}", activity.body);
    Ok(ada)
}

async fn avatars(ada: &Client, contract: &mut Contract) -> Result<()> {
    const PUT: &str = "/users/@me/avatar";
    const UPLOAD: &str = "/users/@me/avatar/uploads/{upload}";
    let path = ada.me().await?.text("id").map(|id| format!("/avatars/{id}"))?;
    contract.check("GET", "/avatars/{id}", ada.get(&path).await?.expect(200)?)?;
    let broken = [pictures::gradient_png(64, 64)?.get(..60).context("a short picture")?, &[0; 500]].concat();
    let rejected = contract.check("PUT", PUT, ada.put_avatar(broken, "image/png").await?.expect(202)?)?;
    ensure!(ada.wait_upload(rejected.location()?, LONG).await?["status"] == "rejected");
    contract.check("GET", UPLOAD, ada.upload_status(rejected.location()?).await?.expect(200)?)?;
    let taken = contract.check(
        "PUT",
        PUT,
        ada.put_avatar(pictures::astronaut()?, "image/jpeg").await?.expect(202)?,
    )?;
    contract.check("GET", UPLOAD, ada.upload_status(taken.location()?).await?.expect(200)?)?;
    ensure!(ada.wait_upload(taken.location()?, LONG).await?["status"] == "done");
    contract.check("GET", UPLOAD, ada.upload_status(taken.location()?).await?.expect(200)?)?;
    contract.check("PUT", PUT, ada.put_avatar("no picture, not at all", "image/png").await?.expect(422)?)?;
    contract.check("PUT", PUT, ada.put_avatar("x", "text/plain").await?.expect(415)?)?;
    let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>("x")]);
    let request = ada.request(Method::PUT, PUT).header(CONTENT_TYPE, "image/png");
    contract.check(
        "PUT",
        PUT,
        ada.send(request.body(reqwest::Body::wrap_stream(chunks))).await?.expect(411)?,
    )?;

    let icons = contract.check("GET", "/users/@me", ada.me().await?.expect(200)?)?.body["icon"].clone();
    ensure!(icons.as_array().map(Vec::len) == Some(3), "{icons}");
    let current = contract.check("GET", "/avatars/{id}", ada.get(&path).await?.expect(302)?)?;
    contract.check("GET", "/avatars/{id}", ada.get(&format!("{path}?size=64")).await?.expect(302)?)?;
    contract.check("GET", "/avatars/{id}", ada.get(&format!("{path}?size=x")).await?.expect(422)?)?;
    contract.check("GET", "/avatars/{id}", ada.get(&format!("{path}?size=1&size=2")).await?.expect(400)?)?;
    const FILE: &str = "/avatars/{picture}/{file}";
    let variant = contract.check("GET", FILE, ada.get(current.location()?).await?.expect(200)?)?;
    let etag = variant.header("etag").context("no ETag")?.to_owned();
    let request = ada.request(Method::GET, current.location()?).header(IF_NONE_MATCH, etag);
    contract.check("GET", FILE, ada.send(request).await?.expect(304)?)?;
    contract.check("GET", FILE, ada.get(&filled(FILE)?).await?.expect(404)?)?;
    contract.check("DELETE", PUT, ada.delete_avatar().await?.expect(204)?)?;
    contract.check("DELETE", PUT, ada.delete_avatar().await?.expect(204)?)?;
    contract.check("GET", "/users/@me", ada.me().await?.expect(200)?)?;
    Ok(())
}

#[tokio::test]
async fn answers_are_as_they_are_described() -> Result<()> {
    let world = World::start().await?;
    let mut orrery = world.spawn(&[]).await?;
    let mut contract = Contract::read()?;
    let ada = accounts(&world, &mut contract).await?;
    avatars(&ada, &mut contract).await?;
    for path in [
        "/status.json",
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
        "/openapi.json",
        "/health/live",
        "/health/ready",
    ] {
        contract.check("GET", path, ada.get(path).await?.expect(200)?)?;
    }
    let description = contract.check("GET", "/openapi.yaml", ada.get("/openapi.yaml").await?.expect(200)?)?;
    ensure!(description.bytes == OPENAPI.as_bytes(), "another description is served");
    // Without its database it is away, and says when to come again.
    world.proxies().postgres.cut().await;
    contract.check("POST", "/create", ada.sign_up(&Person::new()).await?.expect(503)?)?;
    contract.check("GET", "/users/@me", ada.me().await?.expect(503)?)?;
    contract.check("GET", "/health/ready", ada.get("/health/ready").await?)?;
    world.proxies().postgres.restore().await?;
    orrery.wait_ready(LONG).await
}
