//! Configured routes, roles, and their replacement while requests are at work.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use anyhow::{Context, Result};
use orrery_gateway::{Served, Way};
use orrery_service::Local;

use crate::harness::{ROUTES, Running, ask, configured, gateway, gateway_before, upstream};

/// An application that tells who it is and what it got.
fn application(name: &'static str) -> Result<Running> {
    upstream(move || {
        web::to(move |request: HttpRequest| async move {
            let header = |name: &str| {
                request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned()
            };
            HttpResponse::Ok().insert_header(("x-frame-options", "SAMEORIGIN")).body(format!(
                "{name} {} {} {} {}",
                request.uri(),
                header("host"),
                header("x-forwarded-proto"),
                header("x-forwarded-for")
            ))
        })
    })
}

#[actix_web::test]
async fn an_application_stands_beside_the_services_by_host_and_path() -> Result<()> {
    let (autha, app, shop) = (application("autha")?, application("app")?, application("shop")?);
    let config = configured(&format!(
        "autha = 'http://{}'\n[[routes]]\nhost = 'app.example'\nupstreams = 'http://{}'\n\
         [[routes]]\npath = '/shop'\nstrip = true\nkeep_host = false\nupstreams = 'http://{}'\n",
        autha.address, app.address, shop.address
    ))?;
    let gateway = gateway(&config)?;
    let get = |host: &str, path: &str| {
        let text = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let gateway = &gateway;
        async move {
            let mut client = crate::harness::Client::connect(gateway).await?;
            client.send(text).await?;
            client.reply().await
        }
    };
    let reply = get("app.example:8080", "/deep/er/?x=1").await?;
    assert_eq!(reply.body, "app /deep/er/?x=1 app.example:8080 http -");
    // It decides itself who may frame it.
    assert_eq!(reply.header("x-frame-options"), "SAMEORIGIN");
    assert_eq!(get("other", "/shop/a").await?.body, format!("shop /a {} http -", shop.address));
    assert!(get("other", "/users/ada").await?.body.starts_with("autha /users/ada "));
    assert_eq!(get("other", "/nothing").await?.status, 404);
    Ok(())
}

#[actix_web::test]
async fn a_reload_replaces_routes_and_a_bad_one_keeps_them() -> Result<()> {
    let (autha, app) = (application("autha")?, application("app")?);
    let first = format!("autha = 'http://{}'\n", autha.address);
    let gateway = gateway(&configured(&first)?)?;
    let control = gateway.control.clone().context("no control")?;
    assert_eq!(ask(&gateway, "GET /app/x", "").await?.status, 404);
    let with_app = format!("{first}[[routes]]\npath = '/app'\nupstreams = 'http://{}'\n", app.address);
    control.reload(configured(&with_app)?)?;
    assert!(ask(&gateway, "GET /app/x", "").await?.body.starts_with("app /app/x"));
    let bad = format!("{with_app}[[routes]]\npath = '/other'\nservice = 'nobody'\n");
    let fault = control.reload(configured(&bad)?).err().context("it was taken")?;
    assert!(fault.to_string().contains("nobody"), "{fault}");
    assert!(ask(&gateway, "GET /app/x", "").await?.body.starts_with("app /app/x"));
    control.reload(configured(&first)?)?;
    assert_eq!(ask(&gateway, "GET /app/x", "").await?.status, 404);
    Ok(())
}

#[actix_web::test]
async fn a_listener_serves_what_its_role_is_for_and_health_where_it_says() -> Result<()> {
    let (autha, frontend) = (application("autha")?, application("frontend")?);
    let reverse = configured(&format!(
        "autha = 'http://{}'\n[[listeners]]\nrole = 'reverse'\naddress = '127.0.0.1:0'\nhealth = ['/l8_health_check']\n\
         [[routes]]\nroles = ['reverse']\nupstreams = 'http://{}'\n",
        autha.address, frontend.address
    ))?;
    let gateway = gateway(&reverse)?;
    let reply = ask(&gateway, "GET /l8_health_check", "").await?;
    assert!(reply.status == 200 && reply.body.contains("\"ready\""), "{reply:?}");
    // The services' own paths are the application's here.
    assert!(ask(&gateway, "GET /users/ada", "").await?.body.starts_with("frontend /users/ada"));
    let api = configured(&format!(
        "autha = 'http://{}'\n[[listeners]]\nrole = 'api'\naddress = '127.0.0.1:0'\n\
         [[routes]]\nroles = ['edge']\nupstreams = 'http://{}'\n",
        autha.address, frontend.address
    ))?;
    let gateway = crate::harness::gateway(&api)?;
    assert!(ask(&gateway, "GET /users/ada", "").await?.body.starts_with("autha"));
    assert_eq!(ask(&gateway, "GET /anything", "").await?.status, 404);
    Ok(())
}

#[actix_web::test]
async fn a_service_of_this_process_is_called_without_a_socket_once_it_is_started() -> Result<()> {
    let local = Local::default();
    let served = Served { name: "autha", routes: ROUTES, way: Way::Local(std::sync::Arc::clone(&local)) };
    let gateway = gateway_before(&configured("")?, vec![served])?;
    ask(&gateway, "GET /users/ada", "").await?.assert_problem(503);
    let application: orrery_service::Application = std::sync::Arc::new(|config: &mut web::ServiceConfig| {
        config
            .route("/users/{id}", web::get().to(|id: web::Path<String>| async move { format!("I am {id}") }))
            .route("/login", web::post().to(|body: String| async move { body }))
            .route(
                "/status.json",
                web::get().to(|| async {
                    actix_rt::time::sleep(Duration::from_millis(1)).await;
                    HttpResponse::Ok()
                        .insert_header(("connection", "x-hop"))
                        .insert_header(("x-hop", "1"))
                        .finish()
                }),
            );
    });
    assert!(local.set(application).is_ok());
    assert_eq!(ask(&gateway, "GET /users/a%20b", "").await?.body, "I am a b");
    let chunked = "content-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(ask(&gateway, "POST /login", chunked).await?.body, "hello");
    assert_eq!(ask(&gateway, "GET /status.json", "").await?.header("x-hop"), "");
    // Bodies are held to the same limits.
    let large = format!("content-length: 100000\r\n\r\n{}", "x".repeat(100_000));
    ask(&gateway, "POST /login", &large).await?.assert_problem(413);
    Ok(())
}
