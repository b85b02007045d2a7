//! TLS by SNI, HTTP/2, and what proxies before us are believed.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{HttpResponse, web};
use anyhow::{Context, Result};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::harness::{DEADLINE, Running, ask, configured, gateway, let_go, upstream};

/// Writes a certificate for a name, as its own authority, and returns it.
pub fn certificate(
    folder: &Path,
    file: &str,
    name: &str,
) -> Result<rustls::pki_types::CertificateDer<'static>> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])?;
    std::fs::write(folder.join(format!("{file}.key")), made.signing_key.serialize_pem())?;
    std::fs::write(folder.join(format!("{file}.pem")), made.cert.pem())?;
    Ok(made.cert.der().clone())
}

pub async fn connect(
    gateway: &Running,
    name: &str,
    trusted: &[rustls::pki_types::CertificateDer<'static>],
    protocol: &[u8],
) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(gateway.address).await?;
    let name = ServerName::try_from(name.to_owned())?;
    Ok(timeout(DEADLINE, TlsConnector::from(Arc::new(config)).connect(name, stream)).await??)
}

pub fn encrypted(folder: &Path, autha: &Running, files: &[&str]) -> Result<Running> {
    encrypted_before(folder, autha.address, files)
}

fn encrypted_before(folder: &Path, autha: SocketAddr, files: &[&str]) -> Result<Running> {
    let certificates: Vec<_> = files
        .iter()
        .map(|file| format!("{{ chain = '{0}/{file}.pem', key = '{0}/{file}.key' }}", folder.display()))
        .collect();
    gateway(&configured(&format!(
        "autha = 'http://{}'\n[[listeners]]\naddress = '127.0.0.1:0'\n[listeners.tls]\ncertificates = [{}]\n",
        autha,
        certificates.join(", ")
    ))?)
}

#[actix_web::test]
async fn certificates_are_chosen_by_name_and_read_again_when_they_change() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let a = certificate(folder.path(), "a", "a.example")?;
    let b = certificate(folder.path(), "b", "*.b.example")?;
    let autha = upstream(|| web::to(HttpResponse::Ok))?;
    let gateway = encrypted(folder.path(), &autha, &["a", "b"])?;
    for (name, shown) in [("a.example", &a), ("www.b.example", &b)] {
        let mut stream = connect(&gateway, name, &[a.clone(), b.clone()], b"http/1.1").await?;
        let leaf =
            stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).context("no leaf")?;
        assert_eq!(leaf, shown, "{name}");
        stream.write_all(b"GET /users/ada HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        timeout(DEADLINE, stream.read_to_string(&mut answer)).await??;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("strict-transport-security: max-age=15552000"), "{answer}");
    }
    // A key that does not fit changes nothing.
    std::fs::write(folder.path().join("a.key"), "nonsense")?;
    actix_rt::time::sleep(Duration::from_millis(2500)).await;
    connect(&gateway, "a.example", std::slice::from_ref(&a), b"http/1.1").await?;
    let new = certificate(folder.path(), "a", "a.example")?;
    let deadline = Instant::now() + DEADLINE;
    while connect(&gateway, "a.example", std::slice::from_ref(&new), b"http/1.1").await.is_err() {
        anyhow::ensure!(Instant::now() < deadline, "the new certificate is not used");
        actix_rt::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[actix_web::test]
async fn http2_is_spoken_and_streams_that_are_reset_as_fast_as_they_come_hold_nobody_up() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let a = certificate(folder.path(), "a", "a.example")?;
    let autha = upstream(|| web::to(|body: String| async move { HttpResponse::Ok().body(body) }))?;
    let gateway = encrypted(folder.path(), &autha, &["a"])?;
    let request = |method: &str, path: &str| {
        http::Request::builder().method(method).uri(format!("https://a.example{path}")).body(())
    };

    let stream = connect(&gateway, "a.example", std::slice::from_ref(&a), b"h2").await?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    actix_rt::spawn(async move { drop(connection.await) });
    let (answer, mut body) = client.send_request(request("POST", "/login")?, false)?;
    body.send_data(bytes::Bytes::from_static(b"hello"), true)?;
    let mut answer = timeout(DEADLINE, answer).await??;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.body_mut().data().await.context("no body")??, "hello");

    // An abuse: streams that are reset at once, again and again, on a connection of their own.
    let stream = connect(&gateway, "a.example", std::slice::from_ref(&a), b"h2").await?;
    let (mut abuser, connection) = h2::client::handshake(stream).await?;
    let ended = actix_rt::spawn(async move { drop(connection.await) });
    let mut sent = 0;
    for _ in 0..5000 {
        let Ok(ready) = timeout(Duration::from_secs(1), abuser.clone().ready()).await else { break };
        let Ok(mut ready) = ready else { break };
        let Ok((_, mut stream)) = ready.send_request(request("GET", "/users/ada")?, true) else { break };
        stream.send_reset(h2::Reason::CANCEL);
        sent += 1;
        abuser = ready;
    }
    assert!(sent > 0);
    let begun = Instant::now();
    let (answer, _) = client.send_request(request("GET", "/users/ada")?, true)?;
    assert_eq!(timeout(DEADLINE, answer).await??.status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    ended.abort();
    Ok(())
}

#[actix_web::test]
async fn over_http2_a_client_that_goes_away_takes_its_request_with_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let a = certificate(folder.path(), "a", "a.example")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let gateway = encrypted_before(folder.path(), listener.local_addr()?, &["a"])?;
    let stream = connect(&gateway, "a.example", std::slice::from_ref(&a), b"h2").await?;
    let (mut client, connection) = h2::client::handshake(stream).await?;
    let connection = actix_rt::spawn(async move { drop(connection.await) });
    let request = http::Request::builder().method("POST").uri("https://a.example/login").body(())?;
    let (answer, mut body) = client.send_request(request, false)?;
    body.send_data(bytes::Bytes::from_static(b"{}"), true)?;
    let (mut upstream, _) = timeout(DEADLINE, listener.accept()).await??;
    assert!(upstream.read(&mut [0; 1024]).await? > 0);
    drop((answer, body, client));
    connection.abort();
    let_go(&mut upstream).await
}

async fn raw(gateway: &Running, bytes: &str) -> Result<String> {
    let mut stream = TcpStream::connect(gateway.address).await?;
    stream.write_all(bytes.as_bytes()).await?;
    let mut answer = String::new();
    // A connection that is refused may be reset.
    drop(timeout(DEADLINE, stream.read_to_string(&mut answer)).await?);
    Ok(answer)
}

const GET: &str = "GET /users/ada HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";

#[actix_web::test]
async fn who_a_trusted_proxy_asks_for_has_the_budget_and_nobody_else_is_believed() -> Result<()> {
    let autha = upstream(|| web::to(HttpResponse::Ok))?;
    let config = |trusted: &str| {
        configured(&format!(
            "autha = 'http://{}'\n[rates]\nread = {{ per_second = 0.01, burst = 1 }}\n\
             [[listeners]]\naddress = '127.0.0.1:0'\ntrusted = [{trusted}]\n",
            autha.address
        ))
    };
    let from = |client: &str| format!("{GET}x-forwarded-for: {client}\r\n\r\n");
    let trusting = gateway(&config("'127.0.0.0/8'")?)?;
    for (client, status) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429)] {
        let answer = raw(&trusting, &from(client)).await?;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{client}: {answer}");
    }
    let alone = gateway(&config("")?)?;
    for (client, status) in [("192.0.2.1", 200), ("192.0.2.2", 429)] {
        let answer = raw(&alone, &from(client)).await?;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{client}: {answer}");
    }
    Ok(())
}

#[actix_web::test]
async fn a_proxy_header_tells_the_client_and_a_connection_without_one_is_ended() -> Result<()> {
    let autha = upstream(|| web::to(HttpResponse::Ok))?;
    let gateway = gateway(&configured(&format!(
        "autha = 'http://{}'\n[rates]\nread = {{ per_second = 0.01, burst = 1 }}\n\
         [[listeners]]\naddress = '127.0.0.1:0'\ntrusted = ['127.0.0.0/8']\nproxy_protocol = true\n",
        autha.address
    ))?)?;
    for (client, status) in [("192.0.2.1", 200), ("192.0.2.2", 200), ("192.0.2.1", 429)] {
        let answer = raw(&gateway, &format!("PROXY TCP4 {client} 127.0.0.1 4711 80\r\n{GET}\r\n")).await?;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{client}: {answer}");
    }
    assert_eq!(raw(&gateway, &format!("{GET}\r\n")).await?, "");
    Ok(())
}

/// An upstream over TLS with this certificate, that answers one request on each connection; how many it was asked for.
async fn upstream_over_tls(folder: &Path, file: &str) -> Result<(SocketAddr, Arc<AtomicUsize>)> {
    let chain = CertificateDer::from_pem_file(folder.join(format!("{file}.pem")))?;
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{file}.key")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    actix_rt::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not believe the certificate ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            if stream.read(&mut [0; 4096]).await.is_ok_and(|bytes| bytes > 0) {
                count.fetch_add(1, Ordering::Relaxed);
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                drop(stream.write_all(answer).await);
                drop(stream.shutdown().await);
            }
        }
    });
    Ok((address, asked))
}

#[actix_web::test]
async fn an_upstream_over_tls_is_asked_only_where_its_certificate_is_believed_and_its_own() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (file, name) in [("own", "localhost"), ("other", "other.example"), ("unknown", "localhost")] {
        certificate(folder.path(), file, name)?;
    }
    // The authorities of this gateway: those of the first two, not the third's.
    let known = ["own.pem", "other.pem"].map(|file| std::fs::read_to_string(folder.path().join(file)));
    let [own, other] = known;
    std::fs::write(folder.path().join("authorities.pem"), own? + &other?)?;
    for (file, status) in [("own", 200), ("other", 503), ("unknown", 503)] {
        let (upstream, asked) = upstream_over_tls(folder.path(), file).await?;
        let gateway = gateway(&configured(&format!(
            "autha = 'https://localhost:{}'\nupstream_ca_file = '{}'\n",
            upstream.port(),
            folder.path().join("authorities.pem").display()
        ))?)?;
        let reply = ask(&gateway, "GET /users/ada", "").await?;
        assert_eq!(reply.status, status, "{file}: {reply:?}");
        assert_eq!(asked.load(Ordering::Relaxed) > 0, status == 200, "{file}");
    }
    Ok(())
}

#[actix_web::test]
async fn a_scanner_finds_two_versions_of_tls_and_no_weak_cipher() -> Result<()> {
    let folder = tempfile::tempdir()?;
    certificate(folder.path(), "a", "a.example")?;
    let autha = upstream(|| web::to(HttpResponse::Ok))?;
    let gateway = encrypted(folder.path(), &autha, &["a"])?;
    let target = gateway.address.to_string();
    let scan = actix_web::rt::task::spawn_blocking(move || {
        std::process::Command::new("sslscan")
            .args(["--no-colour", "--no-failed", "--sni-name=a.example", &target])
            .output()
    });
    let scan = scan.await?.context("sslscan cannot be run: apt-get install sslscan")?;
    let found = String::from_utf8(scan.stdout)?;
    for (version, state) in [
        ("SSLv2", "disabled"),
        ("SSLv3", "disabled"),
        ("TLSv1.0", "disabled"),
        ("TLSv1.1", "disabled"),
        ("TLSv1.2", "enabled"),
        ("TLSv1.3", "enabled"),
    ] {
        let told = found.lines().any(|line| line.split_whitespace().eq([version, state]));
        assert!(told, "{version} is not {state}:\n{found}");
    }
    for wanted in [
        "Session renegotiation not supported",
        "TLSv1.3 not vulnerable to heartbleed",
        "TLSv1.2 not vulnerable to heartbleed",
    ] {
        assert!(found.contains(wanted), "not '{wanted}':\n{found}");
    }
    let ciphers: Vec<_> =
        found.lines().filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted")).collect();
    assert!(ciphers.len() >= 4, "{found}");
    for cipher in ciphers {
        // Authenticated encryption with 128 bits and more, and keys that are forgotten.
        let sound = ["GCM", "CHACHA20"].iter().any(|kind| cipher.contains(kind));
        let is_forgotten = cipher.contains("TLSv1.3") || cipher.contains("ECDHE");
        assert!(sound && is_forgotten, "{cipher}");
    }
    Ok(())
}
