//! What goes over TLS: to PostgreSQL as `sslmode` and `sslrootcert` of `database.url` ask for, and the demo to an `https` address.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{Person, TlsPostgres, World, deadline::eventually, pictures};
use reqwest::Url;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

const SOON: Duration = Duration::from_secs(40);

/// The server's certificate is for `localhost` and signed by `ca.pem`; `other.pem` has nothing to do with it.
fn signed_by_an_authority(folder: &Path) -> Result<()> {
    for (name, subject) in [("ca", "/CN=The authority"), ("other", "/CN=Another authority")] {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        let arguments =
            ["req", "-x509", "-days", "2", "-subj", subject, "-keyout", &key, "-out", &certificate];
        openssl(folder, &[&arguments[..], NEW_KEY].concat())?;
    }
    let subject = ["-subj", "/CN=the server", "-addext", "subjectAltName=DNS:localhost"];
    let request = ["req", "-new", "-keyout", "server.key", "-out", "server.csr"];
    openssl(folder, &[&request[..], NEW_KEY, &subject].concat())?;
    openssl(
        folder,
        &[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-copy_extensions",
            "copy",
            "-out",
            "server.pem",
        ],
    )
}

/// What people type: `openssl req -x509`, which makes an authority of the certificate.
fn signed_by_itself(folder: &Path) -> Result<()> {
    let request = ["req", "-x509", "-days", "2", "-keyout", "server.key", "-out", "server.pem"];
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    openssl(folder, &[&request[..], NEW_KEY, &subject].concat())
}

const NEW_KEY: &[&str] = &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

fn openssl(folder: &Path, arguments: &[&str]) -> Result<()> {
    let output =
        Command::new("openssl").args(arguments).current_dir(folder).output().context("running openssl")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_to_the_database_is_encrypted() -> Result<()> {
    let server = TlsPostgres::start("server.pem", signed_by_itself).await?;
    let url = server.url(
        "localhost",
        &format!("sslmode=verify-full&sslrootcert={}/server.pem", server.folder().display()),
    );
    let world = World::builder().env("ORRERY_DATABASE__URL", &url).start().await?;
    let all = world.spawn(&[]).await?;
    world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    world.smtp().wait_for(1, SOON).await?;
    let ways = "SELECT string_agg(DISTINCT application_name || ' ' || ssl, ', ' ORDER BY application_name || ' ' || ssl) \
                FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE usename = 'orrery'";
    eventually(SOON, "every service has a connection, and all are encrypted", async || {
        let health = all.health().await.ok()?;
        let told = server.execute(ways).await.ok()?;
        let all = "orrery-autha true, orrery-console true, orrery-discovery true, orrery-maily true, orrery-spinoza true";
        (health.body["status"] == "ready" && told == all).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_certificate_is_believed_as_far_as_sslmode_says() -> Result<()> {
    let server = TlsPostgres::start("server.pem", signed_by_an_authority).await?;
    let world = World::builder().unmigrated().start().await?;
    let file = |name: &str| format!("sslrootcert={}/{name}", server.folder().display());
    let system = [("SSL_CERT_FILE", format!("{}/ca.pem", server.folder().display()))];
    let nobody = [("SSL_CERT_FILE", format!("{}/other.pem", server.folder().display()))];
    // A connection is told by what it finds: no migrations.
    let connected = "migrations are pending";
    let unknown = "name the PEM file of the authority that signed it by sslrootcert=FILE in database.url";
    for (host, options, environment, expected) in [
        ("localhost", "sslmode=disable".to_owned(), &nobody, "no pg_hba.conf entry"),
        ("127.0.0.1", String::new(), &nobody, connected),
        ("127.0.0.1", "sslmode=require".to_owned(), &nobody, connected),
        ("127.0.0.1", "sslmode=require&channel_binding=require".to_owned(), &nobody, connected),
        ("127.0.0.1", format!("sslmode=require&{}", file("ca.pem")), &nobody, connected),
        ("127.0.0.1", format!("sslmode=require&{}", file("other.pem")), &system, unknown),
        ("127.0.0.1", format!("sslmode=verify-ca&{}", file("ca.pem")), &nobody, connected),
        ("127.0.0.1", "sslmode=verify-ca".to_owned(), &system, connected),
        ("127.0.0.1", "sslmode=verify-ca".to_owned(), &nobody, unknown),
        ("localhost", format!("sslmode=verify-full&{}", file("ca.pem")), &nobody, connected),
        ("localhost", "sslrootcert=system".to_owned(), &system, connected),
        ("localhost", "sslmode=verify-full".to_owned(), &nobody, unknown),
        ("127.0.0.1", format!("sslmode=verify-full&{}", file("ca.pem")), &nobody, "or sslmode=verify-ca"),
        (
            "localhost",
            "sslmode=verify-full&sslrootcert=/missing".to_owned(),
            &system,
            "database.url: sslrootcert: /missing cannot be read",
        ),
    ] {
        let url = server.url(host, &options);
        let mut settings = vec![("ORRERY_DATABASE__URL", url.as_str())];
        settings.extend(environment.iter().map(|(name, value)| (*name, value.as_str())));
        let checked = world.run_with(&["check"], &settings, SOON).await?;
        ensure!(checked.output.contains(expected), "{host} {options}: {}", checked.output);
    }
    Ok(())
}

/// A listener with the certificate in `folder` that passes everything on to `upstream`, as a proxy before the gateway does: over TLS from the
/// first byte, or after what `greet` says in the clear. Whoever is greeted is not greeted again by `upstream`.
async fn terminate(folder: &Path, upstream: String, greet: bool) -> Result<u16> {
    let certificate = CertificateDer::from_pem_file(folder.join("server.pem"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key"))?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
            tokio::spawn(async move {
                let mut server = BufReader::new(TcpStream::connect(upstream).await?);
                let mut stream = BufReader::new(stream);
                if greet {
                    starttls(&mut stream).await?;
                    server.read_line(&mut String::new()).await?;
                }
                let mut client = acceptor.accept(stream).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok(port)
}

/// What an SMTP server says until TLS begins (RFC 3207).
async fn starttls(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    for (verb, answer) in
        [("", "220 edge.test ESMTP"), ("EHLO", "250-edge.test\r\n250 STARTTLS"), ("STARTTLS", "220 go ahead")]
    {
        let mut line = String::new();
        if !verb.is_empty() {
            stream.read_line(&mut line).await?;
        }
        if !line.starts_with(verb) {
            return Err(std::io::Error::other(format!("{verb} expected")));
        }
        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mails_leave_over_tls_to_a_server_that_the_system_trusts_and_to_no_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    signed_by_an_authority(folder.path())?;
    let world = World::start().await?;
    let _front = world.spawn(&["gateway", "autha"]).await?;
    let mut sent = 0;
    for (tls, greet) in [("starttls", true), ("tls", false)] {
        let port = terminate(folder.path(), world.smtp().addr().to_string(), greet).await?.to_string();
        let server = [
            ("ORRERY_MAILY__SMTP__HOST", "localhost"),
            ("ORRERY_MAILY__SMTP__PORT", port.as_str()),
            ("ORRERY_MAILY__SMTP__TLS", tls),
        ];
        let trusting = |authority: &str| folder.path().join(authority).display().to_string();
        let (other, authority) = (trusting("other.pem"), trusting("ca.pem"));
        let doubted = [&server[..], &[("SSL_CERT_FILE", other.as_str())]].concat();
        let checked = world.run_with(&["check"], &doubted, SOON).await?;
        ensure!(checked.output.contains("failed  mail"), "{}", checked.output);

        let trusted = [&server[..], &[("SSL_CERT_FILE", authority.as_str())]].concat();
        let _maily = world.spawn_with(&["maily"], &trusted).await?;
        world.client()?.sign_up(&Person::new()).await?.expect(201)?;
        sent += 1;
        world.smtp().wait_for(sent, SOON).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_speaks_https_to_a_server_that_the_system_trusts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    signed_by_an_authority(folder.path())?;
    let world = World::builder().capture().start().await?;
    let _all = world.spawn(&[]).await?;
    let gateway = world.gateway_url().trim_start_matches("http://").to_owned();
    let url = format!("https://localhost:{}", terminate(folder.path(), gateway, false).await?);
    for (authority, works) in [("ca.pem", true), ("other.pem", false)] {
        let authority = folder.path().join(authority);
        let trusted = [("SSL_CERT_FILE", authority.to_str().context("a path that is no UTF-8")?)];
        let demo = world.run_with(&["demo", "--url", &url], &trusted, SOON).await?;
        ensure!(demo.status.success() == works, "{}", demo.output);
        let expected = if works { "everything is true" } else { "UnknownIssuer" };
        ensure!(demo.output.contains(expected), "{}", demo.output);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_and_store_are_believed_by_an_authority_of_ones_own() -> Result<()> {
    let world = World::start().await?;
    let folder = tempfile::tempdir()?;
    signed_by_an_authority(folder.path())?;
    let broker = terminate(folder.path(), world.proxies().broker.addr().to_string(), false).await?;
    let storage = terminate(folder.path(), world.proxies().storage.addr().to_string(), false).await?;
    let mut url: Url = world.broker().url_through(world.proxies().broker.addr())?.parse()?;
    let plain = format!("{}://", url.scheme());
    url.set_host(Some("localhost"))?;
    url.set_port(Some(broker)).ok().context("no port")?;
    let amqps = url.as_str().replacen(&plain, "amqps://", 1);
    let endpoint = format!("https://localhost:{storage}");
    let by = |name: &str| folder.path().join(name).to_str().map(str::to_owned).context("no UTF-8");
    let (ours, others) = (by("ca.pem")?, by("other.pem")?);
    let settings = |authority: &str| -> Vec<(&'static str, String)> {
        vec![
            ("ORRERY_BROKER__URL", amqps.clone()),
            ("ORRERY_BROKER__CA_FILE", authority.to_owned()),
            ("ORRERY_STORAGE__ENDPOINT", endpoint.clone()),
            ("ORRERY_STORAGE__CA_FILE", authority.to_owned()),
        ]
    };
    fn told<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
        settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
    let refused = world.run_with(&["check"], &told(&settings(&others)), SOON).await?;
    ensure!(!refused.status.success(), "{}", refused.output);
    for what in ["rabbitmq", "storage"] {
        let failed = refused.output.lines().any(|line| line.starts_with("failed") && line.contains(what));
        ensure!(failed, "another authority's certificate is believed: {}", refused.output);
    }
    let settings = settings(&ours);
    let checked = world.run_with(&["check"], &told(&settings), SOON).await?;
    ensure!(checked.status.success(), "{}", checked.output);
    let _service = world.spawn_with(&[], &told(&settings)).await?;
    let client = world.client()?.signed_up(&Person::new()).await?;
    world.smtp().wait_for(1, SOON).await?;
    let taken = client.put_avatar(pictures::gradient_png(64, 64)?, "image/png").await?.expect(202)?;
    let done = client.wait_upload(taken.location()?, SOON).await?;
    ensure!(done["status"] == "done", "{done}");
    Ok(())
}
