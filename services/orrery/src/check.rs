//! `orrery check`: the configuration, then every dependency, a line each; the exit code tells.

use std::{io::Write, process::ExitCode, time::Duration};

use orrery_actors::{objects::Objects, store::migrations};
use orrery_schemas::services::Service;
use tokio::net::TcpStream;
use url::Url;

use crate::{broker, config::Config};

/// How long an upstream may take to take a connection.
const LIMIT: Duration = Duration::from_secs(2);

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
    let mut lines: Vec<(&str, Result<String, String>)> = vec![("configuration", Ok("valid".to_owned()))];
    let needs_master = config.enables(Service::Autha);
    let needs_mail = needs_master || config.enables(Service::Maily);
    let keys = if needs_master { config.keys.master().map(drop) } else { Ok(()) }
        .and_then(|()| if needs_mail { config.keys.mail().map(drop) } else { Ok(()) });
    lines.push(("keys", keys.map(|()| "there".to_owned())));

    let database = match migrations::pending(&config.database).await {
        Ok(0) => Ok("reachable, of this version".to_owned()),
        Ok(n) => Err(format!("{n} migrations are pending: run 'orrery migrate'")),
        Err(error) => Err(error.to_string()),
    };
    lines.push(("postgresql", database));
    lines.extend(broker::check(&config).await.into_iter().map(|line| ("rabbitmq", line)));
    if config.enables(Service::Autha) || config.enables(Service::Spinoza) {
        let bucket = match Objects::new(&config.storage) {
            Ok(objects) => {
                objects.probe().await.map(|()| "reachable, the bucket is there".to_owned()).map_err(|error| {
                    format!("{error}: look at the section storage, then run 'orrery migrate'")
                })
            }
            Err(error) => Err(error.to_string()),
        };
        lines.push(("storage", bucket));
    }
    if config.enables(Service::Maily) {
        let way = orrery_maily::probe(&config.maily).await;
        lines.push(("mail", way.map(|()| "ready".to_owned())));
    }
    // Where autha runs in the same process it is checked by what it stands on.
    if config.enables(Service::Gateway) && !config.enables(Service::Autha) {
        for url in &config.gateway.autha {
            lines.push(("autha", upstream(url).await));
        }
    }
    Ok(tell(&lines))
}

async fn upstream(url: &Url) -> Result<String, String> {
    let fault =
        |why: &str| format!("{url} cannot be reached ({why}): start autha there, or change gateway.autha");
    let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(|| fault("no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match tokio::time::timeout(LIMIT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(format!("{url} takes connections")),
        Ok(Err(error)) => Err(fault(&error.to_string())),
        Err(_) => Err(fault("no answer")),
    }
}

#[expect(clippy::print_stdout, reason = "what the command is for")]
fn tell(lines: &[(&str, Result<String, String>)]) -> ExitCode {
    for (what, result) in lines {
        match result {
            Ok(text) => println!("ok      {what:<14} {text}"),
            Err(text) => println!("failed  {what:<14} {text}"),
        }
    }
    if lines.iter().all(|(_, result)| result.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
