//! What each misbehaviour of a server means for a mail.

use super::{
    scripted::{Action, GREETING, MESSAGE, Scripted, healthy},
    *,
};
use crate::{
    config::{Config, Tls, TransportKind},
    transport::{Doubt, OutgoingMail, Transport, samples},
};

fn config(port: u16) -> Config {
    let smtp = config::Relay {
        host: "127.0.0.1".into(),
        port: Some(port),
        tls: Tls::None,
        timeout: Duration::from_millis(300),
        ..config::Relay::default()
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
    let result = transport(&server).send(&mail(), &Doubt::ignored()).await;
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
        transport.send(&mail(), &Doubt::ignored()).await.unwrap();
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
    // Twelve at once on a machine that does much else.
    config.smtp.timeout = Duration::from_secs(5);
    let transport = std::sync::Arc::new(Transport::new(&config).unwrap());
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let transport = std::sync::Arc::clone(&transport);
        all.spawn(async move { transport.send(&mail(), &Doubt::ignored()).await });
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
    assert_eq!(text, "5.1.1 <[removed]> from [removed] unknown");
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
    assert!(transport.send(&mail(), &Doubt::ignored()).await.is_err());
    transport
        .send(&OutgoingMail { to: "joe@mail.example".into(), ..mail() }, &Doubt::ignored())
        .await
        .unwrap();
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
    let smtp = Smtp::new(&config(port).smtp, "maily.smtp").unwrap();
    let packed = Packed { bytes: vec![b'x'; 32 << 20], ..Packed::new(&samples::from(), &mail()).unwrap() };
    let result = smtp.send(&packed, &Doubt::ignored(), &Scrubber::nobody()).await;
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
        let smtp = Smtp::new(&config(server.address.port()).smtp, "maily.smtp").unwrap();
        let first = Packed::new(&samples::from(), &mail()).unwrap();
        smtp.send(&first, &Doubt::ignored(), &Scrubber::nobody()).await.unwrap();
        let packed = Packed::new(&samples::from(), &mail()).unwrap();
        let from: Address = "second@orrery.example".parse().unwrap();
        smtp.send(&Packed { from, ..packed }, &Doubt::ignored(), &Scrubber::nobody()).await.unwrap();
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
    transport.send(&mail(), &Doubt::ignored()).await.unwrap();
    assert!(matches!(transport.send(&mail(), &Doubt::ignored()).await, Err(SendError::Doubtful { .. })));
    assert_eq!(server.seen(MESSAGE), [0, 0]);
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let transport = Transport::new(&config(listener.local_addr().unwrap().port())).unwrap();
    drop(listener);
    for result in [transport.send(&mail(), &Doubt::ignored()).await, transport.probe().await] {
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
        let result = Transport::new(&config).unwrap().send(&mail(), &Doubt::ignored()).await;
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
    for result in [transport.send(&mail(), &Doubt::ignored()).await, transport.probe().await] {
        assert!(is_unreachable_at(&result, Stage::Login), "{result:?}");
        assert!(!format!("{result:?}").contains("orrery.example"));
    }
    // Read anew at each log-in: the same transport goes on with the next password.
    fs::write(file.path(), "\u{feff}q\r\n").unwrap();
    transport.probe().await.unwrap();
    transport.send(&mail(), &Doubt::ignored()).await.unwrap();
    Transport::new(&config).unwrap().send(&mail(), &Doubt::ignored()).await.unwrap();
    config.smtp.password_file = Some("/nonexistent/password".into());
    assert!(matches!(Transport::new(&config), Err(SetupError::PasswordFile { .. })));
}

#[tokio::test]
async fn a_probe_opens_a_connection_of_its_own_and_sends_nothing() {
    let server = Scripted::start(|_, line| healthy(line)).await;
    let transport = transport(&server);
    transport.send(&mail(), &Doubt::ignored()).await.unwrap();
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
    let result = transport(&server).send(&mail, &Doubt::ignored()).await;
    assert!(matches!(result, Err(SendError::Permanent { code: None, .. })), "{result:?}");
    transport(&server).send(&mail, &Doubt::ignored()).await.unwrap();
    assert_eq!(server.seen("MAIL FROM:<no-reply@orrery.example> SMTPUTF8 BODY=8BITMIME"), [1]);
}

#[tokio::test]
async fn an_answer_that_is_no_utf8_counts_by_its_code() {
    // "\u{b2}..." is written as its bytes: GBK for "no such user".
    for (verb, stage) in [("MAIL", Stage::Sender), ("RCPT", Stage::Recipient), (MESSAGE, Stage::Data)] {
        let result = send_to(verb, || Action::SayBytes(b"550 5.1.1 \xb2\xbb\xb4\xe6\xd4\xda")).await;
        let Err(SendError::Permanent { stage: at, code: Some(550), text }) = result else {
            panic!("{result:?}")
        };
        assert!(at == stage && text.starts_with("5.1.1"), "{text}");
        let result = send_to(verb, || Action::SayBytes(b"451-\xc7\xeb\xc9\xd4\xba\xf3\r\n451 later")).await;
        assert!(matches!(result, Err(SendError::Temporary { code: 451, .. })), "{result:?}");
    }
    for (verb, said) in [
        (GREETING, b"220 \xbb\xb6\xd3\xad".as_slice()),
        ("EHLO", b"250-\xbb\xb6\xd3\xad\r\n250 8BITMIME"),
        (MESSAGE, b"250 \xca\xd5\xb5\xbd"),
    ] {
        let server =
            Scripted::start(
                move |_, line| if line.starts_with(verb) { Action::SayBytes(said) } else { healthy(line) },
            )
            .await;
        transport(&server).send(&mail(), &Doubt::ignored()).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_after_the_message_is_no_doubt_however_it_is_written() {
    for said in
        [&b"250"[..], b"250 ", b"250-a\r\n250 b", b"250-a\n250-b\n250 c", b"250 ok\r", b"250 x\r\r", b"250ok"]
    {
        let server = Scripted::start(
            move |_, line| if line == MESSAGE { Action::SayBytes(said) } else { healthy(line) },
        )
        .await;
        let transport = transport(&server);
        transport.send(&mail(), &Doubt::ignored()).await.unwrap();
        transport.send(&mail(), &Doubt::ignored()).await.unwrap();
        assert_eq!(server.seen(MESSAGE).len(), 2, "{}", said.escape_ascii());
    }
    // Cut off after its code, by leaving or by silence: the server has said it.
    for said in [&b"250"[..], b"250 2.0.0 qu", b"250-queued\r\n"] {
        let server =
            Scripted::start(
                move |_, line| if line == MESSAGE { Action::SayRawAndClose(said) } else { healthy(line) },
            )
            .await;
        transport(&server).send(&mail(), &Doubt::ignored()).await.unwrap();
    }
    let silent = Scripted::start(|_, line| {
        if line == MESSAGE { Action::SayRawAndFreeze(b"250-queued\r\n") } else { healthy(line) }
    })
    .await;
    transport(&silent).send(&mail(), &Doubt::ignored()).await.unwrap();
}

#[tokio::test]
async fn a_doubt_is_raised_only_while_nobody_has_answered() {
    let seen = std::sync::Mutex::new(Vec::new());
    let flag = |raised| seen.lock().unwrap().push(raised);
    let server = Scripted::start(|_, line| healthy(line)).await;
    transport(&server).send(&mail(), &Doubt::new(&flag)).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [true, false]);
    seen.lock().unwrap().clear();
    let refusing =
        Scripted::start(|_, line| if line == MESSAGE { Action::Say("550 no") } else { healthy(line) }).await;
    transport(&refusing).send(&mail(), &Doubt::new(&flag)).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [true, false]);
    seen.lock().unwrap().clear();
    let silent =
        Scripted::start(|_, line| if line == MESSAGE { Action::Freeze } else { healthy(line) }).await;
    transport(&silent).send(&mail(), &Doubt::new(&flag)).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [true], "and stays");
    seen.lock().unwrap().clear();
    let refused =
        Scripted::start(
            |_, line| if line.starts_with("RCPT") { Action::Say("550 no") } else { healthy(line) },
        )
        .await;
    transport(&refused).send(&mail(), &Doubt::new(&flag)).await.unwrap_err();
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_only_knows_helo_gets_mail() {
    for code in ["500 what", "502 not implemented", "504 no"] {
        let server = Scripted::start(move |_, line| match line.split(' ').next() {
            Some("EHLO") => Action::Say(code),
            Some("HELO") => Action::Say("250 here"),
            _ => healthy(line),
        })
        .await;
        transport(&server).send(&mail(), &Doubt::ignored()).await.unwrap();
        assert_eq!((server.seen("HELO").len(), server.seen(MESSAGE).len()), (1, 1), "{code}");
        assert_eq!(server.seen("MAIL FROM:<no-reply@orrery.example>"), [0]);
    }
    let result = send_to("EHLO", || Action::Say("550 go away")).await;
    assert!(is_unreachable_at(&result, Stage::Connect), "{result:?}");
}

#[tokio::test]
async fn a_probe_goes_as_deep_as_the_step_that_failed() {
    for verb in ["MAIL", "RCPT", "DATA"] {
        let ill = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let is_ill = std::sync::Arc::clone(&ill);
        let server = Scripted::start(move |_, line| {
            let freezes = line.starts_with(verb) && is_ill.load(std::sync::atomic::Ordering::Relaxed);
            if freezes { Action::Freeze } else { healthy(line) }
        })
        .await;
        let transport = transport(&server);
        transport.probe().await.unwrap();
        transport.send(&mail(), &Doubt::ignored()).await.unwrap_err();
        assert!(
            transport.probe().await.is_err(),
            "{verb}: well to EHLO and NOOP, silent at the step that mails fail at"
        );
        ill.store(false, std::sync::atomic::Ordering::Relaxed);
        transport.probe().await.unwrap();
        assert_eq!(server.seen(MESSAGE).len(), 0, "a probe sends nothing");
        transport.send(&mail(), &Doubt::ignored()).await.unwrap();
        let before = server.seen("RCPT").len();
        transport.probe().await.unwrap();
        assert_eq!(server.seen("RCPT").len(), before, "what gets away is probed by greeting again");
    }
    // Refused is answered: one recipient's refusal is no outage.
    let server = Scripted::start(|_, line| match line {
        "RCPT TO:<jane@mail.example>" => Action::Freeze,
        line if line.starts_with("RCPT") => Action::Say("550 not here"),
        _ => healthy(line),
    })
    .await;
    let transport = transport(&server);
    transport.send(&mail(), &Doubt::ignored()).await.unwrap_err();
    transport.probe().await.unwrap();
}

#[tokio::test]
async fn the_next_server_takes_what_the_first_cannot() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = listener.local_addr().unwrap().port();
    drop(listener);
    let second = Scripted::start(|_, line| healthy(line)).await;
    let mut config = config(dead);
    config.fallback = vec![config.smtp.clone()];
    config.fallback[0].port = Some(second.address.port());
    let transport = Transport::new(&config).unwrap();
    for _ in 0..3 {
        transport.send(&mail(), &Doubt::ignored()).await.unwrap();
    }
    transport.probe().await.unwrap();
    assert_eq!(second.seen(MESSAGE).len(), 3);
    // What the first one answered is its word: the second is not asked.
    let first = Scripted::start(|_, line| if line == MESSAGE { Action::Close } else { healthy(line) }).await;
    config.smtp.port = Some(first.address.port());
    let transport = Transport::new(&config).unwrap();
    assert!(matches!(transport.send(&mail(), &Doubt::ignored()).await, Err(SendError::Doubtful { .. })));
    assert_eq!(second.seen(MESSAGE).len(), 3);
}

#[tokio::test]
async fn each_way_to_log_in_is_spoken() {
    use crate::config::Authentication;
    for (wanted, offered, expected) in [
        (Authentication::Auto, "250-here\r\n250 AUTH LOGIN PLAIN", "AUTH PLAIN AHUAcA=="),
        (Authentication::Auto, "250-here\r\n250 AUTH=LOGIN", "AUTH LOGIN"),
        (
            Authentication::Xoauth2,
            "250-here\r\n250 AUTH PLAIN XOAUTH2",
            "AUTH XOAUTH2 dXNlcj11AWF1dGg9QmVhcmVyIHABAQ==",
        ),
    ] {
        let server = Scripted::start(move |_, line| match line {
            line if line.starts_with("EHLO") => Action::Say(offered),
            "AUTH LOGIN" => Action::Say("334 VXNlcm5hbWU6"),
            "dQ==" => Action::Say("334 UGFzc3dvcmQ6"),
            "cA==" => Action::Say("235 welcome"),
            _ => healthy(line),
        })
        .await;
        let mut config = config(server.address.port());
        config.smtp.username = Some("u".into());
        config.smtp.password = Some("p".into());
        config.smtp.authentication = wanted;
        Transport::new(&config).unwrap().send(&mail(), &Doubt::ignored()).await.unwrap();
        assert_eq!(server.seen(expected).len(), 1, "{expected}");
    }
}

#[tokio::test]
async fn a_trial_shows_the_dialogue_and_no_password() {
    let server = Scripted::start(|_, line| healthy(line)).await;
    let mut config = config(server.address.port());
    config.smtp.username = Some("u".into());
    config.smtp.password = Some("p".into());
    let trial = Transport::new(&config).unwrap().try_out(&mail()).await;
    assert_eq!(trial.result, Ok(()));
    let text = trial.lines.join("\n");
    for line in [
        "< 220 here",
        "> EHLO",
        "< 250-here",
        "> AUTH PLAIN [hidden]",
        "> RCPT TO:<jane@mail.example>",
        "> .",
        "> QUIT",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("AHUAcA=="), "{text}");
}
