//! Mails a second into a server that takes everything and keeps nothing, by maily's transport and by lettre in a bare loop, in turn, in
//! one process: over one connection and over eight.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, Result, anyhow};
use chrono::DateTime;
use lettre::{
    AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor, message::MultiPart,
    transport::smtp::PoolConfig,
};
use orrery_maily::{
    Doubt, MailContext, OutgoingMail, Renderer, Transport,
    config::{Config, Relay, Tls, TransportKind},
};
use orrery_schemas::email::{Details, Template};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::figures::{Bound, Figure, Unit};
use crate::progress;

const ROUNDS: usize = 5;
const MAILS: usize = 4_000;
const RATIO_AIM: f64 = 0.9;

/// Measures both.
///
/// # Errors
/// A mail is not taken.
pub async fn measure() -> Result<Vec<Figure>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let server = tokio::spawn(take_all(listener));
    let mail = Arc::new(mail()?);
    let mut figures = Vec::new();
    for connections in [1_u32, 8] {
        progress(&format!(
            "{ROUNDS} rounds of {MAILS} mails over {connections} connections, ours and lettre's"
        ));
        let (mut ours, mut bare, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let one = with_maily(port, connections, &mail).await?;
            let other = with_lettre(port, connections, &mail).await?;
            ours.push(one);
            bare.push(other);
            ratios.push(one / other);
        }
        for (name, rates, unit, bound) in [
            ("maily", &mut ours, Unit::PerSecond, Bound::None),
            ("lettre, bare", &mut bare, Unit::PerSecond, Bound::None),
            ("ratio", &mut ratios, Unit::Ratio, Bound::Least(RATIO_AIM)),
        ] {
            rates.sort_by(f64::total_cmp);
            let median = rates.get(ROUNDS / 2).copied().context("no round")?;
            figures.push(Figure::once(
                &format!("mails over {connections} connections: {name}"),
                median,
                unit,
                bound,
            ));
        }
    }
    server.abort();
    Ok(figures)
}

fn mail() -> Result<OutgoingMail> {
    let now = DateTime::from_timestamp(1_763_696_460, 0).context("no time")?;
    let context = MailContext { username: "ada".into(), occurred_at: now, now, details: Details::default() };
    let rendered = Renderer::new(&Config::default())?.render(Template::Welcome, "en", &context)?;
    Ok(OutgoingMail {
        to: "jane@mail.example".into(),
        rendered,
        message_id: "<0199-a@orrery.example>".into(),
        date: now,
    })
}

async fn with_maily(port: u16, connections: u32, mail: &Arc<OutgoingMail>) -> Result<f64> {
    let smtp = Relay {
        host: "127.0.0.1".into(),
        port: Some(port),
        tls: Tls::None,
        pool_size: connections,
        ..Relay::default()
    };
    let config = Config { transport: TransportKind::Smtp, smtp, ..Config::default() };
    let transport = Arc::new(Transport::new(&config)?);
    let rate = rate(connections, || {
        let (transport, mail) = (Arc::clone(&transport), Arc::clone(mail));
        async move { Ok(transport.send(&mail, &Doubt::ignored()).await?) }
    })
    .await?;
    transport.close().await;
    Ok(rate)
}

async fn with_lettre(port: u16, connections: u32, mail: &Arc<OutgoingMail>) -> Result<f64> {
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(port)
        .pool_config(PoolConfig::new().max_size(connections))
        .build();
    rate(connections, || {
        let (transport, mail) = (transport.clone(), Arc::clone(mail));
        async move {
            // What maily does with each mail too: a message of its own.
            let message = Message::builder()
                .from("Orrery <no-reply@orrery.example>".parse()?)
                .to(mail.to.parse()?)
                .subject(mail.rendered.subject.as_str())
                .message_id(Some(mail.message_id.clone()))
                .multipart(MultiPart::alternative_plain_html(
                    mail.rendered.text.clone(),
                    mail.rendered.html.clone(),
                ))?;
            transport.send(message).await?;
            Ok(())
        }
    })
    .await
}

/// Mails a second with as many at once as there are connections.
async fn rate<F: Future<Output = Result<()>> + Send + 'static>(
    at_once: u32,
    send: impl Fn() -> F,
) -> Result<f64> {
    let mut sending = JoinSet::new();
    // Connections stand before the clock runs.
    for _ in 0..at_once {
        sending.spawn(send());
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    let began = Instant::now();
    for number in 0..MAILS {
        if number >= usize::try_from(at_once)? {
            sending.join_next().await.ok_or_else(|| anyhow!("nothing is sent"))???;
        }
        sending.spawn(send());
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    Ok(f64::from(u32::try_from(MAILS)?) / began.elapsed().as_secs_f64())
}

async fn take_all(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // A client that leaves is done.
        tokio::spawn(async move { drop(take(stream).await) });
    }
}

async fn take(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::with_capacity(64 * 1024, stream);
    let mut line = Vec::new();
    let mut in_message = false;
    stream.write_all(b"220 null\r\n").await?;
    while stream.read_until(b'\n', &mut line).await? > 0 {
        let answer: Option<&[u8]> = match line.get(..4) {
            _ if in_message => (line == b".\r\n").then_some(b"250 ok\r\n"),
            Some(b"EHLO") => Some(b"250-null\r\n250 8BITMIME\r\n"),
            Some(b"DATA") => Some(b"354 go on\r\n"),
            Some(b"QUIT") => Some(b"221 bye\r\n"),
            _ => Some(b"250 ok\r\n"),
        };
        in_message = if in_message { answer.is_none() } else { line.starts_with(b"DATA") };
        if let Some(answer) = answer {
            stream.write_all(answer).await?;
        }
        line.clear();
    }
    Ok(())
}
