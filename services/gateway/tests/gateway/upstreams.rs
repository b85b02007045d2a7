//! Which replica is asked: the least busy, none that hangs or is gone; and what passes through as it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, web};
use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, timeout},
};

use crate::harness::{Client, DEADLINE, ask, config, configured, gateway, nobody, upstream};

#[actix_web::test]
async fn a_replica_that_hangs_gets_no_requests_once_it_was_asked_and_holds_nobody_up() -> Result<()> {
    // It takes connections and says nothing, as a stopped process does.
    let hung = TcpListener::bind("127.0.0.1:0").await?;
    let sound = upstream(|| web::to(HttpResponse::Ok))?;
    let mut config = config(&[hung.local_addr()?, sound.address]);
    config.probe_every = Duration::from_millis(200);
    config.upstream_timeout = Duration::from_secs(8);
    let gateway = gateway(&config)?;
    // Both are asked for their health at once, each with its own time.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut in_a_row = 0;
    while in_a_row < 20 {
        let begun = Instant::now();
        let reply = timeout(Duration::from_millis(500), ask(&gateway, "GET /users/ada", "")).await;
        in_a_row = if reply.is_ok_and(|reply| reply.is_ok_and(|reply| reply.status == 200)) {
            in_a_row + 1
        } else {
            0
        };
        anyhow::ensure!(begun < deadline, "it is still asked");
    }
    Ok(())
}

#[actix_web::test]
async fn a_get_that_breaks_its_replica_is_sent_to_one_other_and_no_more() -> Result<()> {
    let asked = Arc::new(AtomicUsize::new(0));
    let mut addresses = Vec::new();
    for _ in 0..5 {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?);
        let asked = Arc::clone(&asked);
        actix_rt::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                if stream.read(&mut head).await.is_ok_and(|length| length > 0) {
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
    }
    let gateway = gateway(&config(&addresses))?;
    ask(&gateway, "GET /users/ada", "").await?.assert_problem(502);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
    Ok(())
}

#[actix_web::test]
async fn one_that_is_gone_is_tried_seldom() -> Result<()> {
    let sound = upstream(|| web::to(HttpResponse::Ok))?;
    let gateway = gateway(&config(&[nobody()?, sound.address]))?;
    for _ in 0..50 {
        assert_eq!(ask(&gateway, "POST /login", "content-length: 2\r\n\r\n{}").await?.status, 200);
    }
    Ok(())
}

#[actix_web::test]
async fn a_websocket_passes_both_ways_and_ends_with_either_side() -> Result<()> {
    let application = TcpListener::bind("127.0.0.1:0").await?;
    let config = configured(&format!(
        "[[routes]]\npath = '/socket'\nwebsocket = true\nupstreams = 'http://{}'\n",
        application.local_addr()?
    ))?;
    let gateway = gateway(&config)?;
    let serving = async {
        let (mut stream, _) = application.accept().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head)?.to_ascii_lowercase();
        assert!(head.starts_with("get /socket/websocket?token=x http/1.1\r\n"), "{head}");
        for field in
            ["upgrade: websocket", "connection: upgrade", "sec-websocket-key: dghlihnhbxbszsbub25jzq=="]
        {
            assert!(head.contains(field), "{field}: {head}");
        }
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nearly")
            .await?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await?;
        assert_eq!(&word, b"ping");
        stream.write_all(b"pong").await?;
        // The client goes: so does this.
        assert_eq!(timeout(DEADLINE, stream.read(&mut word)).await??, 0);
        anyhow::Ok(())
    };
    let asking = async {
        let mut client = Client::connect(&gateway).await?;
        client
            .send(
                "GET /socket/websocket?token=x HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
            )
            .await?;
        let head = client.read_until("early").await?;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        client.send("ping").await?;
        client.read_until("pong").await?;
        drop(client);
        anyhow::Ok(())
    };
    tokio::try_join!(serving, asking)?;
    Ok(())
}

#[actix_web::test]
async fn events_pass_as_they_come_and_may_pause_for_longer_than_an_answer() -> Result<()> {
    let application = TcpListener::bind("127.0.0.1:0").await?;
    let config = configured(&format!(
        "[[routes]]\npath = '/events'\nstreaming = true\ntimeout = '200ms'\nupstreams = 'http://{}'\n",
        application.local_addr()?
    ))?;
    let gateway = gateway(&config)?;
    let serving = async {
        let (mut stream, _) = application.accept().await?;
        let mut head = [0; 2048];
        anyhow::ensure!(stream.read(&mut head).await? > 0, "the gateway asked nothing");
        let event = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nd\r\ndata: first\n\n\r\n";
        stream.write_all(event).await?;
        actix_rt::time::sleep(Duration::from_secs(1)).await;
        stream.write_all(b"e\r\ndata: second\n\n\r\n").await?;
        // Once the client is gone an event cannot be delivered, and this ends too.
        timeout(DEADLINE, async {
            while stream.write_all(b"c\r\ndata: more\n\n\r\n").await.is_ok() {
                actix_rt::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await?;
        anyhow::Ok(())
    };
    let asking = async {
        let mut client = Client::connect(&gateway).await?;
        client.send("GET /events HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        client.read_until("first").await?;
        client.read_until("second").await?;
        drop(client);
        anyhow::Ok(())
    };
    tokio::try_join!(serving, asking)?;
    Ok(())
}

#[actix_web::test]
async fn a_request_goes_to_the_replica_with_the_least_at_work() -> Result<()> {
    let slow = upstream(|| {
        web::to(|| async {
            actix_rt::time::sleep(Duration::from_millis(300)).await;
            HttpResponse::Ok().body("slow")
        })
    })?;
    let quick = upstream(|| web::to(|_: HttpRequest| async { HttpResponse::Ok().body("quick") }))?;
    let mut config = config(&[slow.address, quick.address]);
    config.rates.enabled = false;
    let gateway = gateway(&config)?;
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let until = Instant::now() + Duration::from_secs(3);
    let clients = (0..4).map(|_| {
        let (gateway, counts) = (&gateway, Arc::clone(&counts));
        async move {
            while Instant::now() < until {
                let reply = ask(gateway, "GET /users/ada", "").await?;
                counts[usize::from(reply.body == "quick")].fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }
    });
    futures_util::future::try_join_all(clients).await.context("a request failed")?;
    let (slow, quick) = (counts[0].load(Ordering::Relaxed), counts[1].load(Ordering::Relaxed));
    // Round robin would make it one to one.
    assert!(quick > 4 * slow, "slow {slow}, quick {quick}");
    Ok(())
}
