//! The one binary: runs all of Orrery or any part of it, and the commands around it.

mod broker;
mod check;
mod config;
mod demo;
mod events;
mod memory;
mod migrate;
mod parts;
mod quarantine;
mod queues;
mod s3;
mod serve;
mod terminal;
mod wiring;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use orrery_schemas::services::Service;

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
        /// gateway, autha, spinoza, maily
        services: Vec<Service>,
    },
    /// Brings database, broker and bucket up to this version. Running it again is harmless.
    Migrate,
    /// Validates the configuration and tries every dependency, a line each.
    Check {
        /// Only shows the effective configuration, secrets hidden.
        #[arg(long)]
        print: bool,
    },
    /// Signs a person up, waits for the mail, uploads a photograph and fetches its variants.
    Demo {
        /// The gateway; by default the configured one.
        #[arg(long)]
        url: Option<url::Url>,
    },
    /// Reads the quarantine lane of one handler until it is empty; `serve` starts it by itself and ends it by closing its input.
    #[command(hide = true)]
    Quarantine {
        /// The handler's name, such as maily.email.
        handler: String,
    },
    /// Events that no queue was bound for, that could not be published, or that are to be published again.
    #[command(subcommand)]
    Events(events::Events),
    /// What the operator sees and does: queues, dead letters, the outbox.
    Queues(queues::Queues),
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
                eprintln!("orrery: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let file = arguments.config;
    let config: Config = orrery_actors::config::load(file.as_deref())?;
    let command = arguments.command;
    // These speak to a person; their own lines are all that is to be read.
    let speaks = matches!(
        command,
        Command::Check { .. } | Command::Demo { .. } | Command::Events(_) | Command::Queues(_)
    );
    if !speaks {
        orrery_observability::start(&config.log)?;
    }
    match command {
        Command::Serve { services } => serve::serve(config, &services, quarantine::command(file)?),
        Command::Quarantine { handler } => quarantine::serve(config, &handler),
        Command::Migrate => wiring::block_on(migrate::migrate(config)),
        Command::Check { print } if print => check::print(&config),
        Command::Check { .. } => wiring::block_on(check::check(config)),
        Command::Demo { url } => wiring::block_on(demo::demo(config, url)),
        Command::Events(events) => wiring::block_on(events::run(config, events)),
        Command::Queues(queues) => wiring::block_on(queues::run(config, queues)),
        Command::S3 { listen, root } => wiring::block_on(s3::serve(config, listen, root)),
    }
}
