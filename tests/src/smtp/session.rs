//! The receiver's side of one SMTP session (RFC 5321; PIPELINING, 8BITMIME, SMTPUTF8, SIZE, without TLS or AUTH).

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{AppState, DataAnswer, Reply};
use crate::mail::Mail;

/// The longest command line taken, in bytes.
const MAX_LINE_BYTES: usize = 4096;
/// The largest message taken, in bytes.
const MAX_MESSAGE_BYTES: usize = 10 * 1000 * 1000;

/// A mail on its way in.
#[derive(Default)]
struct Envelope {
    from: Option<String>,
    to: Vec<String>,
}

/// Speaks with one client until it leaves or breaks off.
pub(super) async fn serve(mut stream: TcpStream, desk: &watch::Sender<AppState>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (from_client, mut to_client) = stream.split();
    let mut client = BufReader::with_capacity(64 * 1024, from_client);
    let mut envelope = Envelope::default();
    to_client.write_all(b"220 receiver.test ESMTP\r\n").await?;
    while let Some(line) = read_line(&mut client, MAX_LINE_BYTES).await? {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let mut silence = desk.subscribe();
        if silence
            .wait_for(|desk| desk.silent_at.is_none_or(|at| !at.eq_ignore_ascii_case(verb)))
            .await
            .is_err()
        {
            return Ok(());
        }
        let answer = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                envelope = Envelope::default();
                format!(
                    "250-receiver.test\r\n250-PIPELINING\r\n250-SIZE {MAX_MESSAGE_BYTES}\r\n250-8BITMIME\r\n250 SMTPUTF8"
                )
            }
            "HELO" => "250 receiver.test".to_owned(),
            "MAIL" => match path(rest, "FROM:") {
                Some(_) if envelope.from.is_some() => "503 5.5.1 nested MAIL command".to_owned(),
                Some(from) => {
                    envelope = Envelope { from: Some(from), to: Vec::new() };
                    "250 2.1.0 sender ok".to_owned()
                }
                None => "501 5.5.4 MAIL FROM:<address>".to_owned(),
            },
            "RCPT" => match path(rest, "TO:") {
                Some(_) if envelope.from.is_none() => "503 5.5.1 MAIL first".to_owned(),
                Some(to) => recipient(desk, &mut envelope, to),
                None => "501 5.5.4 RCPT TO:<address>".to_owned(),
            },
            "DATA" => {
                desk.send_modify(|desk| desk.attempts += 1);
                if envelope.to.is_empty() {
                    "503 5.5.1 RCPT first".to_owned()
                } else {
                    to_client.write_all(b"354 end with <CRLF>.<CRLF>\r\n").await?;
                    let Some(raw) = read_message(&mut client).await? else { return Ok(()) };
                    match take(desk, std::mem::take(&mut envelope), raw).await {
                        Some(answer) => answer,
                        None => return Ok(()),
                    }
                }
            }
            "RSET" => {
                envelope = Envelope::default();
                "250 2.0.0 reset".to_owned()
            }
            "NOOP" => "250 2.0.0 ok".to_owned(),
            "QUIT" => {
                to_client.write_all(b"221 2.0.0 bye\r\n").await?;
                return to_client.shutdown().await;
            }
            _ => "500 5.5.2 command unknown".to_owned(),
        };
        to_client.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

/// Answers one RCPT by script, else takes the recipient.
fn recipient(desk: &watch::Sender<AppState>, envelope: &mut Envelope, to: String) -> String {
    let mut scripted = None;
    desk.send_if_modified(|desk| {
        scripted = desk.rcpt_script.pop_front();
        false
    });
    let Reply { code, text } = scripted.unwrap_or(Reply { code: 250, text: "2.1.5 recipient ok".to_owned() });
    if (200..300).contains(&code) {
        envelope.to.push(to);
    }
    format!("{code} {text}")
}

/// Treats a whole message by script; `None` means that the connection closes without an answer.
async fn take(desk: &watch::Sender<AppState>, envelope: Envelope, raw: Message) -> Option<String> {
    let Message::Whole(raw) = raw else { return Some("552 5.3.4 message too large".to_owned()) };
    let mut scripted = None;
    let mail = Mail::parse(envelope.from.unwrap_or_default(), envelope.to, raw);
    desk.send_if_modified(|desk| {
        scripted = desk.data_script.pop_front();
        let refused =
            matches!(&scripted, Some(DataAnswer::Reply(reply)) if !(200..300).contains(&reply.code));
        if !refused {
            desk.mails.push(mail);
        }
        !refused
    });
    match scripted {
        None => {}
        Some(DataAnswer::Reply(Reply { code, text })) => return Some(format!("{code} {text}")),
        Some(DataAnswer::Delay(time)) => tokio::time::sleep(time).await,
        Some(DataAnswer::Drop) => return None,
    }
    Some("250 2.0.0 accepted".to_owned())
}

/// A message's bytes, or that they were more than are taken (and thrown away).
enum Message {
    Whole(Bytes),
    TooLarge,
}

/// Reads up to the line with the single dot, which is no part of the message; `None` when the client breaks off.
async fn read_message(client: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Message>> {
    let mut message = Vec::new();
    let mut too_large = false;
    while let Some(line) = read_line(client, MAX_MESSAGE_BYTES).await? {
        if line == b".\r\n" {
            return Ok(Some(if too_large { Message::TooLarge } else { Message::Whole(message.into()) }));
        }
        let line = line.strip_prefix(b".").unwrap_or(&line);
        too_large |= message.len() + line.len() > MAX_MESSAGE_BYTES;
        if too_large {
            message = Vec::new();
        } else {
            message.extend_from_slice(line);
        }
    }
    Ok(None)
}

/// Reads one line with its end; `None` at the end of the stream or of a line cut short.
async fn read_line(
    client: &mut (impl AsyncBufRead + Unpin),
    max_bytes: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    (&mut *client).take(limit).read_until(b'\n', &mut line).await?;
    if line.ends_with(b"\n") {
        return Ok(Some(line));
    }
    if line.len() >= max_bytes {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "line too long"));
    }
    Ok(None)
}

/// The address in `FROM:<a@b> PARAMETERS`; the keyword in any case, the parameters ignored.
fn path(rest: &str, keyword: &str) -> Option<String> {
    let rest = rest.trim_start();
    let (head, tail) = rest.split_at_checked(keyword.len())?;
    let address = tail.trim_start().strip_prefix('<')?.split_once('>')?.0;
    head.eq_ignore_ascii_case(keyword).then(|| address.to_owned())
}
