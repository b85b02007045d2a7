//! `orrery check`: the configuration, then every dependency, a line each; the exit code tells.

use std::{io::Write, process::ExitCode};

use orrery_objects::Objects;
use orrery_service::{Advice, BrokerNeed, Checked};
use orrery_store::migrations;

use crate::{broker, config::Config, keys};

/// Shows the effective configuration as TOML, with its secrets hidden.
pub fn print(config: &Config) -> anyhow::Result<ExitCode> {
    let shown = std::io::stdout().write_all(config.shown()?.as_bytes());
    // A reader that has seen enough, such as head, is no fault.
    match shown {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Tries everything.
pub async fn check(config: Config) -> anyhow::Result<ExitCode> {
    let advice: Vec<_> = config.enabled().flat_map(|configured| configured.service.advice()).collect();
    Ok(tell(&lines(&config).await, &advice))
}

/// The same as lines.
pub async fn lines(config: &Config) -> Vec<Checked> {
    let shared = &config.shared;
    let mut lines = vec![Checked::new("configuration", Ok("valid".to_owned()))];
    let master = config.needs(|needs| needs.master_key).then(|| shared.keys.master());
    let mail = config.needs(|needs| needs.mail_key).then(|| shared.keys.mail());
    let discovery = config.needs(|needs| needs.discovery_key).then(|| shared.keys.discovery());
    let keys = [master, mail, discovery].into_iter().flatten().try_for_each(|ring| ring.map(drop));
    lines.push(Checked::new("keys", keys.map(|()| "there".to_owned())));

    if config.needs(|needs| needs.database) {
        let database = match migrations::pending(&shared.database).await {
            Ok(0) => Ok("reachable, of this version".to_owned()),
            Ok(n) => Err(format!("{n} migrations are pending: run 'orrery migrate'")),
            Err(error) => Err(error.to_string()),
        };
        let is_there = database.is_ok();
        lines.push(Checked::new("postgresql", database));
        if is_there {
            lines.extend(keys::checked(config).await.map(|result| Checked::new("keys fit", result)));
        }
    }
    if config.needs(|needs| needs.broker != BrokerNeed::None) {
        lines.extend(broker::check(config).await.into_iter().map(|line| Checked::new("rabbitmq", line)));
    }
    if config.needs(|needs| needs.storage) {
        let bucket = match Objects::new(&shared.storage) {
            Ok(objects) => {
                let there = format!("reachable, the bucket '{}' is there", shared.storage.bucket);
                objects.probe().await.map(|()| there).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        lines.push(Checked::new("storage", bucket));
    }
    for configured in config.enabled() {
        // Another service that is enabled is looked at by what it stands on: it need not run yet.
        let others = config.enabled_names();
        let looked_at = configured.service.check(shared).await.into_iter();
        lines.extend(looked_at.filter(|line| line.what == configured.name() || !others.contains(&line.what)));
    }
    lines
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn tell(lines: &[Checked], advice: &[Advice]) -> ExitCode {
    for Checked { what, result } in lines {
        match result {
            Ok(text) => println!("ok      {what:<14} {text}"),
            Err(text) => println!("failed  {what:<14} {text}"),
        }
    }
    for Advice { what, text } in advice {
        println!("advice  {what:<14} {text}");
    }
    if lines.iter().all(|line| line.result.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
