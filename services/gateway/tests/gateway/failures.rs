//! Upstreams that are away, break, or say nothing.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time::timeout,
};

use crate::harness::{Client, DEADLINE, ask, config, gateway, let_go, nobody, upstream};

async fn read_head(stream: &mut TcpStream) -> Result<()> {
    let mut read = Vec::new();
    while !read.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await?;
        anyhow::ensure!(length > 0, "ended within the head");
        read.extend_from_slice(&buffer[..length]);
    }
    Ok(())
}

#[actix_web::test]
async fn no_upstream_is_503_with_retry_after() -> Result<()> {
    let gateway = gateway(&config(&[nobody()?, nobody()?]))?;
    for (line, rest) in [("GET /users/ada", ""), ("POST /login", "content-length: 2\r\n\r\n{}")] {
        let reply = ask(&gateway, line, rest).await?;
        reply.assert_problem(503);
        assert_eq!(reply.header("retry-after"), "1");
    }
    Ok(())
}

#[actix_web::test]
async fn a_refused_request_goes_to_the_next_upstream_with_its_body() -> Result<()> {
    let autha = upstream(|| web::to(|body: String| async move { HttpResponse::Ok().body(body) }))?;
    let gateway = gateway(&config(&[nobody()?, autha.address]))?;
    for _ in 0..6 {
        let reply = ask(&gateway, "POST /login", "content-length: 5\r\n\r\nhello").await?;
        assert_eq!((reply.status, reply.body.as_str()), (200, "hello"));
    }
    Ok(())
}

#[actix_web::test]
async fn a_get_survives_an_upstream_that_breaks_off_once_and_a_post_does_not() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let gateway = gateway(&config(&[listener.local_addr()?]))?;
    let upstream = async {
        // First try of the GET: cut before an answer. Second: answered.
        let (mut first, _) = listener.accept().await?;
        read_head(&mut first).await?;
        drop(first);
        let (mut second, _) = listener.accept().await?;
        read_head(&mut second).await?;
        second.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await?;
        // The POST: cut, and not sent again, which the test's end shows.
        let (mut third, _) = listener.accept().await?;
        read_head(&mut third).await?;
        drop(third);
        anyhow::Ok(())
    };
    let client = async {
        let reply = ask(&gateway, "GET /users/ada", "").await?;
        assert_eq!((reply.status, reply.body.as_str()), (200, "ok"));
        ask(&gateway, "POST /login", "content-length: 2\r\n\r\n{}").await?.assert_problem(502);
        anyhow::Ok(())
    };
    tokio::try_join!(upstream, client)?;
    Ok(())
}

#[actix_web::test]
async fn nonsense_is_502_and_silence_504() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut config = config(&[listener.local_addr()?]);
    config.upstream_timeout = Duration::from_millis(300);
    let gateway = gateway(&config)?;
    let upstream = async {
        let (mut first, _) = listener.accept().await?;
        read_head(&mut first).await?;
        first.write_all(b"HELO nonsense\r\n\r\n").await?;
        let (mut second, _) = listener.accept().await?;
        read_head(&mut second).await?;
        // Silent until the gateway gives up.
        let mut rest = Vec::new();
        drop(second.read_to_end(&mut rest).await);
        anyhow::Ok(())
    };
    let client = async {
        ask(&gateway, "POST /login", "content-length: 2\r\n\r\n{}").await?.assert_problem(502);
        ask(&gateway, "GET /users/ada", "").await?.assert_problem(504);
        anyhow::Ok(())
    };
    tokio::try_join!(upstream, client)?;
    Ok(())
}

#[actix_web::test]
async fn an_answer_that_is_cut_is_not_shown_as_whole() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let gateway = gateway(&config(&[listener.local_addr()?]))?;
    for head in ["transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", "content-length: 10\r\n\r\nhello"] {
        let (cut, may_cut) = oneshot::channel::<()>();
        let upstream = async {
            let (mut stream, _) = listener.accept().await?;
            read_head(&mut stream).await?;
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes()).await?;
            may_cut.await?;
            anyhow::Ok(())
        };
        let client = async {
            let mut client = Client::connect(&gateway).await?;
            client.send("GET /users/ada HTTP/1.1\r\nhost: x\r\n\r\n").await?;
            let answer = client.read_until("hello").await?;
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            cut.send(()).ok().context("the upstream is gone")?;
            // An honest end would be the last chunk's mark, or nothing at all on a connection that stays.
            let mut rest = String::new();
            drop(timeout(DEADLINE, client.0.read_to_string(&mut rest)).await?);
            assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
            anyhow::Ok(())
        };
        tokio::try_join!(upstream, client)?;
    }
    Ok(())
}

#[actix_web::test]
async fn a_client_that_goes_away_takes_its_request_with_it() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let gateway = gateway(&config(&[listener.local_addr()?]))?;
    for request in [
        "GET /users/@me HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST /login HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
    ] {
        let mut client = Client::connect(&gateway).await?;
        client.send(request).await?;
        let (mut upstream, _) = timeout(DEADLINE, listener.accept()).await??;
        read_head(&mut upstream).await?;
        drop(client);
        let_go(&mut upstream).await?;
    }
    Ok(())
}

#[actix_web::test]
async fn an_early_answer_is_not_lost_when_the_upstream_stops_reading() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let gateway = gateway(&config(&[listener.local_addr()?]))?;
    let upstream = async {
        let (mut stream, _) = listener.accept().await?;
        read_head(&mut stream).await?;
        stream
            .write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
            .await?;
        stream.shutdown().await?;
        // Dropped with most of the body unread: the gateway's writes fail from here on.
        anyhow::Ok(())
    };
    let client = async {
        let mut client = Client::connect(&gateway).await?;
        let bytes = 4 << 20;
        client
            .send(format!(
                "PUT /users/@me/avatar HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {bytes}\r\n\r\n"
            ))
            .await?;
        client.send(vec![7; bytes]).await?;
        let reply = client.reply().await?;
        assert_eq!((reply.status, reply.body.as_str()), (401, "no"));
        anyhow::Ok(())
    };
    tokio::try_join!(upstream, client)?;
    Ok(())
}
