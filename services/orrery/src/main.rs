//! The one binary: runs all of Orrery or any part of it, and the commands around it.

mod account;
mod backup;
mod broker;
mod changed;
mod check;
mod config;
mod console;
mod demo;
mod describe;
#[cfg(test)]
mod described;
mod events;
mod health;
mod keys;
mod mail;
mod memory;
mod migrate;
mod partners;
mod providers;
mod quarantine;
mod queues;
mod rotation;
mod s3;
mod serve;
mod services;
mod terminal;
mod wiring;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use orrery_observability::{Settings, Telemetry};

use crate::config::Config;

/// A self-hosted account platform that loses nothing.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file; every key can be overridden by ORRERY_SECTION__KEY.
    #[arg(long, global = true, env = "ORRERY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs services: those named, or all that the configuration enables.
    Serve {
        /// Which; all that are enabled when none is named.
        #[arg(value_parser = clap::builder::PossibleValuesParser::new(services::names()))]
        services: Vec<String>,
    },
    /// Brings database, broker and bucket up to this version. Running it again is harmless.
    Migrate,
    /// Validates the configuration and tries every dependency, a line each.
    Check {
        /// Only shows the effective configuration, secrets hidden.
        #[arg(long)]
        print: bool,
    },
    /// Asks the process on `internal.listen` whether it is ready; the health check of a container.
    Health,
    /// Signs a person up, waits for the mail, uploads a photograph and fetches its variants.
    Demo {
        /// The gateway; by default the configured one.
        #[arg(long)]
        url: Option<url::Url>,
    },
    /// Reads the quarantine queue of one handler until it is empty; `serve` starts it by itself and ends it by closing its input.
    #[command(hide = true)]
    Quarantine {
        /// The handler's name, such as maily.email.
        handler: String,
    },
    /// Accounts: make, show, list, suspend, restore, delete, invite; who did what.
    #[command(subcommand)]
    Account(account::Account),
    /// Signing keys, and what lies sealed under the master key.
    #[command(subcommand)]
    Keys(rotation::Keys),
    /// Makes variants of pictures, confined; `serve` starts it by itself and ends it by closing its input.
    #[command(hide = true)]
    PictureWorker {
        /// Memory that it may take beside what it has, in bytes.
        memory_bytes: u64,
    },
    /// Events that no queue was bound for, that could not be published, or that are to be published again.
    #[command(subcommand)]
    Events(events::Events),
    /// Makes a backup of database, objects and keys, sealed under `backup.key`. Everything may run meanwhile.
    Backup(backup::Backup),
    /// Restores a backup into an empty system. No service may run meanwhile.
    Restore(backup::Restore),
    /// What the operator sees and does: queues, dead letters, the outbox.
    Queues(queues::Queues),
    /// Third parties over HTTP: make, show, list, rotate keys, replay, disable, remove.
    #[command(subcommand)]
    Partners(partners::Partners),
    /// Service providers: add, list, show, set, remove.
    #[command(subcommand)]
    Providers(providers::Providers),
    /// The console: a link that logs in.
    #[command(subcommand)]
    Console(console::Console),
    /// Tries the way that mails take, and lets addresses have mail again.
    #[command(subcommand)]
    Mail(mail::Mail),
    /// Writes manual pages or a shell's completions, for packages.
    #[command(subcommand, hide = true)]
    Describe(describe::Describe),
    /// Runs a small S3 server over a folder, for development and tests.
    S3 {
        /// Where it listens.
        #[arg(long, default_value = "127.0.0.1:9000")]
        listen: SocketAddr,
        /// The folder; made when it is missing.
        #[arg(long, default_value = ".run/s3")]
        root: PathBuf,
    },
}

fn main() -> ExitCode {
    memory::keep_little();
    let arguments = Arguments::parse();
    let outcome = run(arguments);
    match outcome {
        Ok(code) => code,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last word of a command goes to its user")]
            {
                eprintln!("orrery: {}", told(&error));
            }
            ExitCode::FAILURE
        }
    }
}

/// Starts the log, and what goes to a collector.
fn telemetry(config: &Config, command: &Command) -> anyhow::Result<Telemetry> {
    let service = match command {
        Command::Serve { services } => match services.as_slice() {
            [one] => format!("orrery-{one}"),
            _ => "orrery".to_owned(),
        },
        Command::Quarantine { .. } => "orrery-quarantine".to_owned(),
        _ => "orrery-command".to_owned(),
    };
    let (log, telemetry, version) = (&config.log, &config.telemetry, env!("CARGO_PKG_VERSION"));
    Ok(Telemetry::start(Settings { log, telemetry, service: &service, version })?)
}

/// An error with its causes, each said once: many say what caused them already.
fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !told.contains(&text) {
            told = if told.is_empty() { text } else { format!("{told}: {text}") };
        }
    }
    told
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let file = arguments.config;
    // Before the configuration is read: a worker holds no secret.
    if let Command::PictureWorker { memory_bytes } = arguments.command {
        orrery_spinoza::picture_worker(memory_bytes)?;
        return Ok(ExitCode::SUCCESS);
    }
    // It says what the program is like, whatever the configuration is.
    if let Command::Describe(what) = arguments.command {
        describe::describe(what, <Arguments as clap::CommandFactory>::command())?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = Config::load(file.as_deref())?;
    let command = arguments.command;
    // These speak to a person; their own lines are all that is to be read.
    let speaks = match &command {
        Command::Backup(backup) => !backup.is_repeated(),
        command => matches!(
            command,
            Command::Check { .. }
                | Command::Demo { .. }
                | Command::Account(_)
                | Command::Restore(_)
                | Command::Keys(_)
                | Command::Health
                | Command::Events(_)
                | Command::Mail(_)
                | Command::Partners(_)
                | Command::Providers(_)
                | Command::Queues(_)
                | Command::Console(_)
        ),
    };
    // Dropped last: what it still has is sent then.
    let _telemetry = if speaks { None } else { Some(telemetry(&config, &command)?) };
    for warning in config.source.warnings() {
        if speaks {
            #[expect(clippy::print_stderr, reason = "a command tells its user beside its own lines")]
            {
                eprintln!("orrery: warning: {warning}");
            }
        } else {
            tracing::warn!("{warning}");
        }
    }
    match command {
        Command::Serve { services } => {
            serve::serve(config, file.clone(), &services, quarantine::command(file)?)
        }
        Command::Quarantine { handler } => quarantine::serve(&config, &handler),
        Command::PictureWorker { .. } | Command::Describe(_) => Ok(ExitCode::SUCCESS),
        Command::Migrate => wiring::block_on(migrate::migrate(config)),
        Command::Check { print } if print => check::print(&config),
        Command::Check { .. } => wiring::block_on(check::check(config)),
        Command::Health => wiring::block_on(health::health(config)),
        Command::Demo { url } => wiring::block_on(demo::demo(config, url)),
        Command::Account(command) => wiring::block_on(account::run(config, command)),
        Command::Keys(command) => wiring::block_on(rotation::run(config, command)),
        Command::Backup(command) => wiring::block_on(backup::backup(config, command)),
        Command::Restore(command) => wiring::block_on(backup::restore(config, command)),
        Command::Events(events) => wiring::block_on(events::run(config, events)),
        Command::Mail(mail) => wiring::block_on(mail::run(config, mail)),
        Command::Partners(partners) => wiring::block_on(partners::run(config, partners)),
        Command::Providers(providers) => wiring::block_on(providers::run(config, providers)),
        Command::Console(command) => console::run(&config, command),
        Command::Queues(queues) => wiring::block_on(queues::run(config, queues)),
        Command::S3 { listen, root } => wiring::block_on(s3::serve(config, listen, root)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "connection refused");
        let error =
            anyhow::Error::new(refused).context("the broker failed: connection refused").context("RabbitMQ");
        assert_eq!(told(&error), "RabbitMQ: the broker failed: connection refused");
    }
}
