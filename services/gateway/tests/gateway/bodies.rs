//! Bodies on their way up and down.

use std::{cell::RefCell, sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};

use crate::harness::{Client, DEADLINE, Running, ask, config, gateway, upstream};

/// More than the gateway awaits before it asks an upstream.
const PIECE: usize = 32 * 1024;

enum Told {
    Head(String),
    Bytes(usize),
    End,
    Error,
}

/// What an upstream tells of the requests it gets.
struct Tale(mpsc::UnboundedReceiver<Told>);

impl Tale {
    async fn next(&mut self) -> Result<Told> {
        timeout(DEADLINE, self.0.recv()).await?.context("the upstream is gone")
    }

    /// The length and the transfer coding of the next request.
    async fn head(&mut self) -> Result<String> {
        match self.next().await? {
            Told::Head(head) => Ok(head),
            _ => bail!("no head"),
        }
    }

    /// Waits until some of the body came.
    async fn bytes(&mut self) -> Result<usize> {
        match self.next().await? {
            Told::Bytes(bytes) => Ok(bytes),
            _ => bail!("no bytes"),
        }
    }

    /// Whether the body was whole.
    async fn whole(&mut self) -> Result<bool> {
        loop {
            match self.next().await? {
                Told::End => return Ok(true),
                Told::Error => return Ok(false),
                Told::Head(_) | Told::Bytes(_) => {}
            }
        }
    }
}

fn telling() -> Result<(Running, Tale)> {
    let (tell, told) = mpsc::unbounded_channel();
    let autha = upstream(move || {
        let tell = tell.clone();
        web::to(move |request: HttpRequest, mut payload: web::Payload| {
            let tell = tell.clone();
            async move {
                let header = |name: &str| {
                    request
                        .headers()
                        .get(name)
                        .and_then(|value| value.to_str().ok())
                        .unwrap_or("-")
                        .to_owned()
                };
                drop(tell.send(Told::Head(format!(
                    "{} {}",
                    header("content-length"),
                    header("transfer-encoding")
                ))));
                let mut bytes = 0;
                while let Some(chunk) = payload.next().await {
                    let Ok(chunk) = chunk else {
                        drop(tell.send(Told::Error));
                        return HttpResponse::BadRequest().finish();
                    };
                    bytes += chunk.len();
                    drop(tell.send(Told::Bytes(bytes)));
                }
                drop(tell.send(Told::End));
                HttpResponse::Accepted().body(format!("{bytes}"))
            }
        })
    })?;
    Ok((autha, Tale(told)))
}

#[actix_web::test]
async fn a_sized_body_streams_up_with_its_length() -> Result<()> {
    let (autha, mut told) = telling()?;
    let gateway = gateway(&config(&[autha.address]))?;
    let mut client = Client::connect(&gateway).await?;
    let length = 2 * PIECE;
    client
        .send(format!("PUT /users/@me/avatar HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"))
        .await?;
    client.send([b'x'; PIECE]).await?;
    assert_eq!(told.head().await?, format!("{length} -"));
    // Some of the first half is there while the second is not even sent.
    assert!(told.bytes().await? <= PIECE);
    client.send([b'x'; PIECE]).await?;
    assert!(told.whole().await?);
    let reply = client.reply().await?;
    assert_eq!((reply.status, reply.body), (202, length.to_string()));
    Ok(())
}

#[actix_web::test]
async fn a_chunked_body_streams_up_in_chunks() -> Result<()> {
    let (autha, mut told) = telling()?;
    let gateway = gateway(&config(&[autha.address]))?;
    let mut client = Client::connect(&gateway).await?;
    let piece = format!("{PIECE:x}\r\n{}\r\n", "x".repeat(PIECE));
    client
        .send("PUT /users/@me/avatar HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    client.send(&piece).await?;
    assert_eq!(told.head().await?, "- chunked");
    assert!(told.bytes().await? <= PIECE);
    client.send(format!("{piece}0\r\n\r\n")).await?;
    assert!(told.whole().await?);
    let reply = client.reply().await?;
    assert_eq!((reply.status, reply.body), (202, (2 * PIECE).to_string()));
    Ok(())
}

#[actix_web::test]
async fn expect_100_continue_is_answered_here() -> Result<()> {
    let (autha, mut told) = telling()?;
    let gateway = gateway(&config(&[autha.address]))?;
    let mut client = Client::connect(&gateway).await?;
    client
        .send("POST /login HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        .await?;
    client.read_until("100 Continue\r\n\r\n").await?;
    client.send("{}").await?;
    assert_eq!(client.reply().await?.status, 202);
    assert_eq!(told.head().await?, "2 -");
    Ok(())
}

#[actix_web::test]
async fn an_answer_streams_down() -> Result<()> {
    let (feed, chunks) = mpsc::unbounded_channel::<&'static str>();
    let chunks = Arc::new(Mutex::new(Some(chunks)));
    let autha = upstream(move || {
        let chunks = Arc::clone(&chunks);
        web::to(move || {
            let chunks = Arc::clone(&chunks);
            async move {
                let chunks = chunks.lock().await.take().unwrap();
                HttpResponse::Ok().streaming(stream::unfold(RefCell::new(chunks), |chunks| async move {
                    let chunk = chunks.borrow_mut().try_recv();
                    match chunk {
                        Ok(chunk) => Some((Ok::<_, std::io::Error>(Bytes::from(chunk)), chunks)),
                        Err(_) => {
                            let mut inner = chunks.into_inner();
                            let chunk = inner.recv().await?;
                            Some((Ok(Bytes::from(chunk)), RefCell::new(inner)))
                        }
                    }
                }))
            }
        })
    })?;
    let gateway = gateway(&config(&[autha.address]))?;
    let mut client = Client::connect(&gateway).await?;
    client.send("GET /users/ada HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    feed.send("first")?;
    let head = client.read_until("first").await?;
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    feed.send("second")?;
    drop(feed);
    assert!(client.read_until("0\r\n\r\n").await?.contains("second"));
    Ok(())
}

#[actix_web::test]
async fn a_body_over_its_limit_is_413() -> Result<()> {
    let (autha, mut told) = telling()?;
    let mut config = config(&[autha.address]);
    config.body_limit = 8;
    config.upload_limit = u64::try_from(3 * PIECE / 2)?;
    let gateway = gateway(&config)?;
    ask(&gateway, "POST /login", "content-length: 9\r\n\r\n").await?.assert_problem(413);
    ask(&gateway, "PUT /users/@me/avatar", "content-length: 999999\r\n\r\n").await?.assert_problem(413);
    ask(&gateway, "POST /login", "transfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n")
        .await?
        .assert_problem(413);
    assert!(told.0.try_recv().is_err(), "none of these reaches an upstream");
    assert_eq!(ask(&gateway, "POST /login", "content-length: 8\r\n\r\n12345678").await?.status, 202);
    assert!(told.whole().await?);

    // Not announced, never ended, keep-alive: the connection is closed without waiting for the rest.
    let mut client = Client::connect(&gateway).await?;
    client.send("PUT /users/@me/avatar HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await?;
    client.send(format!("{PIECE:x}\r\n{}\r\n", "x".repeat(PIECE))).await?;
    told.head().await?;
    client.send(format!("{PIECE:x}\r\n{}\r\n", "x".repeat(PIECE))).await?;
    let reply = client.reply().await?;
    reply.assert_problem(413);
    assert_eq!(reply.header("connection"), "close");
    assert!(!told.whole().await?);
    Ok(())
}

#[actix_web::test]
async fn a_body_that_pauses_too_long_is_408() -> Result<()> {
    let (autha, mut told) = telling()?;
    let mut config = config(&[autha.address]);
    config.body_timeout = Duration::from_millis(300);
    // A slow client does not use up the upstream's time: what ends the second one is its own.
    config.upstream_timeout = Duration::from_millis(100);
    let gateway = gateway(&config)?;
    ask(&gateway, "POST /login", "content-length: 9\r\n\r\n1234").await?.assert_problem(408);
    assert!(told.0.try_recv().is_err(), "a slow form reaches no upstream");
    let rest = format!("content-length: 999999\r\n\r\n{}", "x".repeat(PIECE));
    ask(&gateway, "PUT /users/@me/avatar", &rest).await?.assert_problem(408);
    assert!(!told.whole().await?);
    Ok(())
}

#[actix_web::test]
async fn a_client_that_leaves_within_its_body_is_an_error_upstream() -> Result<()> {
    let (autha, mut told) = telling()?;
    let gateway = gateway(&config(&[autha.address]))?;
    let piece = "x".repeat(PIECE);
    for rest in [
        format!("content-length: 999999\r\n\r\n{piece}"),
        format!("transfer-encoding: chunked\r\n\r\n{PIECE:x}\r\n{piece}\r\n"),
    ] {
        let mut client = Client::connect(&gateway).await?;
        client.send(format!("PUT /users/@me/avatar HTTP/1.1\r\nhost: x\r\n{rest}")).await?;
        told.head().await?;
        drop(client);
        assert!(!told.whole().await?);
    }
    Ok(())
}
