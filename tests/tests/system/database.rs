//! PostgreSQL as others have set it up: poolers before it, settings of the database and the role, rights, languages, keys. Outages are in `outages`.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, ensure};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use lapin::{BasicProperties, types::AMQPValue};
use orrery_tests::{
    Person, Postgres, RabbitMq, World, broker::event_headers, deadline::eventually, fresh, process::Process,
    programs,
};
use reqwest::Url;

const SOON: Duration = Duration::from_secs(60);

/// PgBouncer before the world's database; none where the machine has none.
struct Pooler {
    _process: Process,
    url: String,
}

#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
async fn pooler(world: &World, mode: &str, connections: u32) -> Result<Option<Pooler>> {
    let Some(binary) = programs::find("pgbouncer") else {
        eprintln!("skipped: there is no pgbouncer (apt-get install pgbouncer)");
        return Ok(None);
    };
    let url = Url::parse(world.database().url())?;
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    let port = orrery_tests::ports::Port::reserve()?.address().port();
    let address = world.database().address().await?;
    let folder = world.folder();
    let mut settings = String::new();
    writeln!(settings, "[databases]")?;
    let password = if password.is_empty() { String::new() } else { format!(" password={password}") };
    writeln!(settings, "* = host={} port={} user={user}{password}", address.ip(), address.port())?;
    writeln!(settings, "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any")?;
    writeln!(settings, "pool_mode = {mode}\ndefault_pool_size = {connections}\nunix_socket_dir =")?;
    // Root may not run it.
    writeln!(settings, "user = nobody\nlogfile = \npidfile = ")?;
    let file = folder.join(format!("pgbouncer-{mode}.ini"));
    std::fs::write(&file, settings)?;
    for path in [folder, file.as_path()] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    let arguments = [file.to_str().context("no UTF-8")?];
    let log = folder.join(format!("pgbouncer-{mode}.log"));
    let process = Process::spawn(&binary, &arguments, &std::collections::BTreeMap::new(), folder, &log)?;
    eventually(SOON, "pgbouncer", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok().map(drop)
    })
    .await
    .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
    let mut through = url.clone();
    through.set_host(Some("127.0.0.1"))?;
    through.set_port(Some(port)).ok().context("no port")?;
    through.set_query(Some("sslmode=disable"));
    Ok(Some(Pooler { _process: process, url: through.into() }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pooling_by_transaction_or_statement_is_refused_with_what_to_set() -> Result<()> {
    for mode in ["transaction", "statement"] {
        refused_with_what_to_set(mode).await?;
    }
    Ok(())
}

async fn refused_with_what_to_set(mode: &str) -> Result<()> {
    let world = World::start().await?;
    let Some(pooler) = pooler(&world, mode, 8).await? else { return Ok(()) };
    let settings = [("ORRERY_DATABASE__URL", pooler.url.as_str())];
    let checked = world.run_with(&["check"], &settings, SOON).await?;
    ensure!(
        !checked.status.success() && checked.output.contains("use session pooling"),
        "{}",
        checked.output
    );
    let service = world.launch(&["gateway", "autha"], &settings)?;
    eventually(SOON, "it says what it waits for", async || {
        let health = service.health().await.ok().filter(|health| health.status == 503)?;
        let told = health.body.get("down")?.as_array()?.iter().any(|name| name == "migrations");
        let cause = health.body.pointer("/causes/migrations")?.as_str()?.contains("use session pooling");
        (told && cause && service.log().contains("use session pooling")).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pooling_by_session_works() -> Result<()> {
    let world = World::start().await?;
    let Some(pooler) = pooler(&world, "session", 40).await? else { return Ok(()) };
    let settings = [("ORRERY_DATABASE__URL", pooler.url.as_str())];
    let checked = world.run_with(&["check"], &settings, SOON).await?;
    ensure!(checked.status.success(), "{}", checked.output);
    let _service = world.spawn_with(&[], &settings).await?;
    for _ in 0..5 {
        world.client()?.sign_up(&Person::new()).await?.expect(201)?;
    }
    world.smtp().wait_for(5, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_gets_no_connection_from_a_pooler_is_told() -> Result<()> {
    let world = World::start().await?;
    let Some(pooler) = pooler(&world, "session", 2).await? else { return Ok(()) };
    let service = world.launch(&["autha", "maily"], &[("ORRERY_DATABASE__URL", pooler.url.as_str())])?;
    eventually(SOON, "it says which service has no connection", async || {
        let health = service.health().await.ok()?;
        let cause = health.body.pointer("/causes/database connections")?.as_str()?.to_owned();
        (cause.contains("autha: ") || cause.contains("maily: ")).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_database_and_role_would_have_a_session_inherit_is_not() -> Result<()> {
    let world = World::start().await?;
    let name = world.database().name();
    let role = world.database().text("SELECT current_user::text").await?.context("no user")?;
    // The role's wins over the database's.
    for (whose, setting) in [
        ("DATABASE", "default_transaction_isolation = 'serializable'"),
        ("ROLE", "default_transaction_isolation = 'repeatable read'"),
        ("DATABASE", "search_path = 'nowhere'"),
        ("ROLE", "timezone = 'Asia/Kathmandu'"),
        ("DATABASE", "row_security = off"),
        ("DATABASE", "statement_timeout = '1s'"),
        ("DATABASE", "lock_timeout = '1ms'"),
        ("ROLE", "synchronous_commit = off"),
        ("ROLE", "DateStyle = 'German'"),
        ("ROLE", "statement_timeout = '1ms'"),
    ] {
        let whose = if whose == "ROLE" {
            format!("ROLE {role} IN DATABASE {name}")
        } else {
            format!("DATABASE {name}")
        };
        world.database().execute(&format!("ALTER {whose} SET {setting}")).await?;
    }
    let checked = world.run(&["check"], SOON).await?;
    ensure!(checked.status.success(), "{}", checked.output);
    let _service = world.spawn(&[]).await?;
    let (client, person) = (world.client()?, Person::new());
    client.signed_up(&person).await?;
    // In step with each other they would stand in each other's way above `read committed`.
    let answers = (0..10).map(|_| async {
        let session = client.logged_in(&person).await?;
        client.refresh(session.refresh_token().context("no refresh token")?).await?.expect(200)
    });
    for answer in futures_util::future::join_all(answers).await {
        answer?;
    }
    world.smtp().wait_for(1, SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_makes_nothing_in_a_blank_database() -> Result<()> {
    let world = World::builder().unmigrated().start().await?;
    let checked = world.run(&["check"], SOON).await?;
    ensure!(
        !checked.status.success() && checked.output.contains("migrations are pending"),
        "{}",
        checked.output
    );
    let made = "SELECT count(*) FROM pg_class WHERE relnamespace NOT IN \
                (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg_%' OR nspname = 'information_schema')";
    ensure!(world.database().count(made).await? == 0, "it made a table");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrate_and_serve_need_no_more_than_the_documented_rights() -> Result<()> {
    let world = World::builder().unmigrated().start().await?;
    let (name, user) = (world.database().name(), format!("orrery_test_{}", fresh::uuid().simple()));
    // The roles may be there, made by another test's user: a member of them is what this one has to be.
    let roles = "autha,maily,spinoza,partners,discovery,console".split(',');
    let grants: String = roles
        .map(|role| {
            format!(
                "DO $$ BEGIN CREATE ROLE orrery_{role} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$; "
            )
        })
        .collect();
    world
        .database()
        .execute(&format!(
            "{grants} CREATE ROLE {user} LOGIN CREATEROLE PASSWORD 'documented'; GRANT CREATE ON DATABASE {name} TO {user}"
        ))
        .await?;
    let mut url = Url::parse(world.database().url())?;
    url.set_username(&user).ok().context("no user")?;
    url.set_password(Some("documented")).ok().context("no password")?;
    let settings = [("ORRERY_DATABASE__URL", url.as_str())];
    let migrated = world.run_with(&["migrate"], &settings, SOON).await?;
    let outcome = async {
        ensure!(migrated.status.success(), "{}", migrated.output);
        let mut service = world.spawn_with(&[], &settings).await?;
        world.client()?.sign_up(&Person::new()).await?.expect(201)?;
        world.smtp().wait_for(1, SOON).await?;
        service.terminate(SOON).await?;
        Ok(())
    }
    .await;
    world
        .database()
        .execute(&format!("REASSIGN OWNED BY {user} TO CURRENT_USER; DROP OWNED BY {user}; DROP ROLE {user}"))
        .await?;
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_does_not_fit_is_told_before_anything_is_written() -> Result<()> {
    let world = World::start().await?;
    let other = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    for (key, path) in [
        ("ORRERY_KEYS__MASTER", "keys.master"),
        ("ORRERY_KEYS__MAIL", "keys.mail"),
        ("ORRERY_KEYS__DISCOVERY", "keys.discovery"),
    ] {
        let settings = [(key, other)];
        let checked = world.run_with(&["check"], &settings, SOON).await?;
        let fault = format!("{path}: is not the key that the database's rows were sealed under");
        ensure!(!checked.status.success() && checked.output.contains(&fault), "{}", checked.output);
        let service = world.launch(&["gateway", "autha", "discovery"], &settings)?;
        eventually(SOON, "it says so", async || service.log().contains(&fault).then_some(())).await?;
    }
    ensure!(world.database().count("SELECT count(*) FROM autha.signing_keys").await? == 0, "it made a key");
    let right = world.run(&["check"], SOON).await?;
    ensure!(right.status.success() && right.output.contains("they open what the database holds"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_that_cannot_be_stored_as_they_are_hold_up_nobody() -> Result<()> {
    let world = World::start().await?;
    let random: String = (0..150).map(|_| fresh::uuid().simple().to_string()).collect();
    for id in [random.as_str(), "plain"] {
        let mut headers = event_headers(id, "/test", "com.gravitalia.email");
        headers.insert("x-orrery-other".into(), AMQPValue::LongString("a\0b".into()));
        let properties =
            BasicProperties::default().with_headers(headers).with_content_type("application/json".into());
        world.broker().publish_raw("", "maily.email", properties, b"{\"n\": 1}").await?;
        // The same in structured mode, where the body has the id and a text that no table takes.
        let event = serde_json::json!({
            "specversion": "1.0", "id": format!("s{id}"), "source": "/test", "type": "com.gravitalia.email",
            "datacontenttype": "application/json", "data": {"template": "a\0b"}
        });
        let properties = BasicProperties::default().with_content_type("application/cloudevents+json".into());
        world.broker().publish_raw("", "maily.email", properties, event.to_string().as_bytes()).await?;
    }
    let _service = world.spawn(&["maily"]).await?;
    eventually(SOON, "every letter", async || {
        let letters = world.database().count("SELECT count(*) FROM bus.dead_letters").await.ok()?;
        (letters == 4).then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_does_not_double_letters() -> Result<()> {
    let world = World::start().await?;
    let _service = world.spawn(&[]).await?;
    let letters = "SELECT count(*) FROM bus.dead_letters";
    for _ in 0..2 {
        let person = Person::new();
        world.smtp().reply_to_rcpt(550, "5.1.1 no such mailbox");
        world.client()?.sign_up(&person).await?.expect(201)?;
    }
    eventually(SOON, "two letters", async || {
        (world.database().count(letters).await.ok()? == 2).then_some(())
    })
    .await?;
    for _ in 0..2 {
        let replay = ["events", "replay", "--sent-since", "1h", "--yes"];
        world.run(&replay, SOON).await?;
        eventually(SOON, "nothing is pending", async || {
            let pending = "SELECT count(*) FROM bus.outbox WHERE status = 'pending'";
            (world.database().count(pending).await.ok()? == 0).then_some(())
        })
        .await?;
        world.broker().wait_settled(&["maily.email.dead"], &["maily.email"], SOON).await?;
        ensure!(world.database().count(letters).await? == 2, "the letters are doubled");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_another_language_is_understood_or_refused() -> Result<()> {
    let (postgres, broker) = tokio::try_join!(Postgres::speaking("fr_FR"), RabbitMq::start())?;
    let world = World::builder().on(&postgres, &broker)?.start().await?;
    // A superuser's session has it changed.
    let checked = world.run(&["check"], SOON).await?;
    ensure!(checked.status.success(), "{}", checked.output);
    // Another's may not.
    let roles = "orrery_autha, orrery_maily, orrery_spinoza";
    world.database().execute(&format!("CREATE ROLE plain LOGIN PASSWORD 'plain' IN ROLE {roles}")).await?;
    let mut url = Url::parse(world.database().url())?;
    url.set_username("plain").ok().context("no user")?;
    url.set_password(Some("plain")).ok().context("no password")?;
    let plain = [("ORRERY_DATABASE__URL", url.as_str()), ("ORRERY_SERVICES", "gateway,autha,maily,spinoza")];
    let refused = world.run_with(&["check"], &plain, SOON).await?;
    let words = "the server writes its messages for 'fr_FR.utf8', and the user may not change that";
    ensure!(!refused.status.success() && refused.output.contains(words), "{}", refused.output);
    ensure!(refused.output.contains("SET lc_messages = 'C'"), "{}", refused.output);
    // What it says to do ends that.
    world.database().execute("GRANT SET ON PARAMETER lc_messages TO plain").await?;
    let granted = world.run_with(&["check"], &plain, SOON).await?;
    ensure!(!granted.output.contains("messages for"), "{}", granted.output);

    let _front = world.spawn(&["gateway", "autha"]).await?;
    let mut gate = world.database().connect().await?;
    gate.batch_execute("BEGIN; LOCK TABLE autha.accounts IN ACCESS EXCLUSIVE MODE").await?;
    let late = world.client()?.sign_up(&Person::new()).await?;
    ensure!(late.status == 503, "{} for a statement that ran out of time", late.status);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_says_why_when_there_is_no_slot_for_us() -> Result<()> {
    let world = World::start().await?;
    let role = format!("orrery_test_{}", fresh::uuid().simple());
    world
        .database()
        .execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'slots' IN ROLE orrery_autha, orrery_maily, orrery_spinoza CONNECTION LIMIT 2"))
        .await?;
    let mut url = Url::parse(world.database().url())?;
    url.set_username(&role).ok().context("no user")?;
    url.set_password(Some("slots")).ok().context("no password")?;
    let held = [
        AsyncPgConnection::establish(url.as_str()).await?,
        AsyncPgConnection::establish(url.as_str()).await?,
    ];
    let settings = [("ORRERY_DATABASE__URL", url.as_str())];
    let checked = world.run_with(&["check"], &settings, SOON).await?;
    drop(held);
    eventually(SOON, "the role is gone", async || {
        world.database().execute(&format!("DROP ROLE {role}")).await.ok()
    })
    .await?;
    ensure!(
        checked.output.contains("postgresql") && checked.output.contains("too many connections"),
        "{}",
        checked.output
    );
    Ok(())
}
