//! The mail receiver, spoken to line by line.

use anyhow::{Context, Result, ensure};
use orrery_tests::SmtpReceiver;
use orrery_tests::deadline::throughout;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{SOON, WHILE};

/// A mail client that sends lines and reads answers.
struct Talk(BufReader<TcpStream>);

impl Talk {
    async fn open(receiver: &SmtpReceiver) -> Result<Self> {
        let mut talk = Self(BufReader::new(TcpStream::connect(receiver.addr()).await?));
        talk.answer("220").await?;
        Ok(talk)
    }

    async fn say(&mut self, text: &str, expected: &str) -> Result<()> {
        self.0.write_all(format!("{text}\r\n").as_bytes()).await?;
        self.answer(expected).await
    }

    /// Reads one answer of one or more lines and compares its start.
    async fn answer(&mut self, expected: &str) -> Result<()> {
        loop {
            let mut line = String::new();
            let read = timeout(SOON, self.0.read_line(&mut line)).await.context("no answer came")??;
            ensure!(read > 0, "closed instead of {expected}");
            if line.as_bytes().get(3) != Some(&b'-') {
                ensure!(line.starts_with(expected), "{line:?} instead of {expected}");
                return Ok(());
            }
        }
    }

    async fn envelope(&mut self) -> Result<()> {
        self.say("MAIL FROM:<a@x.example> BODY=8BITMIME SMTPUTF8", "250").await?;
        self.say("RCPT TO:<b@y.example>", "250").await?;
        self.say("DATA", "354").await
    }
}

const MESSAGE: &str = "Message-ID: <one@x.example>\r\nFrom: a@x.example\r\nTo: b@y.example\r\n\
    Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/alternative; boundary=cut\r\n\r\n--cut\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
    ..dotted\r\n--cut\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>hello</p>\r\n--cut--\r\n.";

#[tokio::test]
async fn receiver_takes_a_mail_and_parses_it() -> Result<()> {
    let receiver = SmtpReceiver::start().await?;
    let mut talk = Talk::open(&receiver).await?;
    talk.say("RCPT TO:<b@y.example>", "500").await.err().context("RCPT before MAIL was taken")?;
    talk.say("EHLO me", "250").await?;
    talk.say("NONSENSE", "500").await?;
    talk.envelope().await?;
    talk.say(MESSAGE, "250").await?;
    talk.say("RSET", "250").await?;
    talk.say("NOOP", "250").await?;
    talk.say("QUIT", "221").await?;
    let mails = receiver.wait_for(1, SOON).await?;
    let mail = mails.first().context("no mail")?;
    assert_eq!((mail.from.as_str(), mail.to.as_slice()), ("a@x.example", &["b@y.example".to_owned()][..]));
    assert_eq!(mail.subject.as_deref(), Some("Grüße"));
    assert_eq!(mail.text.as_deref().map(str::trim), Some(".dotted"));
    assert_eq!(mail.html.as_deref().map(str::trim), Some("<p>hello</p>"));
    assert_eq!(mail.message_id.as_deref(), Some("one@x.example"));
    assert_eq!(mail.header("mime-version"), Some("1.0"));
    assert_eq!((receiver.attempts(), receiver.mails_to("B@y.example").len()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn receiver_takes_pipelined_commands_and_two_mails_on_one_connection() -> Result<()> {
    let receiver = SmtpReceiver::start().await?;
    let mut talk = Talk::open(&receiver).await?;
    for _ in 0..2 {
        talk.0
            .write_all(
                b"MAIL FROM:<a@x.example>\r\nRCPT TO:<b@y.example>\r\nRCPT TO:<c@y.example>\r\nDATA\r\n",
            )
            .await?;
        for expected in ["250", "250", "250", "354"] {
            talk.answer(expected).await?;
        }
        talk.say(MESSAGE, "250").await?;
    }
    let mails = receiver.wait_for(2, SOON).await?;
    assert!(mails.iter().all(|mail| mail.to.len() == 2));
    Ok(())
}

#[tokio::test]
async fn receiver_follows_its_script_and_then_accepts() -> Result<()> {
    let receiver = SmtpReceiver::start().await?;
    receiver.reply_to_data(451, "4.3.0 later");
    receiver.reply_to_data(550, "5.1.1 never");
    receiver.drop_after_data();
    receiver.delay(WHILE);
    let mut talk = Talk::open(&receiver).await?;
    for expected in ["451", "550"] {
        talk.envelope().await?;
        talk.say(MESSAGE, expected).await?;
    }
    assert!(receiver.mails().is_empty());
    talk.envelope().await?;
    let cut_off = talk.say(MESSAGE, "250").await;
    assert!(cut_off.is_err_and(|error| error.to_string().contains("closed")));
    assert_eq!(receiver.mails().len(), 1);
    let mut talk = Talk::open(&receiver).await?;
    talk.envelope().await?;
    let start = std::time::Instant::now();
    talk.say(MESSAGE, "250").await?;
    assert!(start.elapsed() >= WHILE);
    receiver.reply_to_rcpt(452, "4.2.2 full");
    talk.say("MAIL FROM:<a@x.example>", "250").await?;
    talk.say("RCPT TO:<b@y.example>", "452").await?;
    talk.say("DATA", "503").await?;
    talk.say("RSET", "250").await?;
    talk.envelope().await?;
    talk.say(MESSAGE, "250").await?;
    assert_eq!((receiver.mails().len(), receiver.attempts()), (3, 6));
    let error = receiver.wait_for(4, WHILE).await.err().context("there is no fourth mail")?;
    assert!(error.to_string().contains("there are 3 after 6 attempts"), "{error}");
    Ok(())
}

#[tokio::test]
async fn receiver_refuses_a_message_that_is_too_large_and_lives() -> Result<()> {
    let receiver = SmtpReceiver::start().await?;
    let mut talk = Talk::open(&receiver).await?;
    let line = "x".repeat(998) + "\r\n";
    for (lines, expected) in [(9_900, "250"), (10_100, "552"), (1, "250")] {
        talk.envelope().await?;
        talk.say(&(line.repeat(lines) + "."), expected).await?;
    }
    assert_eq!(receiver.mails().len(), 2);
    Ok(())
}

#[tokio::test]
async fn receiver_records_no_mail_that_is_cut_short() -> Result<()> {
    let receiver = SmtpReceiver::start().await?;
    let mut talk = Talk::open(&receiver).await?;
    talk.envelope().await?;
    talk.0.write_all(b"Subject: half\r\n\r\nno dot").await?;
    drop(talk);
    throughout(WHILE, "no mail is there", async || receiver.mails().is_empty()).await
}
