//! Service providers in the product: registered while traffic runs, walled off from each other, limited and counted each for itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use orrery_tests::{
    Service, World,
    deadline::eventually,
    ports::Port,
    process::Finished,
    receiver::{Behaviour, Receiver},
};
use reqwest::{StatusCode, header::HOST};

const SOON: Duration = Duration::from_secs(40);
const ONE: &str = "one.example.org";
const TWO: &str = "two.example.org";

/// A gateway in role forward before what a test registers.
struct Forward {
    service: Service,
    world: World,
    front: Front,
    _port: Port,
}

/// A client of it.
#[derive(Clone)]
struct Front {
    http: reqwest::Client,
    url: String,
}

impl Front {
    /// The status of an answer, whole; none where there is none.
    async fn status(&self, host: &str) -> Option<StatusCode> {
        let answer = self.http.get(&self.url).header(HOST, host).send().await.ok()?;
        let status = answer.status();
        answer.bytes().await.ok()?;
        Some(status)
    }

    async fn until(&self, host: &str, status: StatusCode) -> Result<()> {
        eventually(SOON, &format!("{host} is answered {status}"), async || {
            (self.status(host).await? == status).then_some(())
        })
        .await
    }
}

impl Forward {
    async fn start() -> Result<Self> {
        let world = World::start().await?;
        let port = Port::reserve()?;
        let listeners = format!("[{{ role = \"forward\", address = \"{}\" }}]", port.address());
        let settings = [
            ("ORRERY_SERVICES", "gateway"),
            ("ORRERY_GATEWAY__LISTENERS", listeners.as_str()),
            ("ORRERY_GATEWAY__PROVIDERS__ENABLED", "true"),
            ("ORRERY_GATEWAY__PROVIDERS__LOOK_EVERY", "200ms"),
            ("ORRERY_GATEWAY__PROVIDERS__COUNT_EVERY", "200ms"),
        ];
        let service = world.spawn_with(&["gateway"], &settings).await?;
        let http = reqwest::Client::builder().tls_certs_only([]).timeout(SOON).build()?;
        let front = Front { http, url: format!("http://{}/a", port.address()) };
        Ok(Self { world, service, front, _port: port })
    }

    async fn providers(&self, arguments: &[&str]) -> Result<Finished> {
        self.world.run(&[&["providers"], arguments].concat(), SOON).await
    }

    /// Runs a command that must be done.
    async fn done(&self, arguments: &[&str]) -> Result<String> {
        let finished = self.providers(arguments).await?;
        ensure!(finished.status.success(), "{arguments:?}: {}", finished.output);
        Ok(finished.output)
    }

    /// Registers a provider and waits until it is served.
    async fn add(&self, name: &str, host: &str, receiver: &Receiver, more: &[&str]) -> Result<()> {
        let upstream = format!("http://127.0.0.1:{}", receiver.port());
        let fixed = ["add", name, "--domain", host, "--upstream", &upstream];
        self.done(&[&fixed, more].concat()).await?;
        self.front.until(host, StatusCode::OK).await
    }

    /// A figure of a provider's usage.
    async fn used(&self, name: &str, figure: &str) -> Result<i64> {
        let sql = format!(
            "SELECT coalesce(sum({figure}), 0)::bigint FROM providers.usage WHERE provider = '{name}'"
        );
        self.world.database().count(&sql).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_is_added_and_removed_while_traffic_runs_and_none_reaches_another() -> Result<()> {
    let forward = Forward::start().await?;
    let (first, second) = (Receiver::start().await?, Receiver::start().await?);
    ensure!(forward.front.status(ONE).await == Some(StatusCode::NOT_FOUND), "nobody is registered yet");
    forward.add("sp1", ONE, &first, &[]).await?;
    // Traffic to the first, of which nothing may fail whatever is done to the second.
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let traffic = tokio::spawn({
        let (front, stop, answered) = (forward.front.clone(), Arc::clone(&stop), Arc::clone(&answered));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let status = front.status(ONE).await;
                ensure!(status == Some(StatusCode::OK), "{status:?} in the traffic of the first provider");
                answered.fetch_add(1, Ordering::Relaxed);
                // The caller has a budget too.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        }
    });
    forward.add("sp2", TWO, &second, &[]).await?;
    let taken = forward.providers(&["set", "sp2", "--domain", ONE]).await?;
    ensure!(!taken.status.success() && taken.output.contains("belongs to another"), "{}", taken.output);
    forward.done(&["set", "sp2", "--domain", "Other.Example.ORG"]).await?;
    forward.front.until("other.example.org", StatusCode::OK).await?;
    forward.front.until(TWO, StatusCode::NOT_FOUND).await?;
    forward.done(&["remove", "sp2", "--yes"]).await?;
    forward.front.until("other.example.org", StatusCode::NOT_FOUND).await?;
    stop.store(true, Ordering::Relaxed);
    traffic.await??;
    ensure!(answered.load(Ordering::Relaxed) > 5, "there was no traffic");

    let hosts = |receiver: &Receiver| {
        let mut hosts: Vec<_> =
            receiver.requests("GET").iter().map(|request| request.header("host").to_owned()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    };
    ensure!(hosts(&first) == [ONE], "{:?} came to the first", hosts(&first));
    ensure!(hosts(&second) == ["other.example.org", TWO], "{:?} came to the second", hosts(&second));
    let lines = forward
        .world
        .database()
        .rows(
            "SELECT json_build_object('did', action || ' ' || target || ': ' || outcome, 'face', face) AS row \
             FROM console.audit ORDER BY id",
        )
        .await?;
    let lines = serde_json::to_string(&lines)?;
    for line in [
        "provider.add sp1: added",
        "provider.add sp2: added",
        "provider.set sp2: not done: taken",
        "provider.set sp2: changed",
        "provider.remove sp2: removed",
    ] {
        ensure!(lines.contains(line), "{line} is not in {lines}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_providers_load_and_fault_leave_another_alone_and_each_is_counted() -> Result<()> {
    let forward = Forward::start().await?;
    let (first, second) = (Receiver::start().await?, Receiver::start().await?);
    forward.add("sp1", ONE, &first, &["--concurrent", "2"]).await?;
    forward.add("sp2", TWO, &second, &[]).await?;

    // Load: all places of the first are taken.
    first.behave(Behaviour::Hang);
    let came = first.requests("GET").len();
    let hanging: Vec<_> = (0..2)
        .map(|_| {
            let front = forward.front.clone();
            tokio::spawn(async move { front.status(ONE).await })
        })
        .collect();
    eventually(SOON, "two requests hang", async || (first.requests("GET").len() >= came + 2).then_some(()))
        .await?;
    let refused = forward.front.http.get(&forward.front.url).header(HOST, ONE).send().await?;
    ensure!(refused.status() == StatusCode::SERVICE_UNAVAILABLE, "{}", refused.status());
    ensure!(refused.headers().contains_key("retry-after"), "no Retry-After");
    for _ in 0..10 {
        ensure!(
            forward.front.status(TWO).await == Some(StatusCode::OK),
            "the first one's load is the second's"
        );
    }
    for request in hanging {
        request.abort();
    }

    // Fault: the first one's upstream breaks every connection.
    first.behave(Behaviour::Drop);
    forward.front.until(ONE, StatusCode::BAD_GATEWAY).await?;
    for _ in 0..10 {
        ensure!(
            forward.front.status(TWO).await == Some(StatusCode::OK),
            "the first one's fault is the second's"
        );
    }

    // What was used, to the request.
    let asked = i64::try_from(second.requests("GET").len())?;
    eventually(SOON, "the second one's requests are counted", async || {
        let counted = forward.used("sp2", "requests").await.ok()?;
        (counted == asked && forward.used("sp2", "successes").await.ok()? == asked).then_some(())
    })
    .await
    .with_context(|| format!("{asked} were asked"))?;
    ensure!(forward.used("sp2", "failures + refused").await? == 0);
    eventually(SOON, "the first one's refusals and failures are counted", async || {
        let refused = forward.used("sp1", "refused").await.ok()?;
        (refused >= 1 && forward.used("sp1", "failures").await.ok()? >= 1).then_some(())
    })
    .await?;
    let shown = forward.done(&["show", "sp2"]).await?;
    ensure!(shown.contains(&format!("\"requests\": {asked}")), "{shown}");

    // A rate is the provider's, and is taken up while it runs.
    forward.done(&["set", "sp2", "--requests-per-second", "1"]).await?;
    forward.front.until(TWO, StatusCode::SERVICE_UNAVAILABLE).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_is_served_while_the_database_is_away_and_changes_are_taken_up_after_it() -> Result<()>
{
    let mut forward = Forward::start().await?;
    let (first, second) = (Receiver::start().await?, Receiver::start().await?);
    forward.add("sp1", ONE, &first, &[]).await?;
    // A write that the cut meets would be counted twice.
    let asked = i64::try_from(first.requests("GET").len())?;
    eventually(SOON, "what was used is written down", async || {
        (forward.used("sp1", "requests").await.ok()? == asked).then_some(())
    })
    .await?;
    forward.world.proxies().postgres.cut().await;
    eventually(SOON, "the gateway notices", async || {
        forward.service.log().contains("service providers cannot be read").then_some(())
    })
    .await?;
    for _ in 0..10 {
        ensure!(forward.front.status(ONE).await == Some(StatusCode::OK), "the known table is not served");
    }
    forward.service.health().await?.expect(200)?;
    forward.world.proxies().postgres.restore().await?;
    forward.add("sp2", TWO, &second, &[]).await?;
    // What could not be written while the database was away is written then; the rest at the end.
    let asked = i64::try_from(first.requests("GET").len())?;
    ensure!(forward.service.terminate(SOON).await?.success());
    ensure!(forward.used("sp1", "requests").await? == asked, "{asked} were asked");
    ensure!(forward.used("sp2", "successes").await? >= 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_role_reads_providers_and_changes_none() -> Result<()> {
    let world = World::start().await?;
    let database = world.database();
    database.execute("SET ROLE orrery_gateway; SELECT name FROM providers.providers; RESET ROLE").await?;
    for sql in [
        "UPDATE providers.providers SET concurrent = 1",
        "DELETE FROM providers.domains",
        "UPDATE providers.revision SET revision = 7",
        "SELECT * FROM autha.accounts",
        "SELECT * FROM bus.outbox",
        "SELECT * FROM console.audit",
    ] {
        let denied = database.execute(&format!("SET ROLE orrery_gateway; {sql}")).await;
        let is_denied = denied.is_err_and(|error| format!("{error:#}").contains("permission denied"));
        ensure!(is_denied, "the gateway's role may: {sql}");
    }
    Ok(())
}
