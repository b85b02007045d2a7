//! The end of a gateway under load: what it let in is answered, and each connection is told in time that it is the last answer.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use actix_web::{HttpResponse, web};
use anyhow::{Context, Result};
use futures_util::future::{join_all, try_join_all};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::{
    encrypted::{certificate, connect, encrypted},
    harness::{Client, DEADLINE, Running, ask, config, gateway, upstream},
};

/// An upstream that answers a request when it gets a permit, and permits it itself after a while where that is asked for.
fn waiting(permits: &Arc<Semaphore>) -> Result<Running> {
    let permits = Arc::clone(permits);
    upstream(move || {
        let permits = Arc::clone(&permits);
        web::to(move || {
            let permits = Arc::clone(&permits);
            async move {
                let answer = match permits.acquire().await {
                    Ok(_permit) => HttpResponse::Ok(),
                    Err(_) => HttpResponse::InternalServerError(),
                };
                { answer }.body("done")
            }
        })
    })
}

#[actix_web::test]
async fn what_is_under_way_at_the_end_is_answered_and_told_that_it_is_the_last() -> Result<()> {
    let permits = Arc::new(Semaphore::new(0));
    let autha = waiting(&permits)?;
    let gateway = gateway(&config(&[autha.address]))?;
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut client = Client::connect(&gateway).await?;
        client.send("GET /status.json HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        clients.push(client);
    }
    // A connection that asked nothing yet when the end comes, and does so at once then.
    let mut late = Client::connect(&gateway).await?;
    let leaving = gateway.drain();
    let asking = async {
        late.send("GET /status.json HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        permits.add_permits(1);
        clients.push(late);
        let replies = try_join_all(clients.into_iter().map(Client::reply)).await?;
        for reply in replies {
            assert_eq!((reply.status, reply.header("connection")), (200, "close"), "{reply:?}");
        }
        anyhow::Ok(())
    };
    let (asked, ()) = tokio::join!(asking, leaving);
    asked
}

#[actix_web::test]
async fn whoever_got_a_connection_gets_an_answer() -> Result<()> {
    let autha = upstream(|| web::to(|| async { HttpResponse::Ok().body("done") }))?;
    let mut settings = config(&[autha.address]);
    settings.rates.enabled = false;
    let gateway = gateway(&settings)?;
    // Each asks on new connections until none is to be had.
    let clients = (0..8).map(|_| async {
        let mut answered = 0;
        loop {
            let connecting = timeout(Duration::from_millis(500), TcpStream::connect(gateway.address)).await;
            let stream = match connecting {
                Err(_) => return anyhow::Ok(answered),
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => return Ok(answered),
                Ok(stream) => stream?,
            };
            let mut client = Client(stream);
            client.send("GET /status.json HTTP/1.1\r\nhost: x\r\n\r\n").await.context("not sent")?;
            let reply = client.reply().await.with_context(|| format!("after {answered} answers"))?;
            assert_eq!(reply.status, 200);
            answered += 1;
        }
    });
    let leaving = async {
        actix_rt::time::sleep(Duration::from_millis(300)).await;
        gateway.drain().await;
    };
    let (answered, ()) = tokio::join!(try_join_all(clients), leaving);
    assert!(answered?.into_iter().sum::<usize>() > 8);
    Ok(())
}

#[actix_web::test]
async fn over_http2_the_client_is_told_to_go_away_and_loses_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let a = certificate(folder.path(), "a", "a.example")?;
    let permits = Arc::new(Semaphore::new(0));
    let autha = waiting(&permits)?;
    let gateway = encrypted(folder.path(), &autha, &["a"])?;
    let request = || http::Request::builder().uri("https://a.example/status.json").body(());
    let stream = connect(&gateway, "a.example", std::slice::from_ref(&a), b"h2").await?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    let connection = actix_rt::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..4 {
        client = client.ready().await?;
        answers.push(client.send_request(request()?, true)?.0);
    }
    // One that is idle ends by itself.
    let stream = connect(&gateway, "a.example", std::slice::from_ref(&a), b"h2").await?;
    let (_idle, idle) = h2::client::handshake(stream).await?;
    let idle = actix_rt::spawn(idle);

    let begun = Instant::now();
    let leaving = gateway.drain();
    let asking = async {
        // The notice arrives while the requests are at work: no further one is taken.
        let deadline = Instant::now() + DEADLINE;
        loop {
            match client.clone().ready().await {
                Err(error) => {
                    assert!(error.is_go_away(), "{error}");
                    break;
                }
                Ok(_) => anyhow::ensure!(Instant::now() < deadline, "no GOAWAY"),
            }
            actix_rt::time::sleep(Duration::from_millis(10)).await;
        }
        permits.add_permits(1);
        for answer in join_all(answers).await {
            let mut answer = answer?;
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.body_mut().data().await.context("no body")??, "done");
        }
        anyhow::Ok(())
    };
    let (asked, ()) = tokio::join!(asking, leaving);
    asked?;
    // Both ended, long before the limit of a graceful stop.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    drop(timeout(DEADLINE, connection).await?);
    drop(timeout(DEADLINE, idle).await?);
    Ok(())
}

#[actix_web::test]
async fn a_replica_whose_queue_of_connections_is_full_for_a_second_is_asked_again() -> Result<()> {
    // Nobody accepts, and two connections fill the queue: the next one's SYN is dropped.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(1)?;
    let listener: std::net::TcpListener = socket.into();
    let address = listener.local_addr()?;
    let _filling = [std::net::TcpStream::connect(address)?, std::net::TcpStream::connect(address)?];
    let gateway = gateway(&config(&[address]))?;
    let serving = async {
        actix_rt::time::sleep(Duration::from_millis(1200)).await;
        let server =
            actix_web::HttpServer::new(|| actix_web::App::new().default_service(web::to(HttpResponse::Ok)));
        let server = server.workers(1).disable_signals().listen(listener)?.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        anyhow::Ok(handle)
    };
    let (reply, handle) = tokio::join!(ask(&gateway, "POST /login", "content-length: 2\r\n\r\n{}"), serving);
    assert_eq!(reply?.status, 200);
    handle?.stop(false).await;
    Ok(())
}
