//! How the console is put together and started: its actors, and its HTTP server.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use orrery_service::{Context, StartError, Started};
use orrery_store::Pool;
use orrery_supervise::{Mailbox, Progress, clock::Clock, random::Random};
use tokio::sync::{Semaphore, watch};

use crate::{
    access::Access,
    accounts::Accounts,
    alerts::{self, Alerts},
    config::Config,
    definition::CONSOLE,
    history::History,
    http::{self, App, Pages},
    jobs::{Jobs, Runner},
    observer::{Observer, Parts},
    processes::Others,
    store::Sessions,
};

/// Connections for pages, and how long a page's statement may take.
const PAGES: (usize, Duration) = (4, Duration::from_secs(5));
/// The same for jobs and exports.
const JOBS: (usize, Duration) = (3, Duration::from_secs(60));
/// The same for the look that all viewers share.
const LOOK: (usize, Duration) = (1, Duration::from_secs(10));

/// Starts it. It waits for nothing: what is away is what it shows.
///
/// # Errors
/// When a key is missing, or the listener cannot be bound.
pub fn start(config: &Config, context: &Context) -> Result<Started, StartError> {
    let shared = &context.shared;
    let (clock, random) = (Clock::System, Random::system().map_err(StartError::of)?);
    let ring = config.ring(&shared.keys).map_err(StartError::told)?;
    let access = Access::new(&ring).map_err(StartError::of)?;
    let pool = |(size, limit)| {
        let main = context.main.handle().clone();
        Pool::operating(&shared.database, CONSOLE, size, limit, main).map_err(StartError::of)
    };
    let (pages, job_pool) = (pool(PAGES)?, pool(JOBS)?);
    let sessions = Sessions::default();
    let others = Others::new(config.processes.clone()).map_err(StartError::of)?;
    let shutdown = context.supervisor.shutdown_signal();
    let installation = context.installation.clone();

    let latest = watch::Sender::new(None);
    let observer = Observer {
        parts: Arc::new(Parts {
            broker: shared.broker.clone(),
            pool: pool(LOOK)?,
            services: installation.services.clone(),
            others: others.clone(),
            supervisor: context.supervisor.clone(),
            health: context.health.clone(),
            sessions: sessions.clone(),
            every: config.poll_every,
            audit_lifetime: config.audit_lifetime,
            started: Instant::now(),
            shutdown: shutdown.clone(),
            clock: clock.clone(),
        }),
        latest: latest.clone(),
        history: Arc::new(Mutex::new(History::default())),
        progress: Progress::default(),
    };
    context.supervisor.start_actor("console.observer", Mailbox::own_work(1), move || observer.clone());
    let jobs = Jobs::new(clock.clone(), config.undo);
    let runner = Runner { jobs: jobs.clone(), shutdown: shutdown.clone(), progress: Progress::default() };
    // One batch may take its statement's time.
    let stall = JOBS.1 * 2;
    context
        .supervisor
        .start_actor_within("console.jobs", Mailbox::own_work(1), stall, move || runner.clone());

    if let Some(parts) = alerts::Parts::new(&config.alerts, &shared.broker, others.clone(), shutdown.clone())
        .map_err(StartError::of)?
    {
        let (parts, seen) = (Arc::new(parts), latest.subscribe());
        context.supervisor.start_actor("console.alerts", Mailbox::own_work(1), move || Alerts {
            parts: Arc::clone(&parts),
            latest: seen.clone(),
            progress: Progress::default(),
        });
    }

    let app = App {
        access,
        sessions,
        pages: Pages::new().map_err(StartError::of)?,
        latest: latest.subscribe(),
        jobs,
        pool: pages,
        job_pool,
        installation,
        others,
        supervisor: context.supervisor.clone(),
        accounts: Accounts::new(config.autha.clone(), config.recheck_every).map_err(StartError::of)?,
        event_lifetime: shared.broker.event_lifetime,
        viewers: Arc::new(Semaphore::new(config.viewers)),
        checked: http::Checks::default(),
        main: context.main.handle().clone(),
        config: config.clone(),
        shutdown,
        clock,
        random,
    };
    let server = http::server(app).map_err(StartError::of)?;
    Ok(Started { servers: vec![(CONSOLE.name(), server)], ..Started::default() })
}
