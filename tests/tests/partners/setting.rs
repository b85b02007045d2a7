//! A world with the service `partners`, and clients of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{Answer, Client, Service, World, WorldBuilder, ports::Port, third_party};
use reqwest::Method;
use serde_json::{Value, json};

use crate::receiver::Receiver;

/// The longest that anything may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(40);

/// A world, its process, and where it listens.
pub struct Setting {
    /// The process; it ends before its world.
    pub service: Service,
    /// The world.
    pub world: World,
    port: Port,
}

/// A third party with its credentials.
pub struct Party {
    /// Its client id.
    pub name: String,
    /// Its client secret.
    pub secret: String,
    /// A client with a token of it.
    pub client: Client,
}

/// A world whose settings suit these tests: receivers are on this machine, and pauses short.
pub fn builder() -> WorldBuilder {
    World::builder()
        .env("ORRERY_SERVICES", "autha,partners,maily,gateway")
        .env("ORRERY_PARTNERS__PUBLIC_URL", "http://orrery.example")
        .env("ORRERY_PARTNERS__TARGETS__ALLOW_HTTP", "true")
        .env("ORRERY_PARTNERS__TARGETS__NETWORKS", r#"["127.0.0.0/8"]"#)
        .env("ORRERY_PARTNERS__EVENTS_PER_MINUTE", "0")
        .env("ORRERY_PARTNERS__DELIVERY__TIMEOUT", "2s")
        .env("ORRERY_PARTNERS__DELIVERY__FIRST_DELAY", "200ms")
        .env("ORRERY_PARTNERS__DELIVERY__LONGEST_DELAY", "1s")
}

impl Setting {
    /// The usual one.
    pub async fn start() -> Result<Self> {
        Self::of(builder(), &["partners"]).await
    }

    /// One of a world of this builder, with a process of these services.
    pub async fn of(builder: WorldBuilder, services: &[&str]) -> Result<Self> {
        let port = Port::reserve()?;
        let listen = port.address().to_string();
        let world = builder
            .env("ORRERY_PARTNERS__LISTEN", &listen)
            .env("ORRERY_GATEWAY__UPSTREAMS__PARTNERS", &format!("http://{listen}"))
            .start()
            .await?;
        let service = world.spawn(services).await?;
        Ok(Self { service, world, port })
    }

    /// Where the service listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// A client without a token.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.url())
    }

    /// Runs `orrery partners` with these arguments.
    pub async fn command(&self, arguments: &[&str]) -> Result<String> {
        let all: Vec<&str> = ["partners"].iter().chain(arguments).copied().collect();
        let finished = self.world.run_revealing(&all, &[], SOON).await?;
        ensure!(finished.status.success(), "orrery {}: {}", all.join(" "), finished.output);
        Ok(finished.output)
    }

    /// A party made by the command, with a token.
    pub async fn party(&self, name: &str, more: &[&str]) -> Result<Party> {
        let secret = third_party::create(&self.world, name, more).await?;
        let client = self.token(name, &secret, "").await?;
        Ok(Party { name: name.to_owned(), secret, client })
    }

    /// A client with a token for these credentials; an empty scope is the usual one.
    pub async fn token(&self, name: &str, secret: &str, scope: &str) -> Result<Client> {
        let answer = self.ask_token(name, secret, scope).await?.expect(200)?;
        Ok(self.client()?.with_token(answer.text("access_token")?))
    }

    /// Asks for a token.
    pub async fn ask_token(&self, name: &str, secret: &str, scope: &str) -> Result<Answer> {
        third_party::ask_token(&self.client()?, name, secret, scope).await
    }
}

/// The event of this id.
pub fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/acme/shop", "type": "com.acme.order.v1", "subject": "s", "data": {"total": 12}})
}

impl Party {
    /// The usual sender.
    pub async fn acme(setting: &Setting) -> Result<Self> {
        setting.party("acme", &["--publish", "com.acme.#", "--receive", "com.acme.#"]).await
    }

    /// Sends an event in structured mode.
    pub async fn send(&self, event: &Value) -> Result<Answer> {
        let request = self.client.request(Method::POST, "/events");
        let request = request.header("content-type", "application/cloudevents+json").body(event.to_string());
        self.client.send(request).await
    }

    /// Sends a batch.
    pub async fn send_all(&self, events: &[Value]) -> Result<Answer> {
        let request = self.client.request(Method::POST, "/events");
        let request = request
            .header("content-type", "application/cloudevents-batch+json")
            .body(Value::Array(events.to_vec()).to_string());
        self.client.send(request).await
    }

    /// Makes an endpoint, with more settings; returns what was answered.
    pub async fn endpoint(&self, receiver: &Receiver, more: Value) -> Result<Value> {
        let mut settings = json!({"url": receiver.url()});
        if let (Some(settings), Value::Object(more)) = (settings.as_object_mut(), more) {
            settings.extend(more);
        }
        let answer = self.post("/partners/endpoints", &settings).await?.expect(201)?;
        Ok(answer.body)
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.client.send(self.client.request(Method::POST, path).json(body)).await
    }

    /// Changes an endpoint.
    pub async fn change(&self, id: &str, settings: &Value) -> Result<Answer> {
        let request = self.client.request(Method::PATCH, &format!("/partners/endpoints/{id}"));
        self.client.send(request.json(settings)).await
    }

    /// Does something without a body.
    pub async fn act(&self, method: Method, path: &str) -> Result<Answer> {
        self.client.send(self.client.request(method, path)).await
    }

    /// An endpoint as it is now.
    pub async fn shown(&self, id: &str) -> Result<Value> {
        Ok(self.client.get(&format!("/partners/endpoints/{id}")).await?.expect(200)?.body)
    }
}

/// A text of a JSON object.
pub fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field].as_str().with_context(|| format!("no {field} in {value}"))
}
