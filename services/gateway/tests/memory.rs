//! What many uploads at once cost; in a process of its own, since it measures the process.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::{Context, Result};
use futures_util::{StreamExt, future::try_join_all};
use orrery_gateway::{
    Gateway, Parts, Served, Way,
    config::{Config, limits::Rates},
};
use orrery_schemas::routes::{Body, Method, Route};
use orrery_supervise::{Limits, Supervisor, clock::Clock, random::Random};
use orrery_web::health::Health;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
    time::timeout,
};

static ROUTES: &[Route] =
    &[Route::get("/users/@me/avatar").method(Method::Put).body(Body::Upload).bearer("")];
const UPLOADS: usize = 32;
const UPLOAD_BYTES: usize = 10 << 20;
static CHUNK: [u8; 65536] = [7; 65536];

fn resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/statm")?;
    Ok(status.split(' ').nth(1).context("no field")?.parse::<u64>()? * 4096)
}

#[actix_web::test]
async fn thirty_two_uploads_at_once_stay_below_64_mib() -> Result<()> {
    // Every upload has begun before any is read on.
    let all_here = Arc::new(Barrier::new(UPLOADS));
    let upstream = TcpListener::bind("127.0.0.1:0")?;
    let autha = format!("http://{}", upstream.local_addr()?).parse()?;
    let server = HttpServer::new(move || {
        let all_here = Arc::clone(&all_here);
        App::new().default_service(web::to(move |request: HttpRequest, mut payload: web::Payload| {
            let all_here = Arc::clone(&all_here);
            async move {
                // The gateway also asks whether somebody is ready, who is no upload.
                if request.method() != actix_web::http::Method::PUT {
                    return HttpResponse::Ok().finish();
                }
                all_here.wait().await;
                let mut bytes = 0;
                while let Some(Ok(chunk)) = payload.next().await {
                    bytes += chunk.len();
                }
                HttpResponse::Accepted().body(bytes.to_string())
            }
        }))
    })
    .workers(1)
    .disable_signals()
    .listen(upstream)?
    .run();
    actix_rt::spawn(server);

    let runtime: &'static tokio::runtime::Runtime = Box::leak(Box::new(
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?,
    ));
    let random = Random::seeded(7);
    let supervisor = Supervisor::new(runtime, random.clone(), Limits::default())?;
    let health = Health::new(Vec::new(), supervisor.clone());
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    // All of them are one caller's.
    let rates = Rates { enabled: false, ..Rates::default() };
    let config = Config { autha: vec![autha], rates, ..Config::default() };
    let served = vec![Served { name: "autha", routes: ROUTES, way: Way::Upstreams(config.autha.clone()) }];
    let parts = Parts {
        config,
        served,
        random,
        redis: None,
        objects: None,
        bus: None,
        clock: Clock::System,
        main: runtime.handle().clone(),
    };
    let gateway = Gateway::new(parts)?;
    gateway.start(&supervisor);
    actix_rt::spawn(gateway.listen_tcp(listener, &health)?);

    let before = resident_bytes()?;
    let most = Arc::new(AtomicU64::new(before));
    let done = Arc::new(AtomicBool::new(false));
    let sampler = std::thread::spawn({
        let (most, done) = (Arc::clone(&most), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(resident_bytes().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });
    let replies = try_join_all((0..UPLOADS).map(|_| async move {
        let mut client = TcpStream::connect(address).await?;
        let head = format!(
            "PUT /users/@me/avatar HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {UPLOAD_BYTES}\r\n\r\n"
        );
        client.write_all(head.as_bytes()).await?;
        for _ in 0..UPLOAD_BYTES / CHUNK.len() {
            client.write_all(&CHUNK).await?;
        }
        let mut reply = String::new();
        timeout(Duration::from_secs(60), client.read_to_string(&mut reply)).await??;
        anyhow::Ok(reply)
    }))
    .await?;
    done.store(true, Ordering::Relaxed);
    sampler.join().ok().context("the sampler panicked")?;
    for reply in replies {
        assert!(reply.contains(" 202 ") && reply.ends_with(&UPLOAD_BYTES.to_string()), "{reply}");
    }
    let added = most.load(Ordering::Relaxed).saturating_sub(before);
    assert!(added < 64 << 20, "added {} KiB", added >> 10);
    println!("added {} KiB", added >> 10);
    Ok(())
}
