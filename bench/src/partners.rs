//! Third parties over HTTP: events a second in, by batches and one by one (the figure of the relay alone is in `bus`); deliveries a second out to 1, 100
//! and 1,000 endpoints; the time from the answer 202 to the webhook while nothing else happens.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use orrery_tests::{Client, Service, World, deadline::until, ports::Port, third_party};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    figures::{Bound, Figure, Unit},
    progress,
};

const PATIENCE: Duration = Duration::from_secs(120);
/// Events of one measurement of the way in, and of a batch.
const EVENTS: usize = 20_000;
const BATCH: usize = 500;
/// Deliveries of one measurement of the way out, shared by the endpoints.
const DELIVERIES: usize = 20_000;
/// Single events while nothing else happens.
const SINGLES: usize = 200;
const IN_AIM: f64 = 5_000.0;
const OUT_AIM: f64 = 3_000.0;
const IDLE_AIM: f64 = 50.0;

/// What came: how many deliveries, and when the last one did.
#[derive(Default)]
struct Came {
    count: AtomicUsize,
    last: Mutex<Option<Instant>>,
}

/// Measures it.
///
/// # Errors
/// A part does not start, or an event is refused.
pub async fn measure() -> Result<Vec<Figure>> {
    let stage = Stage::start().await?;
    let mut figures = vec![
        Figure::once(
            "events in, batches of 500, 4 at once",
            stage.batches(EVENTS, "in").await?,
            Unit::PerSecond,
            Bound::Least(IN_AIM),
        ),
        Figure::once(
            "events in, one by one, 32 at once",
            stage.singles(EVENTS / 4).await?,
            Unit::PerSecond,
            Bound::None,
        ),
    ];
    let mut endpoints = 0;
    for wanted in [1, 100, 1_000] {
        progress(&format!("deliveries to {wanted} endpoints"));
        for number in endpoints..wanted {
            stage.endpoint(number).await?;
        }
        endpoints = wanted;
        if wanted == 1 {
            let times = stage.idle().await?;
            figures.push(Figure::once(
                "202 to webhook, idle: p99",
                times,
                Unit::Milliseconds,
                Bound::Aim(IDLE_AIM),
            ));
        }
        let rate = stage.deliveries(wanted).await?;
        figures.push(Figure::once(
            &format!("deliveries out to {wanted} endpoints"),
            rate,
            Unit::PerSecond,
            Bound::Least(OUT_AIM),
        ));
    }
    Ok(figures)
}

struct Stage {
    _service: Service,
    _world: World,
    _port: Port,
    url: String,
    token: String,
    client: reqwest::Client,
    receiver: String,
    came: Arc<Came>,
}

impl Stage {
    async fn start() -> Result<Self> {
        let port = Port::reserve()?;
        let listen = port.address().to_string();
        let world = World::builder()
            .env("ORRERY_SERVICES", "autha,partners,maily,gateway")
            .env("ORRERY_PARTNERS__LISTEN", &listen)
            .env("ORRERY_PARTNERS__EVENTS_PER_MINUTE", "0")
            .env("ORRERY_PARTNERS__TARGETS__ALLOW_HTTP", "true")
            .env("ORRERY_PARTNERS__TARGETS__NETWORKS", r#"["127.0.0.0/8"]"#)
            .start()
            .await?;
        let (database, broker) = (world.database(), world.broker());
        let database = database.url_through(database.address().await?)?;
        let broker = broker.url_through(broker.address().await?)?;
        let settings = [("ORRERY_DATABASE__URL", database.as_str()), ("ORRERY_BROKER__URL", broker.as_str())];
        let service = world.spawn_with(&["partners"], &settings).await?;
        let more = ["--publish", "com.acme.#", "--receive", "com.acme.#", "--max-endpoints", "2000"];
        let secret = third_party::create(&world, "acme", &more).await?;
        let client = reqwest::Client::new();
        let url = format!("http://{listen}");
        let token = third_party::ask_token(&Client::new(&url)?, "acme", &secret, "").await?.expect(200)?;
        let token = token.text("access_token")?.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let receiver = format!("http://{}/", listener.local_addr()?);
        let came = Arc::new(Came::default());
        tokio::spawn(receive(listener, Arc::clone(&came)));
        Ok(Self { _service: service, _world: world, _port: port, url, token, client, receiver, came })
    }

    async fn post(&self, path: &str, content_type: &str, body: String) -> Result<()> {
        let request = self.client.post(format!("{}{path}", self.url)).bearer_auth(&self.token);
        let answer = request.header("content-type", content_type).body(body).send().await?;
        ensure!(answer.status().is_success(), "{path} was answered {}", answer.status());
        answer.bytes().await?;
        Ok(())
    }

    async fn endpoint(&self, number: usize) -> Result<()> {
        let body = json!({"url": format!("{}{number}", self.receiver)}).to_string();
        self.post("/partners/endpoints", "application/json", body).await
    }

    /// Events a second by batches.
    async fn batches(&self, events: usize, round: &str) -> Result<f64> {
        progress(&format!("{events} events in batches of {BATCH}"));
        let batches: Vec<String> = (0..events / BATCH)
            .map(|batch| {
                let events = (0..BATCH).map(|number| event(&format!("{round}-{batch}-{number}")));
                Value::Array(events.collect()).to_string()
            })
            .collect();
        let began = Instant::now();
        for four in batches.chunks(4) {
            let posted = four
                .iter()
                .map(|batch| self.post("/events", "application/cloudevents-batch+json", batch.clone()));
            try_join_all(posted).await?;
        }
        Ok(per_second(events, began.elapsed()))
    }

    /// Events a second one by one.
    async fn singles(&self, events: usize) -> Result<f64> {
        progress(&format!("{events} events one by one"));
        let next = AtomicUsize::new(0);
        let began = Instant::now();
        let senders = (0..32).map(|_| async {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= events {
                    return Ok::<_, anyhow::Error>(());
                }
                let event = event(&format!("single-{number}")).to_string();
                self.post("/events", "application/cloudevents+json", event).await?;
            }
        });
        try_join_all(senders).await?;
        Ok(per_second(events, began.elapsed()))
    }

    /// The 99th percentile of the time from the answer to the delivery, in milliseconds.
    async fn idle(&self) -> Result<f64> {
        let mut times = Vec::new();
        for number in 0..SINGLES {
            let before = self.came.count.load(Ordering::SeqCst);
            let event = event(&format!("idle-{number}")).to_string();
            self.post("/events", "application/cloudevents+json", event).await?;
            let answered = Instant::now();
            until(PATIENCE, "the delivery", async || self.came.count.load(Ordering::SeqCst) > before).await?;
            let last = *self.came.last.lock().unwrap_or_else(PoisonError::into_inner);
            let took = last.context("nothing came")?.saturating_duration_since(answered);
            times.push(took.as_secs_f64() * 1_000.0);
        }
        times.sort_by(f64::total_cmp);
        times.get(SINGLES * 99 / 100).copied().context("no time")
    }

    /// Deliveries a second to all endpoints.
    async fn deliveries(&self, endpoints: usize) -> Result<f64> {
        let events = (DELIVERIES / endpoints).max(20);
        let wanted = self.came.count.load(Ordering::SeqCst) + events * endpoints;
        let began = Instant::now();
        let all: Vec<Value> = (0..events).map(|number| event(&format!("out-{endpoints}-{number}"))).collect();
        for batch in all.chunks(BATCH) {
            let body = Value::Array(batch.to_vec()).to_string();
            self.post("/events", "application/cloudevents-batch+json", body).await?;
        }
        until(PATIENCE, "all deliveries", async || self.came.count.load(Ordering::SeqCst) >= wanted).await?;
        let last = *self.came.last.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(per_second(events * endpoints, last.context("nothing came")?.saturating_duration_since(began)))
    }
}

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/acme", "type": "com.acme.order.v1", "data": {"total": 12, "text": "x".repeat(200)}})
}

fn per_second(count: usize, took: Duration) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from) / took.as_secs_f64()
}

/// Takes everything, keeps connections, and keeps nothing else.
async fn receive(listener: TcpListener, came: Arc<Came>) {
    while let Ok((stream, _)) = listener.accept().await {
        let came = Arc::clone(&came);
        tokio::spawn(async move { serve(stream, &came).await });
    }
}

async fn serve(stream: TcpStream, came: &Came) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let is_question = line.starts_with("OPTIONS");
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().unwrap_or(0);
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if is_question {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nwebhook-allowed-origin: *\r\ncontent-length: 0\r\n\r\n")
                .await?;
            continue;
        }
        *came.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        came.count.fetch_add(1, Ordering::SeqCst);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
    }
}
