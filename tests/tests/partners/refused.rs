//! Where no third party may have us deliver: inside addresses by number, by name, and by a name that changes its mind; certificates that are wrong.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use orrery_tests::deadline::until;
use serde_json::json;
use tokio::{net::UdpSocket, task::JoinHandle};

use crate::{
    receiver::Receiver,
    setting::{Party, SOON, Setting, builder, event, text},
};

/// A name server that answers every question for an IPv4 address with the one that it is told.
struct NameServer {
    address: SocketAddr,
    answer: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    async fn start(first: Ipv4Addr) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        let answer = Arc::new(AtomicU32::new(first.to_bits()));
        let shared = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let reply = reply(&question[..length], Ipv4Addr::from_bits(shared.load(Ordering::SeqCst)));
                // Who asked and went away hears nothing.
                socket.send_to(&reply, from).await.ok();
            }
        });
        Ok(Self { address, answer, task })
    }
}

/// RFC 1035: the question again, and one A record that may be kept for no time.
fn reply(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let mut end = 12;
    while let Some(length) = question.get(end).filter(|length| **length != 0) {
        end += usize::from(*length) + 1;
    }
    let kind = question.get(end + 1..end + 3).map_or(0, |kind| u16::from_be_bytes([kind[0], kind[1]]));
    let answers = u8::from(kind == 1);
    let mut reply = question[..2].to_vec();
    reply.extend_from_slice(&[0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0]);
    reply.extend_from_slice(&question[12..end + 5]);
    if answers == 1 {
        reply.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend_from_slice(&address.octets());
    }
    reply
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_addresses_are_refused_when_an_endpoint_is_made() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    for url in [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:80/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:192.168.0.1]/",
        "http://0x0a000001/",
        "http://localhost:8080/",
        "http://metadata.google.internal/",
        "http://postgres/",
        "ftp://203.0.113.1/",
        "http://user:password@example.com/",
        "nonsense",
    ] {
        let problem = acme.post("/partners/endpoints", &json!({"url": url})).await?.expect(422)?.problem()?;
        ensure!(problem.field("url").is_ok(), "{url}: {problem:?}");
    }
    let made = setting.world.database().count("SELECT count(*) FROM partners.endpoints").await?;
    ensure!(made == 0, "{made} were made");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_inside_later_is_not_followed() -> Result<()> {
    // 127.0.0.1 stands for the outside here, 127.0.0.2 for the inside.
    let names = NameServer::start(Ipv4Addr::new(127, 0, 0, 1)).await?;
    let builder = builder()
        .env("ORRERY_PARTNERS__TARGETS__NETWORKS", r#"["127.0.0.1/32"]"#)
        .env("ORRERY_PARTNERS__TARGETS__NAME_SERVERS", &format!("[\"{}\"]", names.address));
    let setting = Setting::of(builder, &["partners"]).await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    let url = format!("http://hooks.acme.example:{}/hook", receiver.port());
    let endpoint = acme.post("/partners/endpoints", &json!({"url": url})).await?.expect(201)?.body;
    ensure!(endpoint["state"] == "active", "{endpoint}");
    acme.send(&event("1")).await?.expect(202)?;
    receiver.wait(1, SOON).await?;
    names.answer.store(Ipv4Addr::new(127, 0, 0, 2).to_bits(), Ordering::SeqCst);
    // Another name, so that no connection that is open already leads there.
    let url = format!("http://inside.acme.example:{}/hook", receiver.port());
    let refused = acme.post("/partners/endpoints", &json!({"url": url})).await?.expect(201)?.body;
    ensure!(refused["state"] == "pending" && text(&refused, "reason")?.contains("not public"), "{refused}");
    ensure!(receiver.requests("OPTIONS").len() == 1, "it was asked");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_is_not_named_any_more_is_not_delivered_to() -> Result<()> {
    let mut setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    let receiver = Receiver::start().await?;
    let endpoint = acme.endpoint(&receiver, json!({})).await?;
    let id = text(&endpoint, "id")?;
    setting.service.terminate(SOON).await?;
    let before = receiver.deliveries().len();
    setting.service =
        setting.world.spawn_with(&["partners"], &[("ORRERY_PARTNERS__TARGETS__NETWORKS", "[]")]).await?;
    acme.send(&event("1")).await?.expect(202)?;
    let failed = format!(
        "SELECT count(*) FROM partners.deliveries WHERE endpoint = '{id}' AND last_error LIKE '%not public%'"
    );
    until(SOON, "it is refused", async || {
        setting.world.database().count(&failed).await.is_ok_and(|n| n == 1)
    })
    .await?;
    ensure!(receiver.deliveries().len() == before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_nobody_vouches_for_is_refused() -> Result<()> {
    let setting = Setting::start().await?;
    let acme = Party::acme(&setting).await?;
    // A receiver that speaks no TLS is as wrong as one with a wrong certificate: neither is asked anything.
    let receiver = Receiver::start().await?;
    let url = receiver.url().replace("http://", "https://");
    let endpoint = acme.post("/partners/endpoints", &json!({"url": url})).await?.expect(201)?.body;
    ensure!(text(&endpoint, "reason")?.contains("certificate"), "{endpoint}");
    let reason = endpoint["reason"].as_str().context("no reason")?;
    ensure!(!reason.contains("127.0.0.1"), "the reason tells more than it should: {reason}");
    Ok(())
}
