//! `orrery providers`: service providers. The functions are those of the crate `orrery_console`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use orrery_console::{
    operator::Operator,
    providers::{Change, Provider},
};

use crate::{
    config::Config,
    queues,
    terminal::{Answer, ask, is_closed, out, tell},
};

/// What to do. A provider is named by its name, its sp-id.
#[derive(Subcommand)]
pub enum Providers {
    /// Registers a provider: gateways in role forward lead its domains to its upstreams from then on.
    Add {
        /// Its name, a DNS label such as sp1.
        name: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Lists providers by name.
    List {
        /// A JSON object a line, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Shows a provider with what it used in the last days, as JSON.
    Show {
        /// Which.
        name: String,
    },
    /// Changes what is named of a provider; the rest stays.
    Set {
        /// Which.
        name: String,
        #[command(flatten)]
        fields: Fields,
    },
    /// Removes a provider with what is known of its usage: its domains lead nowhere then.
    Remove {
        /// Which.
        name: String,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// What a provider is made of.
#[derive(Args)]
pub struct Fields {
    /// A host that leads to it; may be there several times, and replaces those before.
    #[arg(long = "domain", value_name = "HOST")]
    domains: Vec<String>,
    /// Its reverse proxy, as http://host:port; may be there several times, and replaces those before.
    #[arg(long = "upstream", value_name = "URL")]
    upstreams: Vec<String>,
    /// What people are shown; by default its name.
    #[arg(long)]
    title: Option<String>,
    /// The colour beside it, as #1a2b3c.
    #[arg(long)]
    colour: Option<String>,
    /// Requests a second that each gateway passes on.
    #[arg(long, value_name = "N")]
    requests_per_second: Option<i32>,
    /// Requests that each gateway has at work at once.
    #[arg(long, value_name = "N")]
    concurrent: Option<i32>,
}

impl From<Fields> for Change {
    fn from(fields: Fields) -> Self {
        let given = |list: Vec<String>| (!list.is_empty()).then_some(list);
        Self {
            title: fields.title,
            colour: fields.colour,
            domains: given(fields.domains),
            upstreams: given(fields.upstreams),
            requests_per_second: fields.requests_per_second,
            concurrent: fields.concurrent,
        }
    }
}

/// Does it.
pub async fn run(config: Config, command: Providers) -> anyhow::Result<ExitCode> {
    let operator = queues::operator(&queues::pool(&config)?)?;
    match act(&operator, command).await {
        Err(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
        ended => ended,
    }
}

async fn act(operator: &Operator, command: Providers) -> anyhow::Result<ExitCode> {
    match command {
        Providers::Add { name, fields } => {
            operator.add_provider(&name, fields.into()).await?;
            out("it is added")?;
        }
        Providers::List { json } => {
            for provider in operator.providers().await? {
                out(&if json { serde_json::to_string(&provider)? } else { line(&provider) })?;
            }
        }
        Providers::Show { name } => {
            out(&serde_json::to_string_pretty(&operator.provider(&name).await?)?)?;
        }
        Providers::Set { name, fields } => {
            operator.set_provider(&name, fields.into()).await?;
            out("it is changed")?;
        }
        Providers::Remove { name, yes } => match ask("remove this service provider?", yes).await? {
            Answer::Yes => {
                operator.remove_provider(&name).await?;
                out("it is removed")?;
            }
            Answer::No => {
                tell("nothing was done");
                return Ok(ExitCode::FAILURE);
            }
            Answer::Nobody => return Ok(ExitCode::FAILURE),
        },
    }
    Ok(ExitCode::SUCCESS)
}

fn line(provider: &Provider) -> String {
    format!(
        "{:<20}  [{}]  to [{}]  {} a second, {} at once",
        provider.name,
        provider.domains.join(","),
        provider.upstreams.join(","),
        provider.requests_per_second,
        provider.concurrent
    )
}
