//! A process with one handler that does what its messages say: work, abort, block, stall, wait or panic. It stands on the same actors as every
//! service, with the settings of a world; tests kill it with messages. Its effect is a row in the table `effects`, which the test makes.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use async_trait::async_trait;
use diesel::sql_types::Text;
use diesel_async::{AsyncConnection, RunQueryDsl};
use orrery_broker_admin::topology::{Topology, declare};
use orrery_bus::{
    Bus, Delivery, Dependencies, Failure, Handler, HandlerSpec, Once, Outcome,
    archiver::Archiver,
    consumer::QueueKind,
    quarantine::{ChildCommand, Quarantine, input_closed},
};
use orrery_config::{Section, broker::Broker, database::Database};
use orrery_observability::{Log, Settings, Telemetry};
use orrery_store::{Pool, StoreError};
use orrery_supervise::{Limits, Mailbox, Supervisor, clock::Clock, random::Random};
use serde::Deserialize;
use tokio::{runtime::Runtime, sync::Notify};

const NAME: &str = "tests.misbehaving";

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    database: Database,
    broker: Broker,
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        self.database.validate(faults);
        self.broker.validate(faults);
    }
}

struct Misbehaving {
    pool: Pool,
    /// Whether it has waited for its dependency already.
    has_waited: AtomicBool,
}

#[async_trait]
impl Handler for Misbehaving {
    fn spec(&self) -> HandlerSpec {
        spec()
    }

    async fn handle(&self, delivery: &Delivery) -> Outcome {
        let wish = match delivery.event().data() {
            Some(cloudevents::Data::Json(serde_json::Value::String(wish))) => wish.clone(),
            _ => return Outcome::Reject(Failure::new("no wish")),
        };
        match wish.as_str() {
            "abort" => std::process::abort(),
            "block" => loop {
                std::thread::park();
            },
            "panic" => panic!("as the message wishes"),
            "stall" => std::future::pending().await,
            "wait" if !self.has_waited.swap(true, Ordering::Relaxed) => {
                return Outcome::Wait(Failure::new("its dependency is away"));
            }
            "slow" => tokio::time::sleep(Duration::from_secs(1)).await,
            _ => {}
        }
        let id = delivery.id().to_owned();
        let Ok(mut connection) = self.pool.get().await else {
            return Outcome::Wait(Failure::new("no database"));
        };
        let effect = connection.transaction::<_, StoreError, _>(async |connection| {
            diesel::sql_query("INSERT INTO public.effects (id) VALUES ($1)")
                .bind::<Text, _>(id)
                .execute(connection)
                .await?;
            delivery.settle(connection).await
        });
        match effect.await {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Retry(Failure::of(&error)),
        }
    }

    async fn probe(&self) -> Result<(), Failure> {
        Ok(())
    }
}

fn spec() -> HandlerSpec {
    HandlerSpec {
        name: NAME,
        mailbox: Mailbox { capacity: 0, concurrency: 16 },
        retry_delay: Duration::from_millis(500),
        time_limit: Duration::from_secs(20),
        bindings: Vec::new(),
        once: Once::Inbox,
    }
}

fn main() -> Result<()> {
    let main: &'static Runtime = Box::leak(Box::new(Runtime::new()?));
    main.block_on(run(main))
}

async fn run(main: &'static Runtime) -> Result<()> {
    let config: Config = orrery_config::load(None)?;
    let log = Log { libraries: vec![env!("CARGO_BIN_NAME").to_owned()], ..Log::default() };
    let telemetry = orrery_observability::Config::default();
    let settings = Settings { log: &log, telemetry: &telemetry, service: "misbehaving", version: "0" };
    let _telemetry = Telemetry::start(settings)?;
    let limits = Limits { blocked: Duration::from_secs(2), ..Limits::default() };
    let random = Random::system()?;
    let supervisor = Supervisor::new(main, random.clone(), limits)?;
    let pool = Pool::admin(&config.database, 4, main.handle().clone())?;
    let bus = Bus::new(config.broker);
    let dependencies = Dependencies { bus: bus.clone(), pool: pool.clone(), clock: Clock::System, random };
    let handler = Arc::new(Misbehaving { pool, has_waited: AtomicBool::new(false) });
    match std::env::args().nth(1).as_deref() {
        Some("declare") => {
            let connection = bus.connect("declare").await?;
            let default_limit = declare::has_default_limit(&bus, dependencies.random.uuid_v4()).await?;
            let topology = Topology::wanted(&[spec()], &[], default_limit);
            ensure!(declare::declare(&bus, &connection, &topology).await?.is_empty(), "other queues stand");
            return Ok(());
        }
        Some("quarantine") => {
            let bell = Arc::new(Notify::new());
            dependencies.consume(&supervisor, handler, QueueKind::Quarantine(Arc::clone(&bell)));
            tokio::select! {
                () = bell.notified() => {}
                () = input_closed() => {}
            }
            supervisor.shutdown().await;
            return Ok(());
        }
        Some("serve") => {}
        _ => bail!("misbehaving declare | serve | quarantine"),
    }
    dependencies.consume(&supervisor, handler, QueueKind::Main);
    Archiver::start(&supervisor, dependencies, vec![spec()], Vec::new());
    let program = std::env::current_exe().context("this program")?;
    let command: ChildCommand = Arc::new(move |_| {
        let mut command = Command::new(&program);
        command.arg("quarantine");
        command.into()
    });
    Quarantine::start(&supervisor, bus, vec![NAME], command);
    std::future::pending().await
}
