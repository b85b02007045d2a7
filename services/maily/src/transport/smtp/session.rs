//! One connection to a server: every step with its deadline, every failure with what it means for the mail. How replies are read lives
//! in `reply`, what is logged in with in `login`.

use std::{borrow::Cow, io, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    SendError, Server, Stage,
    dialogue::Dialogue,
    login::Credentials,
    reply::{Incoming, Reply, ReplyError},
    stream::Stream,
};
use crate::transport::{Doubt, scrub::Scrubber};

/// How long a reply may still come from a server that stopped reading.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection on which the server has greeted us, encryption stands and we are logged in.
pub(super) struct Session {
    stream: Stream,
    features: Features,
    mails: u32,
    dialogue: Dialogue,
    /// Whether a reply was cut off, so that nobody knows where the next one begins.
    is_out_of_step: bool,
}

/// What the server said it can do (RFC 5321, section 4.1.1.1); nothing, when it only knows HELO.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Features {
    pub starttls: bool,
    pub smtputf8: bool,
    pub eight_bit_mime: bool,
    /// Names of mechanisms of log-in, upper case.
    pub auth: Vec<String>,
}

/// What came instead of the awaited reply.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another reply.
    Refused(Reply),
    /// None that could be read.
    Broken(ReplyError),
    /// No reply at all within this time.
    Silence(Duration),
    /// Something that the server would have to be able to do.
    Missing(&'static str),
    /// Something of ours that is needed for the next step.
    Ours(String),
}

impl From<ReplyError> for Failure {
    fn from(error: ReplyError) -> Self {
        Self::Broken(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

/// The replies that let a conversation go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// 2xx.
    Done,
    /// 3xx: the server wants what follows.
    More,
}

impl Awaited {
    fn is(self, reply: &Reply) -> bool {
        let class = reply.code / 100;
        class == if self == Self::Done { 2 } else { 3 }
    }
}

impl Session {
    /// Connects, greets, encrypts and logs in. Whatever goes wrong here is about the server or our configuration,
    /// never about a mail: a wrong password must not turn every mail into a dead letter.
    pub(super) async fn open(
        server: &Server,
        scrubber: &Scrubber,
        dialogue: Dialogue,
    ) -> Result<Self, SendError> {
        // A name with several addresses has each tried within this one deadline doubled, so that a dead first
        // address leaves time for the second.
        let limit = server.timeout.saturating_mul(2);
        let until = Instant::now() + limit;
        let kept = dialogue.clone();
        let opening = async {
            let tls = server.encryption.implicit();
            let stream = Stream::connect(&server.host, server.port, server.timeout, tls).await?;
            let encrypted = if tls.is_some() { " over TLS" } else { "" };
            dialogue.note(&format!("connected to {} port {}{encrypted}", server.host, server.port));
            let features = Features::default();
            let mut session = Self { stream, features, mails: 0, dialogue, is_out_of_step: false };
            session.reply(limit, Awaited::Done).await?;
            session.hello(server).await?;
            if let Some(tls) = server.encryption.starttls() {
                if !session.features.starttls {
                    return Err(Failure::Missing(
                        "the server offers no STARTTLS: set tls to \"tls\", or to \"none\" within a network of your own",
                    ));
                }
                session.command("STARTTLS", server.timeout, Awaited::Done).await?;
                session.stream = session.stream.encrypted(tls).await?;
                session.dialogue.note("encrypted, the certificate is right");
                session.hello(server).await?;
            }
            Ok(session)
        };
        let opened = match timeout_at(until, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::Silence(limit)),
        };
        let mut session = opened.map_err(|failure| {
            kept.note(&failure.words());
            failure.unreachable(Stage::Connect, scrubber)
        })?;
        if let Some(credentials) = &server.credentials {
            session.log_in(server, credentials).await.map_err(|failure| {
                kept.note(&failure.words());
                failure.unreachable(Stage::Login, scrubber)
            })?;
        }
        Ok(session)
    }

    /// Mails that were begun on this connection.
    pub(super) fn mails(&self) -> u32 {
        self.mails
    }

    /// Whether the next command's reply would be its own.
    pub(super) fn is_in_step(&self) -> bool {
        !self.is_out_of_step && !self.stream.has_unread()
    }

    pub(super) fn features(&self) -> &Features {
        &self.features
    }

    /// EHLO, and HELO to a server that does not know it (RFC 5321, section 4.1.4).
    async fn hello(&mut self, server: &Server) -> Result<(), Failure> {
        match self.command(&format!("EHLO {}", server.hello), server.timeout, Awaited::Done).await {
            Ok(reply) => self.features = Features::read(&reply),
            Err(Failure::Refused(reply)) if matches!(reply.code, 500 | 502 | 504) => {
                self.features = Features::default();
                self.command(&format!("HELO {}", server.hello), server.timeout, Awaited::Done).await?;
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    async fn log_in(&mut self, server: &Server, credentials: &Credentials) -> Result<(), Failure> {
        let mechanism = credentials.mechanism(&self.features.auth)?;
        let mut steps = credentials.steps(mechanism).await?.into_iter();
        let first = steps.next().unwrap_or_default();
        let mut reply = self.secret(&format!("AUTH {}", mechanism.name()), &first, server.timeout).await?;
        loop {
            match reply.code {
                200..300 => return Ok(()),
                // XOAUTH2 tells its error in a challenge, and wants an empty line before it says no.
                334 => reply = self.secret("", &steps.next().unwrap_or_default(), server.timeout).await?,
                _ => return Err(Failure::Refused(reply)),
            }
        }
    }

    /// Says one command and waits for the reply that lets the mail go on.
    pub(super) async fn say(
        &mut self,
        server: &Server,
        stage: Stage,
        command: &str,
        awaited: Awaited,
        scrubber: &Scrubber,
    ) -> Result<Reply, SendError> {
        self.command(command, server.timeout, awaited).await.map_err(|failure| failure.at(stage, scrubber))
    }

    /// Sends the message itself, after `DATA` was answered, and waits until the server has taken it over. `doubt` is raised while
    /// the message may be out and nobody has said so.
    pub(super) async fn message(
        &mut self,
        server: &Server,
        bytes: &[u8],
        doubt: &Doubt<'_>,
        scrubber: &Scrubber,
    ) -> Result<Reply, SendError> {
        self.mails = self.mails.saturating_add(1);
        let until = Instant::now() + server.accept_timeout;
        // As long as the closing dot has not left, the server cannot have seen a whole message.
        let text = stuffed(bytes);
        self.dialogue.note(&format!("the message, {} bytes", text.len()));
        let sent = match timeout_at(until, self.stream.write(&text)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.last_words(error).await),
            Err(_) => Err(Failure::Silence(server.accept_timeout)),
        };
        sent.map_err(|failure| failure.at(Stage::Data, scrubber))?;
        doubt.raise();
        self.dialogue.sent(".");
        let ended = match timeout_at(until, self.stream.write(b".\r\n")).await {
            Ok(Ok(())) => self.reply_until(until, server.accept_timeout, Awaited::Done).await,
            Ok(Err(error)) => Err(self.last_words(error).await),
            Err(_) => Err(Failure::Silence(server.accept_timeout)),
        };
        let failure = match ended {
            Ok(reply) => {
                doubt.settle();
                return Ok(reply);
            }
            Err(failure) => failure,
        };
        match failure {
            // It answered, and did not take the mail.
            Failure::Refused(reply) if reply.code >= 400 => {
                doubt.settle();
                Err(Failure::Refused(reply).at(Stage::Data, scrubber))
            }
            failure => Err(SendError::Doubtful { cause: failure.text(scrubber) }),
        }
    }

    /// Takes leave. The server's answer is of no interest.
    pub(super) async fn quit(mut self, server: &Server) {
        drop(self.command("QUIT", server.timeout, Awaited::Done).await);
    }

    async fn command(&mut self, line: &str, limit: Duration, awaited: Awaited) -> Result<Reply, Failure> {
        self.dialogue.sent(line);
        self.exchange(line, limit, awaited).await
    }

    /// As `command`, with a part that nobody sees; any reply is given back.
    async fn secret(&mut self, line: &str, secret: &str, limit: Duration) -> Result<Reply, Failure> {
        self.dialogue.sent(&format!("{line} [hidden]"));
        let line = if line.is_empty() { secret.to_owned() } else { format!("{line} {secret}") };
        match self.exchange(line.trim_end(), limit, Awaited::Done).await {
            Err(Failure::Refused(reply)) => Ok(reply),
            said => said,
        }
    }

    async fn exchange(&mut self, line: &str, limit: Duration, awaited: Awaited) -> Result<Reply, Failure> {
        let until = Instant::now() + limit;
        // One command is one line, whatever stands in it.
        let line: String =
            line.chars().filter(|c| !matches!(c, '\r' | '\n' | '\0')).chain("\r\n".chars()).collect();
        match timeout_at(until, self.stream.write(line.as_bytes())).await {
            Ok(Ok(())) => self.reply_until(until, limit, awaited).await,
            Ok(Err(error)) => Err(self.last_words(error).await),
            Err(_) => Err(Failure::Silence(limit)),
        }
    }

    async fn reply(&mut self, limit: Duration, awaited: Awaited) -> Result<Reply, Failure> {
        self.reply_until(Instant::now() + limit, limit, awaited).await
    }

    async fn reply_until(
        &mut self,
        until: Instant,
        limit: Duration,
        awaited: Awaited,
    ) -> Result<Reply, Failure> {
        let mut incoming = Incoming::default();
        let came = match timeout_at(until, self.stream.reply(&mut incoming)).await {
            Ok(came) => came?,
            // A code that came counts, though its end did not.
            Err(_) => incoming.partial().ok_or(Failure::Silence(limit))?,
        };
        self.is_out_of_step |= !came.is_whole;
        self.dialogue.received(&came);
        if awaited.is(&came) { Ok(came) } else { Err(Failure::Refused(came)) }
    }

    /// What a server said before it stopped reading: a refusal in the middle of a message, or that it closes.
    async fn last_words(&mut self, error: io::Error) -> Failure {
        match self.reply(LAST_WORDS, Awaited::More).await {
            Err(Failure::Refused(reply)) if reply.code >= 400 => Failure::Refused(reply),
            _ => Failure::Broken(error.into()),
        }
    }
}

impl Features {
    fn read(reply: &Reply) -> Self {
        let mut features = Self::default();
        // The first line is the server's name.
        for line in reply.lines.iter().skip(1) {
            // Old servers write AUTH=LOGIN.
            let line = line.trim().to_ascii_uppercase().replacen("AUTH=", "AUTH ", 1);
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("STARTTLS") => features.starttls = true,
                Some("SMTPUTF8") => features.smtputf8 = true,
                Some("8BITMIME") => features.eight_bit_mime = true,
                Some("AUTH") => features.auth.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        features
    }
}

impl Failure {
    /// What it means for the mail that was being sent.
    fn at(self, stage: Stage, scrubber: &Scrubber) -> SendError {
        let Self::Refused(reply) = &self else { return self.unreachable(stage, scrubber) };
        let (code, text) = (reply.code, scrubber.clean(&reply.text()));
        match code {
            // 421: the server is closing (RFC 5321, section 3.8). 530, 535, 538: it wants another log-in (RFC 4954,
            // section 6), which no mail can help.
            421 | 530 | 535 | 538 => self.unreachable(stage, scrubber),
            400..500 => SendError::Temporary { stage, code, text },
            500..600 => SendError::Permanent { stage, code: Some(code), text },
            _ => self.unreachable(stage, scrubber),
        }
    }

    pub(super) fn unreachable(&self, stage: Stage, scrubber: &Scrubber) -> SendError {
        SendError::Unreachable { stage, cause: self.text(scrubber) }
    }

    /// The server's words, or what happened, scrubbed.
    fn text(&self, scrubber: &Scrubber) -> String {
        scrubber.clean(&self.words())
    }

    fn words(&self) -> String {
        match self {
            Self::Silence(limit) => format!("no answer within {limit:?}"),
            Self::Broken(error) => error.to_string(),
            Self::Refused(reply) => format!("{} {}", reply.code, reply.text()).trim_end().to_owned(),
            Self::Missing(what) => (*what).to_owned(),
            Self::Ours(what) => what.clone(),
        }
    }
}

/// The message as it travels: a line that begins with a dot has one more, and the last line is ended (RFC 5321, section 4.5.2).
fn stuffed(bytes: &[u8]) -> Cow<'_, [u8]> {
    let needs_dots = bytes.first() == Some(&b'.') || bytes.windows(2).any(|pair| pair == b"\n.");
    let is_ended = bytes.ends_with(b"\r\n");
    if !needs_dots && is_ended {
        return Cow::Borrowed(bytes);
    }
    let mut text = Vec::with_capacity(bytes.len() + 64);
    let mut at_start = true;
    for byte in bytes {
        if at_start && *byte == b'.' {
            text.push(b'.');
        }
        text.push(*byte);
        at_start = *byte == b'\n';
    }
    if !is_ended {
        text.extend(b"\r\n");
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_begins_with_a_dot_has_one_more() {
        assert_eq!(&*stuffed(b"a\r\n.\r\n..b\r\nc."), b"a\r\n..\r\n...b\r\nc.\r\n");
        assert_eq!(&*stuffed(b".a\r\n"), b"..a\r\n");
        assert!(matches!(stuffed(b"a.b\r\nc\r\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn features_are_read_in_any_spelling() {
        let lines = ["here", "8bitmime", "AUTH PLAIN LOGIN", "auth=XOAUTH2", "SMTPUTF8 ", "STARTTLS"];
        let reply = Reply { code: 250, lines: lines.map(str::to_owned).to_vec(), is_whole: true };
        let features = Features::read(&reply);
        assert!(features.starttls && features.smtputf8 && features.eight_bit_mime);
        assert_eq!(features.auth, ["PLAIN", "LOGIN", "XOAUTH2"]);
    }
}
