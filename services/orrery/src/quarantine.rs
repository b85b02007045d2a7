//! `orrery quarantine`: the process of a quarantine lane. It reads one handler's lane, one message at a time, until that is empty; what kills
//! it kills nothing else. Who starts it, and when, lives in `orrery_actors::bus::quarantine`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use orrery_actors::{
    bus::{
        Bus, Handler,
        consumer::Source,
        quarantine::{ChildCommand, input_closed},
        relay::Wake,
    },
    random::Random,
    store::Pool,
    supervise::Supervisor,
};
use orrery_schemas::services::Service;
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

use crate::{config::Config, parts, wiring};

/// Connections to the database: one message is worked on at a time, beside its claim.
const POOL_SIZE: usize = 2;

/// Its part of the grace, which is less than what listeners leave.
const SHARE: f64 = 0.4;

/// The command that runs this program as the process of a handler's quarantine lane, with the same configuration.
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

/// Reads the lane of `handler` until it is empty.
pub fn serve(mut config: Config, handler: &str) -> anyhow::Result<ExitCode> {
    let main = wiring::main_runtime()?;
    let random = Random::system()?;
    config.database.pool_size = POOL_SIZE;
    // Whoever started this process has the listeners drained before, and waits for it.
    config.internal.grace = config.internal.grace.mul_f64(SHARE);
    let supervisor = Supervisor::new(main, random.clone(), wiring::limits(&config))?;
    let service = Service::ALL
        .into_iter()
        .find(|service| wiring::handlers(&config, *service).iter().any(|spec| spec.name == handler))
        .with_context(|| format!("there is no handler '{handler}'"))?;
    main.block_on(async {
        let bell = Arc::new(Notify::new());
        let pool = Pool::new(&config.database, service, main.handle().clone())?;
        let footing = parts::footing(&Bus::new(config.broker.clone()), pool, &random);
        let logic = logic(&config, service, footing.clone(), &supervisor)?;
        footing.consume(&supervisor, logic, Source::Quarantine(Arc::clone(&bell)));
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            () = bell.notified() => {}
            () = input_closed() => {}
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        supervisor.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// What a service does with the messages of its one handler. Its outbox is relayed by the process that serves it.
fn logic(
    config: &Config,
    service: Service,
    footing: orrery_actors::bus::Footing,
    supervisor: &Supervisor,
) -> anyhow::Result<Arc<dyn Handler>> {
    let wake = Wake::default();
    Ok(match service {
        Service::Gateway => anyhow::bail!("the gateway has no handler"),
        Service::Autha => {
            orrery_autha::pictures_handler(&config.autha, config.broker.event_lifetime, &footing, wake)
        }
        Service::Spinoza => orrery_spinoza::handler(&parts::spinoza(config, footing)?, supervisor, wake),
        Service::Maily => orrery_maily::handler(&parts::maily(config, footing)?)?,
    })
}
