//! `orrery console`: a link that logs in to the console. Who may read the installation's configuration may operate it.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use orrery_console::{
    access::{Access, Kind},
    config::Config as Section,
};
use orrery_supervise::{clock::Clock, random::Random};

use crate::{
    config::Config,
    terminal::{out, tell},
};

/// What to do.
#[derive(Subcommand)]
pub enum Console {
    /// Prints a link that logs in to the console once, within `console.link_lifetime`.
    Token(Token),
}

/// Whose, and of which kind.
#[derive(Args)]
pub struct Token {
    /// The name that the audit log has of whoever uses it; by default the system's.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A bearer token for programs in place of a link: it reads the JSON of the console, until `console.session_lifetime` is over.
    #[arg(long)]
    api: bool,
    /// The same for programs that register service providers; it opens nothing else.
    #[arg(long, conflicts_with = "api")]
    admin: bool,
}

/// The name by which the system knows who runs a command.
pub fn user() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    name.unwrap_or_else(|| "unknown".to_owned())
}

/// Does it.
pub fn run(config: &Config, console: Console) -> anyhow::Result<ExitCode> {
    let Console::Token(Token { name, api, admin }) = console;
    let section: Section = config.source.section(orrery_console::CONSOLE.name())?;
    let ring = section.ring(&config.shared.keys).map_err(anyhow::Error::msg)?;
    let access = Access::new(&ring)?;
    let (kind, lifetime) = match (api, admin) {
        (_, true) => (Kind::Admin, section.session_lifetime),
        (true, false) => (Kind::Session, section.session_lifetime),
        (false, false) => (Kind::Link, section.link_lifetime),
    };
    let actor = name.unwrap_or_else(user);
    let pass = Access::pass(&Random::system()?, &actor, Clock::System.now(), lifetime);
    let text = access.seal(kind, &pass)?;
    if admin {
        out(&text)?;
        tell(&format!("send it as 'Authorization: Bearer ...' to {}/api/providers/NAME", section.base()));
    } else if api {
        out(&text)?;
        tell(&format!("send it as 'Authorization: Bearer ...' to {}/api/overview.json", section.base()));
    } else {
        out(&format!("{}/login?token={text}", section.base()))?;
        tell("it logs in once; whoever has it is an operator");
    }
    Ok(ExitCode::SUCCESS)
}
