//! HTTP spoken byte by byte, for requests that no decent client sends.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use orrery_tests::{Answer, World};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{
    TcpStream,
    tcp::{OwnedReadHalf, OwnedWriteHalf},
};
use tokio::time::timeout;

/// A connection to the gateway; its two halves can be used at once.
pub struct Raw {
    read: OwnedReadHalf,
    write: Option<OwnedWriteHalf>,
}

impl Raw {
    pub async fn connect(world: &World) -> Result<Self> {
        let url = world.gateway_url();
        let address = url.strip_prefix("http://").context("no address")?;
        let (read, write) = TcpStream::connect(address).await?.into_split();
        Ok(Self { read, write: Some(write) })
    }

    /// Sends the head of a request, and what follows it.
    pub async fn request(&mut self, line: &str, headers: &str, body: &[u8]) -> Result<()> {
        let head = format!("{line} HTTP/1.1\r\nhost: orrery.example\r\n{headers}\r\n");
        self.send(&[head.as_bytes(), body].concat()).await
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.write.as_mut().context("nothing more can be sent")?.write_all(bytes).await?)
    }

    /// Says that nothing more comes; the answer can still be read.
    pub fn end(&mut self) {
        self.write.take();
    }

    /// Sends `piece` every `pause` until the other side has no more of it or `most` were sent.
    pub fn pour(&mut self, piece: Vec<u8>, pause: Duration, most: usize) -> Result<()> {
        let mut write = self.write.take().context("nothing more can be sent")?;
        tokio::spawn(async move {
            for _ in 0..most {
                if write.write_all(&piece).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        });
        Ok(())
    }

    /// The answer.
    pub async fn answer(&mut self, deadline: Duration) -> Result<Answer> {
        timeout(deadline, self.read_answer()).await.context("no answer in time")?
    }

    async fn read_answer(&mut self) -> Result<Answer> {
        let mut got = Vec::new();
        loop {
            if let Some(answer) = parse(&got)? {
                return Ok(answer);
            }
            ensure!(self.read.read_buf(&mut got).await? > 0, "only this came: {}", got.escape_ascii());
        }
    }
}

/// A whole answer, once it is there.
fn parse(got: &[u8]) -> Result<Option<Answer>> {
    let Some(end) = got.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = got.split_at(end + 4);
    let head = std::str::from_utf8(head)?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let mut headers = HeaderMap::new();
    for line in head.lines().skip(1).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').context("no header")?;
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value.trim())?);
    }
    let Some(length) = headers.get("content-length") else { bail!("an answer without a length: {head}") };
    let length: usize = length.to_str()?.parse()?;
    let Some(body) = body.get(..length) else { return Ok(None) };
    let body = Bytes::copy_from_slice(body);
    Ok(Some(Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default(), bytes: body }))
}
