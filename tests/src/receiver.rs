//! A server of one test that is told something over HTTP, such as a webhook: it answers as it is told, keeps what came, and checks signatures. Plain
//! HTTP/1.1 over a socket, so that it can lie.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::deadline::eventually;

/// How a receiver answers a delivery.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// With this status and these headers.
    Answer(u16, Vec<(String, String)>),
    /// Never.
    Hang,
    /// With one byte a second, for ever.
    Drip,
    /// With a body that does not end.
    Endless,
    /// By closing the connection.
    Drop,
    /// With something that is no HTTP.
    Lie,
}

impl Behaviour {
    /// With this status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new())
    }

    /// With this status and one header.
    #[must_use]
    pub fn with(status: u16, name: &str, value: &str) -> Self {
        Self::Answer(status, vec![(name.to_owned(), value.to_owned())])
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub path: String,
    /// Its headers, in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: Bytes,
    /// When it came.
    pub at: Instant,
}

impl Received {
    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The event.
    ///
    /// # Errors
    /// The body is no JSON.
    pub fn event(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Whether one of its signatures is by this secret, as Standard Webhooks has it.
    ///
    /// # Errors
    /// It is no secret of that form.
    pub fn is_signed_by(&self, secret: &str) -> Result<bool> {
        let key = BASE64.decode(secret.strip_prefix("whsec_").context("no secret")?)?;
        let mut text =
            format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp")).into_bytes();
        text.extend_from_slice(&self.body);
        let signature = BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &text));
        Ok(self.header("webhook-signature").split(' ').any(|own| own == format!("v1,{signature}")))
    }
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    /// What OPTIONS is answered with; none: 405.
    handshake: Mutex<Option<Vec<(String, String)>>>,
    received: Mutex<Vec<Received>>,
}

/// A receiver.
#[expect(missing_debug_implementations, reason = "what it holds is told by the tests")]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Receiver {
    /// One that takes everything.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let allowed = ("WebHook-Allowed-Origin".to_owned(), "*".to_owned());
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::status(200)),
            handshake: Mutex::new(Some(vec![allowed])),
            received: Mutex::default(),
        });
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        // A connection that breaks is the other side's matter.
                        serve(stream, &shared).await.ok();
                    });
                }
            }
        });
        Ok(Self { address, shared, task })
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers so from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *locked(&self.shared.behaviour) = behaviour;
    }

    /// Answers the handshake with these headers; none: not at all.
    pub fn handshake(&self, headers: Option<&[(&str, &str)]>) {
        let owned = headers.map(|headers| {
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        });
        *locked(&self.shared.handshake) = owned;
    }

    /// The requests that came by this method.
    #[must_use]
    pub fn requests(&self, method: &str) -> Vec<Received> {
        locked(&self.shared.received).iter().filter(|request| request.method == method).cloned().collect()
    }

    /// The deliveries that came.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Received> {
        self.requests("POST")
    }

    /// Waits until so many deliveries came.
    ///
    /// # Errors
    /// They did not in time.
    pub async fn wait(&self, count: usize, deadline: Duration) -> Result<Vec<Received>> {
        eventually(deadline, &format!("{count} deliveries"), async || {
            let deliveries = self.deliveries();
            (deliveries.len() >= count).then_some(deliveries)
        })
        .await
        .with_context(|| format!("{} came", self.deliveries().len()))
    }
}

async fn serve(stream: TcpStream, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            ensure!(stream.read_line(&mut line).await? > 0, "the head broke off");
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length: usize = headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let is_question = method == "OPTIONS";
        locked(&shared.received).push(Received {
            method,
            path,
            headers,
            body: body.into(),
            at: Instant::now(),
        });
        let behaviour = if is_question {
            match locked(&shared.handshake).clone() {
                Some(headers) => Behaviour::Answer(200, headers),
                None => Behaviour::status(405),
            }
        } else {
            locked(&shared.behaviour).clone()
        };
        match behaviour {
            Behaviour::Answer(status, headers) => {
                let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n");
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                head.push_str("\r\n");
                stream.write_all(head.as_bytes()).await?;
            }
            Behaviour::Hang => std::future::pending::<()>().await,
            Behaviour::Drip => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").await?;
                loop {
                    stream.write_all(b"x").await?;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Behaviour::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
                loop {
                    stream.write_all(b"400\r\n").await?;
                    stream.write_all(&[b'x'; 1024]).await?;
                    stream.write_all(b"\r\n").await?;
                }
            }
            Behaviour::Drop => return Ok(()),
            Behaviour::Lie => {
                stream.write_all(b"220 mail.example ESMTP\r\n").await?;
                return Ok(());
            }
        }
    }
}
