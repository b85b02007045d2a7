//! `orrery quarantine`: the process of a quarantine queue. It reads one handler's queue, one message at a time, until that is empty; what kills
//! it kills nothing else. Who starts it, and when, lives in `orrery_bus::quarantine`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use orrery_bus::{
    Bus,
    consumer::QueueKind,
    quarantine::{ChildCommand, input_closed},
};
use orrery_config::shared::Shared;
use orrery_store::Pool;
use orrery_supervise::{Supervisor, random::Random};
use orrery_web::health::Health;
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use crate::{changed::Changed, config::Config, wiring};

/// Connections to the database: one message is worked on at a time, beside its claim.
const POOL_SIZE: usize = 2;

/// Its part of the grace, which is less than what listeners leave.
const SHARE: f64 = 0.4;

/// The command that runs this program as the process of a handler's quarantine queue, with the same configuration.
pub fn command(file: Option<PathBuf>) -> anyhow::Result<ChildCommand> {
    let program = std::env::current_exe().context("this program's own path")?;
    Ok(Arc::new(move |handler| {
        let mut command = Command::new(&program);
        if let Some(file) = &file {
            command.arg("--config").arg(file);
        }
        command.args(["quarantine", handler]);
        command
    }))
}

/// Reads the quarantine queue of `handler` until it is empty.
pub fn serve(config: &Config, handler: &str) -> anyhow::Result<ExitCode> {
    let main = wiring::main_runtime()?;
    let random = Random::system()?;
    let mut shared = Shared::clone(&config.shared);
    shared.database.pool_size = POOL_SIZE;
    // Whoever started this process has the listeners drained before, and waits for it.
    shared.internal.grace = shared.internal.grace.mul_f64(SHARE);
    let shared = Arc::new(shared);
    let supervisor = Supervisor::new(main, random.clone(), wiring::limits(&shared))?;
    let configured = config
        .enabled()
        .find(|configured| configured.service.handlers(&shared).iter().any(|spec| spec.name == handler))
        .with_context(|| format!("no enabled service has a handler '{handler}'"))?;
    main.block_on(async {
        let bell = Arc::new(Notify::new());
        let pool = Pool::new(&shared.database, configured.definition.service, main.handle().clone())?;
        let dependencies = wiring::dependencies(&Bus::new(shared.broker.clone()), pool, &random);
        // Its outbox is relayed by the process that serves it.
        let context = orrery_service::Context {
            shared,
            main,
            supervisor: supervisor.clone(),
            dependencies: Some(dependencies.clone()),
            stopping: supervisor.shutdown_signal(),
            health: Health::new(Vec::new(), supervisor.clone()),
            peers: Vec::new(),
            installation: orrery_service::Installation::unshown(),
        };
        let logic = configured.service.handler(handler, &context)?;
        dependencies.consume(&supervisor, logic, QueueKind::Quarantine(Arc::clone(&bell)));
        let (mut terminate, mut others) = (signal(SignalKind::terminate())?, Changed::new(None)?);
        // What is meant for the process that started this one, and reaches its whole group, ends nothing here.
        let ignored = async {
            loop {
                others.next().await
            }
        };
        tokio::select! {
            () = bell.notified() => {}
            () = ignored => {}
            () = input_closed() => {}
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        supervisor.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}
