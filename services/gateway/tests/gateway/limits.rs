//! What callers may do: budgets, connections, origins; and what the HTTP parser refuses.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout},
};

use orrery_gateway::{Served, Way};

use crate::harness::{Client, DEADLINE, ROUTES, Reply, ask, config, gateway, gateway_counting, upstream};

fn answering() -> Result<crate::harness::Running> {
    upstream(|| web::to(HttpResponse::Ok))
}

#[actix_web::test]
async fn a_caller_who_asks_too_much_gets_429_and_is_told_when_to_come_again() -> Result<()> {
    let autha = answering()?;
    let mut config = config(&[autha.address]);
    config.rates.credentials.burst = 2;
    config.rates.credentials.per_second = 0.5;
    let gateway = gateway(&config)?;
    let log_in = || ask(&gateway, "POST /login", "content-length: 2\r\n\r\n{}");
    for left in ["1", "0"] {
        let reply = log_in().await?;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("ratelimit-policy"), "\"credentials\";q=2;w=4");
        assert!(reply.header("ratelimit").starts_with(&format!("\"credentials\";r={left};t=")), "{reply:?}");
    }
    let reply = log_in().await?;
    reply.assert_problem(429);
    assert!((1..=2).contains(&reply.header("retry-after").parse::<u32>()?), "{reply:?}");
    // Another class has a budget of its own.
    assert_eq!(ask(&gateway, "GET /users/ada", "").await?.status, 200);
    // Health is asked as often as one likes.
    assert_eq!(ask(&gateway, "GET /health/live", "").await?.header("ratelimit"), "");
    Ok(())
}

// This class counts in Redis in this test alone.
#[actix_web::test]
async fn two_gateways_with_one_redis_count_together_and_each_for_itself_without_it() -> Result<()> {
    let autha = answering()?;
    let mut config = config(&[autha.address]);
    config.rates.read.burst = 10;
    config.rates.read.per_second = 0.001;
    clear_redis().await?;
    let counting = |redis: &str| {
        let autha = Served { name: "autha", routes: ROUTES, way: Way::Upstreams(config.autha.clone()) };
        gateway_counting(&config, vec![autha], Some(redis))
    };
    let gateways = [counting("redis://127.0.0.1:6379")?, counting("redis://127.0.0.1:6379")?];
    let upload = |at: usize| ask(&gateways[at % 2], "DELETE /users/@me/avatar", "");
    let mut passed = 0;
    for at in 0..20 {
        passed += u32::from(upload(at).await?.status == 200);
    }
    assert_eq!(passed, 10);

    let alone = counting("redis://127.0.0.1:1")?;
    let mut passed = 0;
    for _ in 0..20 {
        passed += u32::from(ask(&alone, "DELETE /users/@me/avatar", "").await?.status == 200);
    }
    assert_eq!(passed, 10);
    Ok(())
}

/// Removes the bucket that an earlier run left.
async fn clear_redis() -> Result<()> {
    let mut stream = TcpStream::connect("127.0.0.1:6379").await?;
    let script = "for _, key in ipairs(redis.call('KEYS', 'orrery:rate:*')) do redis.call('DEL', key) end";
    let command = format!("*3\r\n$4\r\nEVAL\r\n${}\r\n{script}\r\n$1\r\n0\r\n", script.len());
    stream.write_all(command.as_bytes()).await?;
    let mut answer = [0; 64];
    let length = timeout(DEADLINE, stream.read(&mut answer)).await??;
    anyhow::ensure!(answer[..length].starts_with(b"$-1"), "{}", String::from_utf8_lossy(&answer[..length]));
    Ok(())
}

/// A connection from another address of the loopback network.
async fn connect_from(from: &str, to: std::net::SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("{from}:0").parse()?)?;
    Ok(socket.connect(to).await?)
}

#[actix_web::test]
async fn one_network_with_all_its_connections_makes_no_other_wait() -> Result<()> {
    let autha = answering()?;
    let mut config = config(&[autha.address]);
    config.network_connections = 50;
    let gateway = gateway(&config)?;
    let mut held = Vec::new();
    for _ in 0..200 {
        held.push(connect_from("127.0.0.7", gateway.address).await?);
    }
    // Those beyond the limit are ended.
    let mut ended = 0;
    for stream in &mut held {
        let mut byte = [0; 1];
        if timeout(Duration::from_millis(20), stream.read(&mut byte)).await.is_ok() {
            ended += 1;
        }
    }
    assert_eq!(ended, 150);
    let begun = Instant::now();
    let mut other = connect_from("127.0.0.8", gateway.address).await?;
    other.write_all(b"GET /users/ada HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    timeout(DEADLINE, other.read_to_string(&mut answer)).await??;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    Ok(())
}

#[actix_web::test]
async fn a_second_head_that_never_ends_loses_its_connection() -> Result<()> {
    let autha = answering()?;
    let mut config = config(&[autha.address]);
    config.idle_timeout = Duration::from_millis(300);
    let gateway = gateway(&config)?;
    let mut client = Client::connect(&gateway).await?;
    client.send("GET /users/ada HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nx-tri").await?;
    let mut answers = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let mut buffer = [0; 4096];
        match timeout(Duration::from_millis(100), client.0.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(length)) => answers.extend_from_slice(&buffer[..length]),
            // It trickles on.
            Err(_) => drop(client.0.write_all(b"x").await),
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "it was kept");
    assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 200").count(), 1);
    Ok(())
}

#[actix_web::test]
async fn what_the_parser_refuses_is_a_problem_document() -> Result<()> {
    let autha = answering()?;
    let gateway = gateway(&config(&[autha.address]))?;
    for (request, status) in [
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), 400),
        ("GET /users/ada HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n".to_owned(), 400),
        ("GET /users/ada HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /users/ada HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(), 400),
        // Shapes of request smuggling.
        ("POST /login HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        ("POST /login HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd".to_owned(), 400),
        ("POST /login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked, x\r\n\r\n0\r\n\r\n".to_owned(), 400),
        ("POST /login HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n".to_owned(), 400),
        ("POST /login HTTP/1.1\r\nhost: x\r\ncontent-length: +4\r\n\r\nabcd".to_owned(), 400),
        (format!("GET /users/ada HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(200_000)), 431),
    ] {
        let mut client = Client::connect(&gateway).await?;
        drop(client.send(&request).await);
        let shown = &request[..request.len().min(90)];
        let reply: Reply = client.reply().await.map_err(|error| error.context(shown.to_owned()))?;
        assert_eq!(reply.status, status, "{shown:?}: {reply:?}");
        assert_eq!(reply.header("content-type"), "application/problem+json", "{shown:?}: {reply:?}");
        let document: serde_json::Value = serde_json::from_str(&reply.body)?;
        assert_eq!(document["status"], status);
    }
    // An answer before it on the same connection stays whole.
    let mut client = Client::connect(&gateway).await?;
    client.send("GET /users/ada HTTP/1.1\r\nhost: x\r\n\r\nnonsense\r\n\r\n").await?;
    let mut both = String::new();
    timeout(DEADLINE, client.0.read_to_string(&mut both)).await??;
    assert!(both.starts_with("HTTP/1.1 200") && both.contains("HTTP/1.1 400"), "{both}");
    assert!(both.ends_with('}'), "{both}");
    Ok(())
}

#[actix_web::test]
async fn a_browser_application_on_a_listed_origin_may_ask_and_another_may_not() -> Result<()> {
    let autha = answering()?;
    let mut config = config(&[autha.address]);
    config.cors.origins = vec!["https://app.example".to_owned()];
    let gateway = gateway(&config)?;
    let preflight = |origin: &'static str| {
        let fields = format!(
            "origin: {origin}\r\naccess-control-request-method: POST\r\naccess-control-request-headers: content-type\r\n\r\n"
        );
        let gateway = &gateway;
        async move { ask(gateway, "OPTIONS /login", &fields).await }
    };
    let reply = preflight("https://app.example").await?;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (204, "https://app.example"));
    assert_eq!(reply.header("access-control-allow-methods"), "POST");
    assert_eq!(reply.header("access-control-allow-headers"), "content-type");
    assert_eq!(preflight("https://evil.example").await?.header("access-control-allow-origin"), "");
    let reply = ask(&gateway, "GET /users/ada", "origin: https://app.example\r\n\r\n").await?;
    assert_eq!(reply.header("access-control-allow-origin"), "https://app.example");
    // A script learns what was wrong, too.
    let reply = ask(&gateway, "GET /nothing", "origin: https://app.example\r\n\r\n").await?;
    reply.assert_problem(404);
    assert_eq!(reply.header("access-control-allow-origin"), "https://app.example");
    assert_eq!(ask(&gateway, "GET /users/ada", "").await?.header("access-control-allow-origin"), "");
    Ok(())
}

#[actix_web::test]
async fn too_much_at_once_is_503_and_nobody_waits() -> Result<()> {
    let autha = upstream(|| {
        web::to(|| async {
            actix_rt::time::sleep(Duration::from_secs(2)).await;
            HttpResponse::Ok().finish()
        })
    })?;
    let mut config = config(&[autha.address]);
    config.outstanding = 4;
    let gateway = gateway(&config)?;
    let begun = Instant::now();
    let replies = futures_util::future::join_all((0..12).map(|_| ask(&gateway, "GET /users/ada", ""))).await;
    let mut refused = 0;
    for reply in replies {
        let reply = reply?;
        if reply.status == 503 {
            assert_eq!(reply.header("retry-after"), "1");
            refused += 1;
        }
    }
    assert_eq!(refused, 8);
    assert!(begun.elapsed() < Duration::from_secs(4));
    Ok(())
}
