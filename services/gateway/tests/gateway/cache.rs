//! What is kept, for how long, and fetched once for many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, web};
use anyhow::Result;
use orrery_gateway::config::Config;
use orrery_schemas::routes::Route;

use crate::harness::{Running, ask, config, gateway_before, upstream};
use orrery_gateway::{Served, Way};

static KEPT: &[Route] = &[Route::get("/users/{id}").cached(), Route::get("/users/@me").bearer("").cached()];

/// An upstream that counts, answers by the last part of the path, and knows its validator.
fn counting() -> Result<(Running, Arc<AtomicUsize>)> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let running = upstream(move || {
        let count = Arc::clone(&counted);
        web::to(move |request: HttpRequest| {
            let at = count.fetch_add(1, Ordering::SeqCst);
            async move {
                actix_rt::time::sleep(Duration::from_millis(100)).await;
                let control = match request.path().rsplit('/').next().unwrap_or_default() {
                    "private" => "private, max-age=60",
                    "short" => "public, max-age=1",
                    _ => "public, max-age=60",
                };
                if request.headers().get("if-none-match").is_some_and(|tag| tag == "\"v1\"") {
                    return HttpResponse::NotModified().insert_header(("cache-control", control)).finish();
                }
                HttpResponse::Ok()
                    .insert_header(("cache-control", control))
                    .insert_header(("etag", "\"v1\""))
                    .insert_header(("vary", "Accept"))
                    .insert_header(("x-orrery-cache-tag", "secret-account-id"))
                    .body(format!("answer {at}"))
            }
        })
    })?;
    Ok((running, count))
}

fn keeping(config: &Config) -> Result<Running> {
    let served = Served { name: "autha", routes: KEPT, way: Way::Upstreams(config.autha.clone()) };
    gateway_before(config, vec![served])
}

#[actix_web::test]
async fn an_answer_for_everybody_is_fetched_once_for_all_who_come_at_once_and_after() -> Result<()> {
    let (autha, count) = counting()?;
    let gateway = keeping(&config(&[autha.address]))?;
    let replies = futures_util::future::join_all((0..20).map(|_| ask(&gateway, "GET /users/ada", ""))).await;
    for reply in replies {
        let reply = reply?;
        assert_eq!((reply.status, reply.body.as_str()), (200, "answer 0"));
        assert_eq!(reply.header("x-orrery-cache-tag"), "");
    }
    let reply = ask(&gateway, "GET /users/ada", "").await?;
    assert_eq!((reply.body.as_str(), reply.header("cache-status")), ("answer 0", "orrery; hit"));
    assert_eq!(reply.header("age"), "0");
    let head = ask(&gateway, "HEAD /users/ada", "").await?;
    assert_eq!((head.status, head.header("content-length"), head.body.as_str()), (200, "8", ""));
    let known = ask(&gateway, "GET /users/ada", "if-none-match: W/\"v1\"\r\n\r\n").await?;
    assert_eq!((known.status, known.body.as_str()), (304, ""));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    // Another representation, and another query, are other answers.
    assert_eq!(ask(&gateway, "GET /users/ada", "accept: text/html\r\n\r\n").await?.body, "answer 1");
    assert_eq!(ask(&gateway, "GET /users/ada?x", "").await?.body, "answer 2");
    assert_eq!(ask(&gateway, "GET /users/ada", "accept: text/html\r\n\r\n").await?.body, "answer 1");
    Ok(())
}

#[actix_web::test]
async fn what_is_somebodys_own_is_never_kept() -> Result<()> {
    let (autha, count) = counting()?;
    let gateway = keeping(&config(&[autha.address]))?;
    for (line, rest) in [
        ("GET /users/private", ""),
        ("GET /users/@me", ""),
        ("GET /users/ada", "authorization: Bearer x\r\n\r\n"),
        ("GET /users/ada", "cookie: a=b\r\n\r\n"),
    ] {
        let before = count.load(Ordering::SeqCst);
        for _ in 0..2 {
            assert_eq!(ask(&gateway, line, rest).await?.header("cache-status"), "", "{line} {rest}");
        }
        assert_eq!(count.load(Ordering::SeqCst), before + 2, "{line} {rest}");
    }
    Ok(())
}

#[actix_web::test]
async fn a_stale_answer_is_given_again_when_its_validator_still_holds() -> Result<()> {
    let (autha, count) = counting()?;
    let gateway = keeping(&config(&[autha.address]))?;
    assert_eq!(ask(&gateway, "GET /users/short", "").await?.body, "answer 0");
    actix_rt::time::sleep(Duration::from_millis(1300)).await;
    let reply = ask(&gateway, "GET /users/short", "").await?;
    assert_eq!(
        (reply.body.as_str(), reply.header("cache-status")),
        ("answer 0", "orrery; fwd=stale; fwd-status=304")
    );
    assert_eq!(ask(&gateway, "GET /users/short", "").await?.header("cache-status"), "orrery; hit");
    assert_eq!(count.load(Ordering::SeqCst), 2);
    Ok(())
}
