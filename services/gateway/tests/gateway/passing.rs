//! What is passed on, and what is not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use actix_web::{HttpRequest, HttpResponse, http::Method, web};
use anyhow::Result;

use crate::harness::{ask, config, configured, gateway, upstream};

async fn echo(request: HttpRequest) -> HttpResponse {
    let seen: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")))
        .collect();
    HttpResponse::Ok()
        .insert_header(("server", "secret/1.0"))
        .insert_header(("proxy-authenticate", "Basic"))
        .insert_header(("x-mine", "kept"))
        .body(format!("{} {}\n{}\n", request.method(), request.uri(), seen.join("\n")))
}

#[actix_web::test]
async fn end_to_end_headers_pass_and_hop_by_hop_ones_do_not() -> Result<()> {
    let autha = upstream(|| web::to(echo))?;
    let gateway = gateway(&config(&[autha.address]))?;
    let reply = ask(
        &gateway,
        "GET /users/%40me?a=%2F..%2F&b",
        "connection: x-hop\r\nx-hop: 1\r\nte: trailers\r\nproxy-authorization: Basic x\r\nupgrade: h2c\r\n\
         x-forwarded-for: 192.0.2.1\r\nforwarded: for=192.0.2.1\r\nx-real-ip: 192.0.2.1\r\n\
         authorization: Bearer t\r\nrange: bytes=0-1\r\naccept: text/plain\r\naccept-encoding: br\r\n\r\n",
    )
    .await?;
    assert_eq!(reply.status, 200);
    let mut lines = reply.body.lines();
    assert_eq!(lines.next(), Some("GET /users/@me?a=%2F..%2F&b"));
    let mut names: Vec<_> = lines.filter_map(|line| line.split_once(": ").map(|(name, _)| name)).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "authorization",
            "date",
            "host",
            "range",
            "traceparent",
            "x-forwarded-for"
        ],
        "{}",
        reply.body
    );
    // From where the client calls is ours to say.
    assert!(reply.body.contains("x-forwarded-for: 127.0.0.1\n"), "{}", reply.body);
    assert!(!reply.body.contains("192.0.2.1") && !reply.body.contains("public.example"), "{}", reply.body);
    assert_eq!(reply.header("x-mine"), "kept");
    assert_eq!(reply.header("server"), "");
    assert_eq!(reply.header("proxy-authenticate"), "");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(reply.header("referrer-policy"), "no-referrer");
    Ok(())
}

#[actix_web::test]
async fn a_service_is_told_for_whom_a_trusted_proxy_asks() -> Result<()> {
    let autha = upstream(|| web::to(echo))?;
    let gateway = gateway(&configured(&format!(
        "autha = 'http://{}'\n[[listeners]]\naddress = '127.0.0.1:0'\ntrusted = ['127.0.0.0/8']\n",
        autha.address
    ))?)?;
    for (claimed, told) in [
        ("x-forwarded-for: 203.0.113.9, 192.0.2.1\r\n\r\n", "192.0.2.1"),
        ("forwarded: for=\"[2001:db8::1]:4711\"\r\n\r\n", "2001:db8::1"),
        ("", "127.0.0.1"),
    ] {
        let body = ask(&gateway, "GET /users/ada", claimed).await?.body;
        let seen: Vec<&str> =
            body.lines().filter_map(|line| line.strip_prefix("x-forwarded-for: ")).collect();
        assert_eq!(seen, [told], "{body}");
    }
    Ok(())
}

#[actix_web::test]
async fn what_is_not_in_the_table_reaches_no_upstream() -> Result<()> {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let autha = upstream(move || {
        let count = Arc::clone(&counted);
        web::to(move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { HttpResponse::Ok().finish() }
        })
    })?;
    let gateway = gateway(&config(&[autha.address]))?;
    for (path, status) in [
        ("/", 404),
        ("/nothing", 404),
        ("/health/actors", 404),
        ("//login", 404),
        ("/users/../health/actors", 404),
        ("/users/%2e%2e/health/actors", 404),
        ("/users/..%2fhealth%2factors", 400),
        ("/users/x%00", 400),
        ("/users/x%", 400),
        ("*", 400),
        ("http://elsewhere.example/health/actors", 404),
    ] {
        ask(&gateway, &format!("GET {path}"), "").await?.assert_problem(status);
    }
    // The rest of a body that nobody wants is not awaited for ever.
    let unwanted = "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    ask(&gateway, "POST /nothing", unwanted).await?.assert_problem(404);
    for (line, allow) in [
        ("GET /login", "POST"),
        ("PUT /users/@me", "GET, HEAD"),
        ("OPTIONS /users/ada", "GET, HEAD"),
        ("POST /health/live", "GET"),
    ] {
        let reply = ask(&gateway, line, "").await?;
        reply.assert_problem(405);
        assert_eq!(reply.header("allow"), allow, "{line}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    assert_eq!(ask(&gateway, "GET /users/ada", "").await?.status, 200);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    Ok(())
}

#[actix_web::test]
async fn health_is_answered_here() -> Result<()> {
    let gateway = gateway(&config(&[crate::harness::nobody()?]))?;
    for path in ["/health/live", "/health/ready"] {
        let reply = ask(&gateway, &format!("GET {path}"), "").await?;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
    }
    Ok(())
}

#[actix_web::test]
async fn statuses_without_a_body_pass() -> Result<()> {
    let autha = upstream(|| {
        web::to(|request: HttpRequest| async move {
            if request.method() == Method::HEAD {
                // As actix answers: the length of a body that is not sent.
                HttpResponse::Ok().insert_header(("etag", "\"h\"")).body("twelve bytes")
            } else if request.method() == Method::DELETE {
                HttpResponse::NoContent().finish()
            } else if request.headers().contains_key("if-none-match") {
                HttpResponse::NotModified()
                    .insert_header(("etag", "\"x\""))
                    .insert_header(("content-length", "7"))
                    .finish()
            } else {
                HttpResponse::Found().insert_header(("location", "/avatars/a/b/c")).finish()
            }
        })
    })?;
    let gateway = gateway(&config(&[autha.address]))?;
    let reply = ask(&gateway, "HEAD /users/ada", "").await?;
    assert_eq!((reply.status, reply.header("content-length"), reply.body.as_str()), (200, "12", ""));
    assert_eq!(reply.header("etag"), "\"h\"");
    let reply = ask(&gateway, "GET /users/ada", "if-none-match: \"x\"\r\n\r\n").await?;
    assert_eq!((reply.status, reply.header("etag"), reply.body.as_str()), (304, "\"x\"", ""));
    let reply = ask(&gateway, "DELETE /users/@me/avatar", "").await?;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    let reply = ask(&gateway, "GET /avatars/ada", "").await?;
    assert_eq!((reply.status, reply.header("location")), (302, "/avatars/a/b/c"));
    Ok(())
}

#[actix_web::test]
async fn a_head_that_never_ends_is_timed_out() -> Result<()> {
    let mut config = config(&[crate::harness::nobody()?]);
    config.client_timeout = std::time::Duration::from_millis(200);
    let gateway = gateway(&config)?;
    let mut client = crate::harness::Client::connect(&gateway).await?;
    client.send("GET /users/ada HTTP/1.1\r\nx-tri").await?;
    let reply = client.reply().await?;
    assert_eq!((reply.status, reply.header("content-type")), (408, "application/problem+json"), "{reply:?}");
    Ok(())
}
