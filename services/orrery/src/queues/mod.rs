//! `orrery queues`: the operator's hands. Arguments and exit codes; what is known and done lives in `orrery_console`.

mod choice;
mod dead;
mod export;
mod list;
mod purge;

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use orrery_console::{
    CONSOLE,
    audit::{Actor, Face},
    broker::Watched,
    operator::Operator,
};
use orrery_store::Pool;
use orrery_supervise::random::Random;
use tokio::runtime::Handle;

use crate::config::Config;

/// What the exit codes of commands for an operator mean.
pub const EXIT_CODES: &str =
    "Exit codes: 0 done; 1 failed, done in part, or answered no; 2 wrong usage; 3 nothing matched.";

/// What `orrery queues` is asked for.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct Queues {
    /// For programs: one line of JSON in place of a table.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows every handler's queues, its dead letters and the outbox.
    #[command(after_help = EXIT_CODES)]
    List,
    /// Shows the same again and again, until Ctrl-C.
    #[command(after_help = EXIT_CODES)]
    Watch(list::Watch),
    /// Lists dead letters, shows one, tries them again, drops or exports them.
    #[command(after_help = EXIT_CODES)]
    Dead(dead::Dead),
    /// Throws away the messages that wait in a queue. Asks first.
    #[command(after_help = EXIT_CODES)]
    Purge(purge::Purge),
}

/// How a command ended, when it did not fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It did what it was asked for.
    Done,
    /// It did a part of it, and said why not all.
    Part,
    /// It was asked in a way that it cannot be.
    Usage,
    /// There was nothing to do it to.
    Nothing,
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        match end {
            End::Done => Self::SUCCESS,
            End::Part => Self::FAILURE,
            End::Usage => Self::from(2),
            End::Nothing => Self::from(3),
        }
    }
}

/// Runs the command.
pub async fn run(config: Config, queues: Queues) -> anyhow::Result<ExitCode> {
    let json = queues.json;
    let ended = match queues.command {
        Command::List => list::list(&config, json).await,
        Command::Watch(watch) => list::watch(&config, &watch, json).await,
        Command::Dead(dead) => dead::run(&config, dead, json).await,
        Command::Purge(purge) => purge::run(&config, &purge, json).await,
    };
    match ended {
        Ok(end) => Ok(end.into()),
        // A reader that has seen enough, such as head, is no fault.
        Err(error) if crate::terminal::is_closed(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error),
    }
}

/// Whose queues and letters are looked at.
fn watched(config: &Config) -> Watched {
    Watched { handlers: config.handlers(), bridges: config.bridges(), producers: config.enabled_names() }
}

/// One connection with the console's role: commands go one step after the other, and may take their time.
pub fn pool(config: &Config) -> anyhow::Result<Pool> {
    Ok(Pool::operating(&config.shared.database, CONSOLE, 1, Duration::ZERO, Handle::current())?)
}

/// Whoever runs the command, acting by `pool`.
pub fn operator(pool: &Pool) -> anyhow::Result<Operator> {
    let actor = Actor { name: crate::console::user(), face: Face::CommandLine };
    Ok(Operator::new(pool.clone(), Random::system()?, actor))
}
