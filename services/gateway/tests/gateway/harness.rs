//! A gateway and upstreams on random ports, and a client that says and shows every byte.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::{App, HttpServer, Route, dev::ServerHandle, web};
use anyhow::{Context, Result};
use orrery_gateway::{Control, Gateway, Parts, Served, SharedCounts, Way, config::Config};
use orrery_schemas::routes::{Body, Method, Route as Listed};
use orrery_supervise::clock::Clock;
use orrery_supervise::random::Random;
use orrery_supervise::{Limits, Supervisor};
use orrery_web::health::Health;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub const DEADLINE: Duration = Duration::from_secs(20);

/// What the upstream of these tests serves.
pub static ROUTES: &[Listed] = &[
    Listed::post("/create").credentials(),
    Listed::post("/login").credentials(),
    Listed::post("/oauth/token").credentials(),
    Listed::get("/users/@me").bearer(""),
    Listed::get("/users/@me/avatar").method(Method::Put).body(Body::Upload).bearer(""),
    Listed::get("/users/@me/avatar").method(Method::Delete).bearer(""),
    Listed::get("/users/@me/avatar/uploads/{upload}").bearer(""),
    Listed::get("/users/{id}"),
    Listed::get("/avatars/{id}"),
    Listed::get("/avatars/{account}/{upload}/{file}"),
    Listed::get("/status.json"),
    Listed::get("/.well-known/jwks.json"),
    Listed::get("/openapi.yaml"),
];

/// A server that stops with its test.
pub struct Running {
    pub address: SocketAddr,
    handle: ServerHandle,
    /// A gateway's health, which takes its leave.
    pub health: Option<Health>,
    /// What replaces a gateway's settings.
    pub control: Option<Control>,
}

impl Running {
    /// Ends as a process does after SIGTERM.
    pub async fn drain(&self) {
        if let Some(health) = &self.health {
            health.drain().begin();
            health.drain().close_doors().await;
        }
        self.handle.stop(true).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

pub fn config(upstreams: &[SocketAddr]) -> Config {
    Config {
        autha: upstreams.iter().map(|address| format!("http://{address}").parse().unwrap()).collect(),
        workers: 1,
        // Upstreams of these tests take their connections in an order.
        probe_every: Duration::ZERO,
        ..Config::default()
    }
}

/// A gateway before one service with the routes of these tests.
pub fn gateway(config: &Config) -> Result<Running> {
    let autha = Served { name: "autha", routes: ROUTES, way: Way::Upstreams(config.autha.clone()) };
    gateway_before(config, vec![autha])
}

/// A gateway before these services.
pub fn gateway_before(config: &Config, served: Vec<Served>) -> Result<Running> {
    gateway_counting(config, served, None)
}

/// The same, which counts callers' requests in Redis.
pub fn gateway_counting(config: &Config, served: Vec<Served>, redis: Option<&str>) -> Result<Running> {
    let runtime: &'static tokio::runtime::Runtime = Box::leak(Box::new(
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?,
    ));
    let random = Random::seeded(7);
    let supervisor = Supervisor::new(runtime, random.clone(), Limits::default())?;
    let health = Health::new(Vec::new(), supervisor.clone());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let main = runtime.handle().clone();
    let parts = Parts {
        config: config.clone(),
        served,
        random,
        redis: redis.map(|url| SharedCounts { url: url.to_owned().into(), timeout: Duration::from_secs(5) }),
        objects: None,
        bus: None,
        clock: Clock::System,
        main,
    };
    let gateway = Gateway::new(parts)?;
    gateway.start(&supervisor);
    let control = gateway.control();
    let server = gateway.listen_tcp(listener, &health)?;
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(Running { address, handle, health: Some(health), control: Some(control) })
}

/// An upstream that answers everything by one handler.
pub fn upstream(handler: impl Fn() -> Route + Clone + Send + 'static) -> Result<Running> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = HttpServer::new(move || {
        App::new().app_data(web::PayloadConfig::new(32 << 20)).default_service(handler())
    })
    .workers(1)
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    actix_rt::spawn(server);
    Ok(Running { address, handle, health: None, control: None })
}

/// An address at which nobody listens.
pub fn nobody() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// An answer, as far as it came.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    /// Everything after the head, chunk sizes included.
    pub body: String,
}

impl Reply {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Self { status, headers, body: body.to_owned() })
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Checks that this is a problem document of this status.
    pub fn assert_problem(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.header("x-content-type-options"), "nosniff");
        assert_eq!(self.header("referrer-policy"), "no-referrer");
        let document: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(document["status"], status);
        assert!(document["instance"].as_str().is_some_and(|urn| urn.starts_with("urn:orrery:trace:")));
    }
}

pub struct Client(pub TcpStream);

impl Client {
    pub async fn connect(to: &Running) -> Result<Self> {
        Ok(Self(TcpStream::connect(to.address).await?))
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        Ok(timeout(DEADLINE, self.0.write_all(bytes.as_ref())).await??)
    }

    /// Reads until this text came.
    pub async fn read_until(&mut self, text: &str) -> Result<String> {
        let mut read = Vec::new();
        while !String::from_utf8_lossy(&read).contains(text) {
            let mut buffer = [0; 4096];
            let length = timeout(DEADLINE, self.0.read(&mut buffer)).await??;
            anyhow::ensure!(length > 0, "ended after {:?}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&buffer[..length]);
        }
        Ok(String::from_utf8(read)?)
    }

    /// Reads one answer: until its announced end, else until the gateway ends the connection.
    pub async fn reply(mut self) -> Result<Reply> {
        let mut read = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let length =
                timeout(DEADLINE, self.0.read(&mut buffer)).await.context("no end of the answer")??;
            read.extend_from_slice(&buffer[..length]);
            let text = std::str::from_utf8(&read)?;
            let reply = Reply::parse(text);
            match reply {
                Some(reply)
                    if length == 0 || reply.header("content-length") == reply.body.len().to_string() =>
                {
                    return Ok(reply);
                }
                None if length == 0 => anyhow::bail!("no head: {text:?}"),
                _ => {}
            }
        }
    }
}

/// The configuration with these lines in place of its defaults.
pub fn configured(toml: &str) -> Result<Config> {
    use figment::providers::{Format, Serialized, Toml};
    let config: Config =
        figment::Figment::from(Serialized::defaults(config(&[]))).merge(Toml::string(toml)).extract()?;
    Ok(config)
}

/// One request of its own connection; `rest` is what follows the request line, without `Host` and `Connection`.
pub async fn ask(gateway: &Running, line: &str, rest: &str) -> Result<Reply> {
    let mut client = Client::connect(gateway).await?;
    let rest = if rest.is_empty() { "\r\n" } else { rest };
    client.send(format!("{line} HTTP/1.1\r\nhost: public.example\r\nconnection: close\r\n{rest}")).await?;
    client.reply().await
}

/// Waits until the gateway lets go of an upstream's connection, long before it gives the upstream up.
pub async fn let_go(upstream: &mut TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), upstream.read_to_end(&mut rest))
        .await
        .context("the request goes on")?
        .ok();
    Ok(())
}
