//! The gateway beside nginx, on the same upstream in one run: small and large answers passed on, an answer from the cache, TLS handshakes. The
//! load comes from this process; all share the machine's cores, each side in turn.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustls::{ClientConfig, RootCertStore, client::Resumption, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    figures::{Bound, Figure, Times, Unit},
    progress,
};

/// Connections of a load, and how long it lasts.
const CONNECTIONS: usize = 32;
const LASTS: Duration = Duration::from_secs(8);
const WARM: Duration = Duration::from_secs(2);
/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);
const LARGE_BYTES: usize = 1 << 20;

/// The name on the certificate of both.
const NAME: &str = "bench.example";
/// The path of the small answer.
const SMALL: &str = "/users/ada";

/// A process that ends with the benchmark.
struct Server {
    child: Child,
    address: SocketAddr,
    /// Where it speaks TLS.
    encrypted: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not SIGKILL, after which nginx' workers stay.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
        drop(self.child.wait());
    }
}

/// What was asked, and how.
struct Load {
    name: &'static str,
    path: &'static str,
    least: f64,
}

const LOADS: [Load; 3] = [
    Load { name: "small answer, passed on", path: SMALL, least: 0.9 },
    Load { name: "1 MiB answer, passed on", path: "/avatars/a/b-c.webp", least: 0.9 },
    Load { name: "small answer, cached", path: "/status.json", least: 1.0 },
];

/// Measures both.
///
/// # Errors
/// When a part cannot be started, or answers wrongly.
pub async fn measure() -> Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("orrery-bench-gateway-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let figures = compare(&folder).await;
    drop(std::fs::remove_dir_all(&folder));
    figures
}

async fn compare(folder: &Path) -> Result<Vec<Figure>> {
    let upstream = upstream().await?;
    let connector = certificate(folder)?;
    let nginx = nginx(folder, upstream).await?;
    let ours = ours(folder, upstream).await?;
    let mut figures = Vec::new();
    for load in LOADS {
        let mut rates = Vec::new();
        for (who, server) in [("nginx", &nginx), ("gateway", &ours)] {
            progress(&format!("{}: {who}", load.name));
            run(server.address, load.path, WARM).await?;
            let times = run(server.address, load.path, LASTS).await?;
            rates.push(told(&mut figures, &format!("{}, {who}", load.name), &times)?);
        }
        figures.push(beside(load.name, &rates, load.least));
    }
    let name = "a TLS 1.3 handshake and a small answer";
    let mut rates = Vec::new();
    for (who, server) in [("nginx", &nginx), ("gateway", &ours)] {
        progress(&format!("{name}: {who}"));
        handshakes(server.encrypted, &connector, WARM).await?;
        let times = handshakes(server.encrypted, &connector, LASTS).await?;
        rates.push(told(&mut figures, &format!("{name}, {who}"), &times)?);
    }
    figures.push(beside(name, &rates, 0.9));
    for (who, server) in [("nginx", &nginx), ("gateway", &ours)] {
        let bytes = resident_bytes(server.child.id())?;
        figures.push(Figure::once(
            &format!("memory, {who}"),
            f64::from(u32::try_from(bytes / 1024)?) * 1024.0 / 1e6,
            Unit::Megabytes,
            Bound::None,
        ));
    }
    Ok(figures)
}

/// Adds what a load came to, and returns it: answers a second.
fn told(figures: &mut Vec<Figure>, name: &str, times: &Times) -> Result<f64> {
    let rate = f64::from(u32::try_from(times.len())?) / LASTS.as_secs_f64();
    figures.push(Figure::once(name, rate, Unit::PerSecond, Bound::None));
    figures.push(times.figure(name, 99, Bound::None)?);
    Ok(rate)
}

fn beside(name: &str, rates: &[f64], least: f64) -> Figure {
    let ratio = rates.get(1).zip(rates.first()).map_or(0.0, |(ours, theirs)| ours / theirs);
    Figure::once(&format!("{name}, gateway : nginx"), ratio, Unit::Ratio, Bound::Least(least))
}

/// Writes one certificate (ECDSA P-256) for both; returns what trusts it and resumes nothing.
fn certificate(folder: &Path) -> Result<TlsConnector> {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()])?;
    std::fs::write(folder.join("bench.key"), made.signing_key.serialize_pem())?;
    std::fs::write(folder.join("bench.pem"), made.cert.pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The memory of a process and of its children.
fn resident_bytes(pid: u32) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok())
        };
        if field("Pid:") == Some(u64::from(pid)) || field("PPid:") == Some(u64::from(pid)) {
            bytes += field("VmRSS:").unwrap_or(0) * 1024;
        }
    }
    Ok(bytes)
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

async fn ready(child: Child, address: SocketAddr, encrypted: SocketAddr) -> Result<Server> {
    let server = Server { child, address, encrypted };
    let begun = Instant::now();
    let answers = async || get(&mut TcpStream::connect(address).await?, "/status.json").await;
    while answers().await.is_err() {
        ensure!(begun.elapsed() < START, "{address} does not answer");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(server)
}

async fn ours(folder: &Path, upstream: SocketAddr) -> Result<Server> {
    let binary = std::env::var("ORRERY_BIN").context("ORRERY_BIN names the binary")?;
    let (address, encrypted, internal) = (free_port()?, free_port()?, free_port()?);
    let file = folder.join("orrery.toml");
    let place = folder.display();
    std::fs::write(
        &file,
        format!(
            "[[gateway.listeners]]\naddress = '{address}'\n[[gateway.listeners]]\naddress = '{encrypted}'\n[gateway.listeners.tls]\n\
             certificates = [{{ chain = '{place}/bench.pem', key = '{place}/bench.key' }}]\n"
        ),
    )?;
    let child = Command::new(binary)
        .arg("--config")
        .arg(&file)
        .args(["serve", "gateway"])
        .env("ORRERY_INTERNAL__LISTEN", internal.to_string())
        .env("ORRERY_GATEWAY__AUTHA", format!("http://{upstream}"))
        .env("ORRERY_GATEWAY__RATES__ENABLED", "false")
        .env("ORRERY_GATEWAY__OUTSTANDING", "1024")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the gateway")?;
    ready(child, address, encrypted).await
}

async fn nginx(folder: &Path, upstream: SocketAddr) -> Result<Server> {
    let (address, encrypted) = (free_port()?, free_port()?);
    let file: PathBuf = folder.join("nginx.conf");
    let folder = folder.display();
    std::fs::write(
        &file,
        format!(
            "worker_processes 2;\ndaemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n access_log off;\n client_body_temp_path {folder}/body;\n proxy_temp_path {folder}/proxy;\n\
             fastcgi_temp_path {folder}/f;\n uwsgi_temp_path {folder}/u;\n scgi_temp_path {folder}/s;\n\
             keepalive_requests 1000000;\n\
             proxy_cache_path {folder}/cache keys_zone=kept:8m;\n\
             upstream behind {{ server {upstream}; keepalive 64; keepalive_requests 1000000; }}\n\
             server {{ listen {address};\n  proxy_http_version 1.1;\n  proxy_set_header Connection '';\n\
             \x20 location / {{ proxy_pass http://behind; }}\n\
             \x20 location /status.json {{ proxy_pass http://behind; proxy_cache kept; }}\n }}\n\
             server {{ listen {encrypted} ssl;\n  ssl_certificate {folder}/bench.pem;\n  ssl_certificate_key {folder}/bench.key;\n\
             \x20 ssl_protocols TLSv1.3;\n  proxy_http_version 1.1;\n  proxy_set_header Connection '';\n\
             \x20 location / {{ proxy_pass http://behind; }}\n }}\n}}\n"
        ),
    )?;
    let child = Command::new("nginx")
        .arg("-c")
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("nginx cannot be started: apt-get install nginx")?;
    ready(child, address, encrypted).await
}

/// What both stand before: it answers at once, small or large, and says of one path that it may be kept.
async fn upstream() -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let answer = |control: &str, body: &[u8]| {
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: {control}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        answer.extend_from_slice(body);
        answer
    };
    let small = br#"{"id":"ada","name":"Ada","bio":"a small answer as a profile is one"}"#;
    let answers = Arc::new([
        answer("no-store", small),
        answer("no-store", &vec![b'x'; LARGE_BYTES]),
        answer("public, max-age=600", small),
    ]);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answers = Arc::clone(&answers);
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut buffer = [0; 4096];
                drop(stream.set_nodelay(true));
                while let Ok(length) = stream.read(&mut buffer).await {
                    head.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    if length == 0 {
                        return;
                    }
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let place = if head.starts_with(b"GET /avatars") {
                        1
                    } else {
                        usize::from(head.starts_with(b"GET /status.json")) * 2
                    };
                    head.clear();
                    let Some(answer) = answers.get(place) else { return };
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// One load: how long each answer took.
async fn run(address: SocketAddr, path: &'static str, lasts: Duration) -> Result<Times> {
    let until = Instant::now() + lasts;
    collected((0..CONNECTIONS).map(|_| async move {
        let mut stream = TcpStream::connect(address).await?;
        let mut taken = Vec::new();
        while Instant::now() < until {
            let begun = Instant::now();
            timeout(START, get(&mut stream, path)).await??;
            taken.push(begun.elapsed());
        }
        Ok(taken)
    }))
    .await
}

/// A connection and a handshake for each small answer: how long each took.
async fn handshakes(address: SocketAddr, connector: &TlsConnector, lasts: Duration) -> Result<Times> {
    let until = Instant::now() + lasts;
    collected((0..CONNECTIONS).map(|_| {
        let connector = connector.clone();
        async move {
            let mut taken = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                timeout(START, async {
                    let stream = TcpStream::connect(address).await?;
                    let mut stream = connector.connect(ServerName::try_from(NAME)?, stream).await?;
                    get(&mut stream, SMALL).await
                })
                .await??;
                taken.push(begun.elapsed());
            }
            Ok(taken)
        }
    }))
    .await
}

/// The times of all clients, who work side by side.
async fn collected(
    clients: impl Iterator<Item = impl Future<Output = Result<Vec<Duration>>> + Send + 'static>,
) -> Result<Times> {
    let mut clients: JoinSet<_> = clients.collect();
    let mut times = Times::default();
    while let Some(taken) = clients.join_next().await {
        taken??.into_iter().for_each(|time| times.add(time));
    }
    Ok(times)
}

/// One request on a connection that stays.
async fn get(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> Result<()> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {NAME}\r\n\r\n").as_bytes()).await?;
    let mut head = Vec::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    let (begin, length) = loop {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "the connection ended");
        head.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(head.get(..end).unwrap_or_default()).to_ascii_lowercase();
            ensure!(text.starts_with("http/1.1 200"), "{path}: {text}");
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            break (end + 4, length.context("no length")?);
        }
    };
    let mut left = (begin + length).saturating_sub(head.len());
    while left > 0 {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "the connection ended");
        left = left.saturating_sub(read);
    }
    Ok(())
}
