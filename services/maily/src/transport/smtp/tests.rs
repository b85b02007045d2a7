//! What each misbehaviour of a server means for a mail.

use super::{
    scripted::{Action, GREETING, MESSAGE, Scripted, healthy},
    *,
};
use crate::{
    config::{Config, Tls, TransportKind},
    transport::{OutgoingMail, Transport, samples},
};

fn config(port: u16) -> Config {
    let smtp = config::Smtp {
        host: "127.0.0.1".into(),
        port: Some(port),
        tls: Tls::None,
        timeout: Duration::from_millis(300),
        ..config::Smtp::default()
    };
    let config = Config { transport: TransportKind::Smtp, smtp, ..Config::default() };
    assert_eq!(config.validate(), Ok(()));
    config
}

fn transport(server: &Scripted) -> Transport {
    Transport::new(&config(server.address.port())).unwrap()
}

fn mail() -> OutgoingMail {
    samples::mail("ada", "fr")
}

/// Sends one mail to a server that is well but for its answer to `verb`.
async fn send_to(verb: &'static str, action: fn() -> Action) -> Result<(), SendError> {
    let server =
        Scripted::start(move |_, line| if line.starts_with(verb) { action() } else { healthy(line) }).await;
    let result = transport(&server).send(&mail()).await;
    if let Err(error) = &result {
        let shown = format!("{error} {error:?}").to_lowercase();
        for secret in ["jane", "mail.example", "@", "203.0.113"] {
            assert!(!shown.contains(secret), "{secret} is in {shown}");
        }
    }
    result
}

fn is_unreachable_at(result: &Result<(), SendError>, wanted: Stage) -> bool {
    matches!(result, Err(SendError::Unreachable { stage, .. }) if *stage == wanted)
}

#[tokio::test]
async fn a_healthy_server_takes_mails_over_one_connection() {
    let server = Scripted::start(|_, line| healthy(line)).await;
    let transport = transport(&server);
    for _ in 0..3 {
        transport.send(&mail()).await.unwrap();
    }
    transport.close().await;
    assert_eq!(server.seen(MESSAGE), [0, 0, 0]);
    assert_eq!(server.seen("QUIT"), [0]);
    assert_eq!(server.seen("MAIL FROM:<no-reply@orrery.example>").len(), 3);
    assert_eq!(server.seen("RCPT TO:<jane@mail.example>").len(), 3);
}

#[tokio::test]
async fn mails_at_once_share_the_allowed_connections() {
    let server = Scripted::start(|_, line| healthy(line)).await;
    let mut config = config(server.address.port());
    config.smtp.pool_size = 2;
    let transport = std::sync::Arc::new(Transport::new(&config).unwrap());
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let transport = std::sync::Arc::clone(&transport);
        all.spawn(async move { transport.send(&mail()).await });
    }
    assert!(all.join_all().await.into_iter().all(|sent| sent.is_ok()));
    assert_eq!(server.seen(MESSAGE).len(), 12);
    assert!(server.seen(GREETING).len() <= 2, "{:?}", server.seen(GREETING));
}

#[tokio::test]
async fn a_4xx_is_temporary_and_names_nobody() {
    let result = send_to("RCPT", || Action::Say("451 4.7.1 <Jane@mail.example>: greylisted, jane")).await;
    let text = "4.7.1 <[removed]>: greylisted, [removed]".into();
    assert_eq!(result, Err(SendError::Temporary { stage: Stage::Recipient, code: 451, text }));
    for (verb, stage) in [("MAIL", Stage::Sender), ("DATA", Stage::Data), (MESSAGE, Stage::Data)] {
        let result = send_to(verb, || Action::Say("452 4.3.1 full")).await;
        assert_eq!(result, Err(SendError::Temporary { stage, code: 452, text: "4.3.1 full".into() }));
    }
}

#[tokio::test]
async fn a_5xx_is_permanent_and_names_nobody() {
    let said = || Action::Say("550-5.1.1 <jane@mail.example>\r\n550 5.1.1 from 203.0.113.9 unknown");
    let result = send_to("RCPT", said).await;
    let Err(SendError::Permanent { stage: Stage::Recipient, code: Some(550), text }) = result else {
        panic!("{result:?}");
    };
    assert!(text.starts_with("5.1.1 <[removed]>") && text.ends_with("unknown"), "{text}");
    let result = send_to(MESSAGE, || Action::Say("554 5.7.1 spam")).await;
    assert_eq!(
        result,
        Err(SendError::Permanent { stage: Stage::Data, code: Some(554), text: "5.7.1 spam".into() })
    );
}

#[tokio::test]
async fn a_refused_mail_leaves_its_connection_in_order() {
    let server = Scripted::start(|_, line| match line {
        "RCPT TO:<jane@mail.example>" => Action::Say("550 5.1.1 unknown"),
        _ => healthy(line),
    })
    .await;
    let transport = transport(&server);
    assert!(transport.send(&mail()).await.is_err());
    transport.send(&OutgoingMail { to: "joe@mail.example".into(), ..mail() }).await.unwrap();
    assert_eq!(server.seen("RSET"), [0]);
    assert_eq!(server.seen(MESSAGE), [0]);
}

#[tokio::test]
async fn a_server_that_closes_or_wants_another_login_is_unreachable() {
    for (verb, stage) in [("MAIL", Stage::Sender), ("RCPT", Stage::Recipient), (MESSAGE, Stage::Data)] {
        let result = send_to(verb, || Action::SayAndClose("421 4.3.2 closing, jane@mail.example")).await;
        assert!(is_unreachable_at(&result, stage), "{verb}: {result:?}");
    }
    let result = send_to("MAIL", || Action::Say("530 5.7.0 authentication required")).await;
    assert!(is_unreachable_at(&result, Stage::Sender), "{result:?}");
    let result = send_to(GREETING, || Action::SayAndClose("554 no service for 203.0.113.9")).await;
    assert!(is_unreachable_at(&result, Stage::Connect), "{result:?}");
}

#[tokio::test]
async fn a_connection_lost_before_the_message_is_unreachable() {
    for (verb, stage) in [
        (GREETING, Stage::Connect),
        ("EHLO", Stage::Connect),
        ("MAIL", Stage::Sender),
        ("RCPT", Stage::Recipient),
        ("DATA", Stage::Data),
    ] {
        for action in [|| Action::Close, || Action::Freeze] {
            let result = send_to(verb, action).await;
            assert!(is_unreachable_at(&result, stage), "{verb}: {result:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_lost_after_the_message_is_a_doubt() {
    for action in [|| Action::Close, || Action::Freeze] {
        let result = send_to(MESSAGE, action).await;
        assert!(matches!(result, Err(SendError::Doubtful { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn a_message_that_was_not_sent_whole_is_no_doubt() {
    // A server that asks for the message and reads none of it: more than the sockets hold cannot get away.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let reader = std::thread::spawn(move || {
        use std::io::{BufRead as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = std::io::BufReader::new(stream.try_clone().unwrap());
        stream.write_all(b"220 here\r\n").unwrap();
        for answer in ["250 here\r\n", "250 ok\r\n", "250 ok\r\n", "354 go on\r\n"] {
            lines.read_line(&mut String::new()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
        stream
    });
    let smtp = Smtp::new(samples::from(), &config(port).smtp).unwrap();
    let packed = Packed { bytes: vec![b'x'; 32 << 20], ..Packed::new(&samples::from(), &mail()).unwrap() };
    let result = smtp.send(&packed, &Scrubber::nobody()).await;
    assert!(is_unreachable_at(&result, Stage::Data), "{result:?}");
    drop(reader.join());
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_fails_no_mail() {
    for farewell in [|| Action::Close, || Action::SayAndClose("421 4.4.2 idle for too long")] {
        let server = Scripted::start(move |connection, line| {
            let is_second = connection == 0 && line.starts_with("MAIL FROM") && line.contains("second");
            if is_second { farewell() } else { healthy(line) }
        })
        .await;
        let transport = transport(&server);
        transport.send(&mail()).await.unwrap();
        let Transport::Smtp(smtp) = &transport else { panic!("not SMTP") };
        let packed = Packed::new(&samples::from(), &mail()).unwrap();
        let from: Address = "second@orrery.example".parse().unwrap();
        smtp.send(&Packed { from, ..packed }, &Scrubber::nobody()).await.unwrap();
        assert_eq!(server.seen(MESSAGE), [0, 1]);
    }
}

#[tokio::test]
async fn a_doubt_on_a_kept_connection_is_not_sent_again_at_once() {
    let messages = std::sync::atomic::AtomicUsize::new(0);
    let server = Scripted::start(move |_, line| match line {
        MESSAGE if messages.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 => Action::Close,
        _ => healthy(line),
    })
    .await;
    let transport = transport(&server);
    transport.send(&mail()).await.unwrap();
    assert!(matches!(transport.send(&mail()).await, Err(SendError::Doubtful { .. })));
    assert_eq!(server.seen(MESSAGE), [0, 0]);
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let transport = Transport::new(&config(listener.local_addr().unwrap().port())).unwrap();
    drop(listener);
    for result in [transport.send(&mail()).await, transport.probe().await] {
        assert!(is_unreachable_at(&result, Stage::Connect), "{result:?}");
    }
}

#[tokio::test]
async fn a_server_without_encryption_gets_neither_password_nor_mail() {
    let server = Scripted::start(|_, line| healthy(line)).await;
    for tls in [Tls::Starttls, Tls::Tls] {
        let mut config = config(server.address.port());
        config.smtp.tls = tls;
        config.smtp.username = Some("u".into());
        config.smtp.password = Some("p".into());
        let result = Transport::new(&config).unwrap().send(&mail()).await;
        assert!(is_unreachable_at(&result, Stage::Connect), "{result:?}");
    }
    assert_eq!(server.seen("AUTH").len() + server.seen("MAIL").len(), 0);
}

#[tokio::test]
async fn a_wrong_password_is_no_fault_of_the_mail() {
    let server = Scripted::start(|_, line| match line {
        "AUTH PLAIN AHUAcA==" => Action::Say("535 5.7.8 wrong, u@orrery.example"),
        _ => healthy(line),
    })
    .await;
    let mut config = config(server.address.port());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "p\n").unwrap();
    config.smtp.username = Some("u".into());
    config.smtp.password_file = Some(file.path().to_owned());
    let transport = Transport::new(&config).unwrap();
    for result in [transport.send(&mail()).await, transport.probe().await] {
        assert!(is_unreachable_at(&result, Stage::Login), "{result:?}");
        assert!(!format!("{result:?}").contains("orrery.example"));
    }
    fs::write(file.path(), "q").unwrap();
    Transport::new(&config).unwrap().send(&mail()).await.unwrap();
    config.smtp.password_file = Some("/nonexistent/password".into());
    assert!(matches!(Transport::new(&config), Err(SetupError::PasswordFile { .. })));
}

#[tokio::test]
async fn a_probe_opens_a_connection_of_its_own_and_sends_nothing() {
    let server = Scripted::start(|_, line| healthy(line)).await;
    let transport = transport(&server);
    transport.send(&mail()).await.unwrap();
    transport.probe().await.unwrap();
    assert_eq!(server.seen("NOOP"), [1]);
    assert_eq!(server.seen("QUIT"), [1]);
    assert_eq!(server.seen("MAIL"), [0]);
    let ill =
        Scripted::start(|_, line| if line == "NOOP" { Action::Say("451 ill") } else { healthy(line) }).await;
    let result = Transport::new(&config(ill.address.port())).unwrap().probe().await;
    assert!(is_unreachable_at(&result, Stage::Idle), "{result:?}");
}

#[tokio::test]
async fn an_international_address_needs_a_server_that_takes_it() {
    let server = Scripted::start(|connection, line| match line.split(' ').next() {
        Some("EHLO") if connection == 1 => Action::Say("250-here\r\n250-8BITMIME\r\n250 SMTPUTF8"),
        _ => healthy(line),
    })
    .await;
    let mail = OutgoingMail { to: "zoé@mail.example".into(), ..mail() };
    let result = transport(&server).send(&mail).await;
    assert!(matches!(result, Err(SendError::Permanent { code: None, .. })), "{result:?}");
    transport(&server).send(&mail).await.unwrap();
    assert_eq!(server.seen("MAIL FROM:<no-reply@orrery.example> SMTPUTF8 BODY=8BITMIME"), [1]);
}
