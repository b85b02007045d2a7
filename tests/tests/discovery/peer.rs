//! A peer: a WebSocket as the library of Turms opens it, and the frames that it sends and gets.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use orrery_tests::Client;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, protocol::CloseFrame},
};

use super::SOON;

/// How long nothing has to come to count as nothing.
const SILENCE: Duration = Duration::from_millis(700);

/// A WebSocket.
pub struct Peer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    reference: u64,
    /// What came while something else was waited for.
    kept: Vec<Value>,
}

impl Peer {
    /// Opens a socket as the library does.
    pub async fn open(base: &str, token: &str) -> Result<Self> {
        match Self::try_open(base, &format!("token={token}")).await? {
            Ok(peer) => Ok(peer),
            Err(status) => bail!("the upgrade was answered {status}"),
        }
    }

    /// Opens a socket with this query; the inner error is the status of a refusal.
    pub async fn try_open(base: &str, query: &str) -> Result<Result<Self, u16>> {
        let base = base.replacen("http", "ws", 1);
        let opening = connect_async(format!("{base}/socket/websocket?{query}"));
        match timeout(SOON, opening).await.context("no answer to the upgrade")? {
            Ok((socket, _)) => Ok(Ok(Self { socket, reference: 0, kept: Vec::new() })),
            Err(Error::Http(answer)) => Ok(Err(answer.status().as_u16())),
            Err(error) => Err(error).context("opening a socket"),
        }
    }

    /// Opens a socket and joins, and leaves what comes with that unread.
    pub async fn join(base: &str, client: &Client) -> Result<Self> {
        let mut peer = Self::open(base, client.access_token().context("no token")?).await?;
        let reply = peer.ask("phx_join", json!("")).await?;
        ensure!(reply["status"] == "ok", "{reply}");
        Ok(peer)
    }

    /// Sends a text as it is.
    pub async fn text(&mut self, text: &str) -> Result<()> {
        self.message(Message::text(text)).await
    }

    /// Sends a message as it is.
    pub async fn message(&mut self, message: Message) -> Result<()> {
        Ok(self.socket.send(message).await?)
    }

    /// Sends a frame, and gives the payload of its answer.
    pub async fn ask(&mut self, event: &str, payload: Value) -> Result<Value> {
        self.reference += 1;
        let reference = self.reference.to_string();
        self.text(&json!({"topic": "", "event": event, "payload": payload, "ref": reference}).to_string())
            .await?;
        let answer = self
            .until("an answer", |frame| frame["event"] == "phx_reply" && frame["ref"] == reference.as_str())
            .await?;
        Ok(answer["payload"].clone())
    }

    /// The payload of the next frame of this event.
    pub async fn event(&mut self, event: &str) -> Result<Value> {
        let frame = self.until(event, |frame| frame["event"] == event).await?;
        Ok(frame["payload"].clone())
    }

    /// Waits until a peer is told to be there.
    pub async fn came(&mut self, name: &str) -> Result<Value> {
        let frame = self
            .until("a peer to come", |frame| {
                frame["event"] == "presence_diff" && frame["payload"]["joins"].get(name).is_some()
            })
            .await?;
        Ok(frame["payload"]["joins"][name]["metas"][0].clone())
    }

    /// Waits until a peer is told to be gone.
    pub async fn left(&mut self, name: &str) -> Result<()> {
        self.until("a peer to leave", |frame| {
            frame["event"] == "presence_diff" && frame["payload"]["leaves"].get(name).is_some()
        })
        .await?;
        Ok(())
    }

    /// The next message that waited.
    pub async fn pending(&mut self) -> Result<Value> {
        let frame = self
            .until("a message", |frame| {
                let messages = frame["payload"]["messages"].as_array();
                frame["event"] == "pending_messages" && messages.is_some_and(|all| !all.is_empty())
            })
            .await?;
        Ok(frame["payload"]["messages"][0].clone())
    }

    /// The first frame that fits, of those that were kept and those that come. Others are kept.
    pub async fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        if let Some(place) = self.kept.iter().position(&fits) {
            return Ok(self.kept.remove(place));
        }
        loop {
            let frame = self.frame(SOON).await?.with_context(|| {
                format!("{what} did not come; this came: {}", Value::from(self.kept.clone()))
            })?;
            if fits(&frame) {
                return Ok(frame);
            }
            self.kept.push(frame);
        }
    }

    /// Whether a frame that fits came while another was waited for.
    pub fn has_got(&self, fits: impl Fn(&Value) -> bool) -> bool {
        self.kept.iter().any(fits)
    }

    /// The next frame, if one comes in time.
    pub async fn frame(&mut self, limit: Duration) -> Result<Option<Value>> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).context("no JSON"),
                    Some(Ok(Message::Close(frame))) => bail!("the socket was closed: {frame:?}"),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error).context("reading a socket"),
                    None => bail!("the socket has ended"),
                }
            }
        };
        timeout(limit, next).await.ok().transpose()
    }

    /// Expects that no frame comes that fits.
    pub async fn never(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<()> {
        while let Some(frame) = self.frame(SILENCE).await? {
            self.kept.push(frame);
        }
        match self.kept.iter().find(|frame| fits(frame)) {
            Some(frame) => bail!("{what} was not to come: {frame}"),
            None => Ok(()),
        }
    }

    /// Waits until the socket is closed, and gives the close frame's code and reason.
    pub async fn closed(&mut self) -> Result<(u16, String)> {
        let end = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                        return Ok((u16::from(code), reason.to_string()));
                    }
                    Some(Ok(Message::Close(None))) => bail!("closed without a code"),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error).context("reading a socket"),
                    None => bail!("the socket ended without a close frame"),
                }
            }
        };
        timeout(SOON, end).await.context("the socket was not closed")?
    }

    /// Takes leave.
    pub async fn close(mut self) -> Result<()> {
        self.socket.close(None).await?;
        let rest = async { while let Some(Ok(_)) = self.socket.next().await {} };
        timeout(SOON, rest).await.context("the socket does not end")
    }
}
