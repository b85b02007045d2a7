//! Bodies on their way up and down.

use std::{cell::RefCell, sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};

use crate::harness::{Client, DEADLINE, Running, ask, config, gateway, upstream};

/// An upstream that tells what it gets of a body, chunk by chunk, and how the body ended.
fn telling() -> Result<(Running, mpsc::UnboundedReceiver<String>)> {
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
                tell.send(format!("{} {}", header("content-length"), header("transfer-encoding"))).unwrap();
                let mut bytes = 0;
                while let Some(chunk) = payload.next().await {
                    let Ok(chunk) = chunk else {
                        tell.send("error".to_owned()).unwrap();
                        return HttpResponse::BadRequest().finish();
                    };
                    bytes += chunk.len();
                    tell.send(String::from_utf8_lossy(&chunk).into_owned()).unwrap();
                }
                tell.send("end".to_owned()).unwrap();
                HttpResponse::Accepted().body(format!("{bytes}"))
            }
        })
    })?;
    Ok((autha, told))
}

async fn next(told: &mut mpsc::UnboundedReceiver<String>) -> Result<String> {
    timeout(DEADLINE, told.recv()).await?.context("the upstream is gone")
}

#[actix_web::test]
async fn a_sized_body_streams_up_with_its_length() -> Result<()> {
    let (autha, mut told) = telling()?;
    let gateway = gateway(&config(&[autha.address]))?;
    let mut client = Client::connect(&gateway).await?;
    let head = "PUT /users/@me/avatar HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 10\r\n\r\n";
    client.send(format!("{head}hello")).await?;
    assert_eq!(next(&mut told).await?, "10 -");
    // The first half is there while the second is not even sent.
    assert_eq!(next(&mut told).await?, "hello");
    client.send("world").await?;
    assert_eq!(next(&mut told).await?, "world");
    assert_eq!(next(&mut told).await?, "end");
    let reply = client.reply().await?;
    assert_eq!((reply.status, reply.body.as_str()), (202, "10"));
    Ok(())
}

#[actix_web::test]
async fn a_chunked_body_streams_up_in_chunks() -> Result<()> {
    let (autha, mut told) = telling()?;
    let gateway = gateway(&config(&[autha.address]))?;
    let mut client = Client::connect(&gateway).await?;
    let head = "POST /create HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(format!("{head}5\r\nhello\r\n")).await?;
    assert_eq!(next(&mut told).await?, "- chunked");
    assert_eq!(next(&mut told).await?, "hello");
    client.send("5\r\nworld\r\n0\r\n\r\n").await?;
    assert_eq!(next(&mut told).await?, "world");
    assert_eq!(next(&mut told).await?, "end");
    assert_eq!(client.reply().await?.status, 202);
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
    assert_eq!(next(&mut told).await?, "2 -");
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
    config.upload_limit = 16;
    let gateway = gateway(&config)?;
    ask(&gateway, "POST /login", "content-length: 9\r\n\r\n").await?.assert_problem(413);
    ask(&gateway, "PUT /users/@me/avatar", "content-length: 17\r\n\r\n").await?.assert_problem(413);
    assert!(told.try_recv().is_err(), "an announced excess reaches no upstream");
    assert_eq!(ask(&gateway, "POST /login", "content-length: 8\r\n\r\n12345678").await?.status, 202);
    while next(&mut told).await? != "end" {}

    // Unannounced, and never ended: the connection is closed without waiting for the rest, keep-alive or not.
    let mut client = Client::connect(&gateway).await?;
    client
        .send("POST /login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n9\r\n123456789\r\n")
        .await?;
    let reply = client.reply().await?;
    reply.assert_problem(413);
    assert_eq!(reply.header("connection"), "close");
    while next(&mut told).await? != "error" {}
    Ok(())
}

#[actix_web::test]
async fn a_body_that_pauses_too_long_is_408() -> Result<()> {
    let (autha, mut told) = telling()?;
    let mut config = config(&[autha.address]);
    config.body_timeout = Duration::from_millis(200);
    let gateway = gateway(&config)?;
    ask(&gateway, "POST /login", "content-length: 9\r\n\r\n1234").await?.assert_problem(408);
    while next(&mut told).await? != "error" {}
    Ok(())
}

#[actix_web::test]
async fn a_slow_client_does_not_use_up_the_upstreams_time() -> Result<()> {
    let (autha, mut told) = telling()?;
    let mut config = config(&[autha.address]);
    config.upstream_timeout = Duration::from_millis(200);
    config.body_timeout = Duration::from_millis(800);
    let gateway = gateway(&config)?;
    // The upstream's 200 ms pass while the client is silent; what ends this is the client's own time.
    ask(&gateway, "POST /login", "content-length: 9\r\n\r\n1234").await?.assert_problem(408);
    while next(&mut told).await? != "error" {}
    Ok(())
}

#[actix_web::test]
async fn a_client_that_leaves_within_its_body_is_an_error_upstream() -> Result<()> {
    let (autha, mut told) = telling()?;
    let gateway = gateway(&config(&[autha.address]))?;
    for head in ["content-length: 9\r\n\r\n1234", "transfer-encoding: chunked\r\n\r\n4\r\n1234\r\n"] {
        let mut client = Client::connect(&gateway).await?;
        client.send(format!("POST /create HTTP/1.1\r\nhost: x\r\n{head}")).await?;
        next(&mut told).await?;
        assert_eq!(next(&mut told).await?, "1234");
        drop(client);
        assert_eq!(next(&mut told).await?, "error");
    }
    Ok(())
}
