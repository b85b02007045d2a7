//! People who sign up and upload a picture as a good app does it for them: with an `Idempotency-Key`, and again while the
//! service is away. Whoever gives up fails the test.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use orrery_tests::{Answer, Client, Person, fresh, pictures};
use reqwest::{Method, RequestBuilder};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The longest that an app tries; far above every outage that the tests make.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two tries without an answer that names a time.
const PAUSE: Duration = Duration::from_millis(200);

/// Somebody whose sign-up was answered with 201 and whose upload with 202.
pub struct Guest {
    pub person: Person,
    /// The id of that upload.
    pub upload: String,
    /// How often they had to ask again.
    pub repeats: usize,
}

/// People who wait to be let in.
pub struct Crowd {
    door: Arc<Semaphore>,
    people: JoinSet<Result<Guest>>,
    guests: Vec<Guest>,
    let_in: usize,
}

impl Crowd {
    /// `people` who know these addresses of the service, and try the next one when one does not answer.
    pub fn gather(people: &[Person], addresses: &[Client]) -> Result<Self> {
        let door = Arc::new(Semaphore::new(0));
        let picture = Bytes::from(pictures::gradient_png(512, 512)?);
        let mut waiting = JoinSet::new();
        for person in people {
            let (door, person, picture) = (Arc::clone(&door), person.clone(), picture.clone());
            let addresses = addresses.to_vec();
            waiting.spawn(async move {
                door.acquire().await?.forget();
                visit(person, addresses, picture).await
            });
        }
        Ok(Self { door, people: waiting, guests: Vec::new(), let_in: 0 })
    }

    /// Lets `count` more in, once at most twice as many are still inside.
    pub async fn let_in(&mut self, count: usize) -> Result<()> {
        while self.let_in > self.guests.len() + 2 * count {
            self.next().await?;
        }
        self.let_in += count;
        self.door.add_permits(count);
        Ok(())
    }

    /// Waits for everybody who was let in and gives them all so far.
    pub async fn settle(&mut self) -> Result<&[Guest]> {
        while self.guests.len() < self.let_in {
            self.next().await?;
        }
        Ok(&self.guests)
    }

    async fn next(&mut self) -> Result<()> {
        let guest = self.people.join_next().await.context("nobody is inside")???;
        self.guests.push(guest);
        Ok(())
    }
}

async fn visit(person: Person, addresses: Vec<Client>, picture: Bytes) -> Result<Guest> {
    let key = fresh::uuid().to_string();
    let body = json!({
        "id": person.id, "email": person.email, "password": person.password, "locale": person.locale,
    });
    let (created, first) = insist(201, &addresses, |client| {
        client.request(Method::POST, "/create").header("Idempotency-Key", &key).json(&body)
    })
    .await?;
    let token = created.text("access_token")?;
    let addresses: Vec<Client> = addresses.into_iter().map(|client| client.with_token(token)).collect();
    let (taken, second) = insist(202, &addresses, |client| {
        let request = client.request(Method::PUT, "/users/@me/avatar");
        request.header("Content-Type", "image/png").body(picture.clone())
    })
    .await?;
    Ok(Guest { person, upload: taken.text("id")?.to_owned(), repeats: first + second })
}

/// Asks until the answer is `wanted`: again after what says that it passes, and when no answer came. Gives the answer and
/// how often it was asked again.
async fn insist(
    wanted: u16,
    addresses: &[Client],
    request: impl Fn(&Client) -> RequestBuilder,
) -> Result<(Answer, usize)> {
    let start = Instant::now();
    for (repeats, client) in addresses.iter().cycle().enumerate() {
        let answer = client.send(request(client)).await;
        let pause = match &answer {
            Ok(answer) if answer.status == wanted => return Ok((answer.clone(), repeats)),
            Ok(answer) if matches!(answer.status, 429 | 502 | 503 | 504) => {
                answer.problem()?;
                let told = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
                ensure!(told.is_some() || !matches!(answer.status, 429 | 503), "no Retry-After: {answer:?}");
                told.map_or(PAUSE, Duration::from_secs)
            }
            Ok(answer) => bail!("{wanted} expected, got {}: {}", answer.status, answer.body),
            Err(_) => PAUSE,
        };
        ensure!(start.elapsed() < PATIENCE, "no {wanted} within {PATIENCE:?}; the last was {answer:?}");
        tokio::time::sleep(pause).await;
    }
    bail!("no address to ask")
}
