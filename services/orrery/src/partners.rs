//! `orrery partners`: third parties over HTTP. The functions are those of the crate `orrery_partners`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use orrery_partners::operator::{Actor, Create, ListedEndpoint, ListedPartner, Operator, which};
use orrery_store::Pool;
use orrery_supervise::random::Random;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::{
    config::Config,
    terminal::{Answer, ask, is_closed, out, tell},
};

/// What to do. A partner is named by its name.
#[derive(Subcommand)]
pub enum Partners {
    /// Makes a partner, and prints its client secret, which is shown once.
    Create {
        /// Its name: the client id, and the `sourceclient` of what it sends.
        name: String,
        #[command(flatten)]
        rights: Rights,
    },
    /// Lists partners by name.
    List {
        /// Only those after this name: the last one of the page before.
        #[arg(long, value_name = "NAME", default_value = "")]
        after: String,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: i64,
        /// A JSON object a line, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Shows a partner with its keys, as JSON.
    Show {
        /// Which.
        name: String,
    },
    /// Makes another client secret and prints it; the one before stays valid for `partners.key_overlap`.
    RotateKey {
        /// Whose.
        name: String,
    },
    /// Lists endpoints, those of a partner or all.
    Endpoints {
        /// Whose.
        name: Option<String>,
    },
    /// Shows what an endpoint did not take for good, a JSON object a line.
    DeadLetters {
        /// Which endpoint.
        endpoint: Uuid,
        /// Only those after this position: the last one of the page before.
        #[arg(long, default_value_t = 0, value_name = "POSITION")]
        after: i64,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: i64,
    },
    /// Delivers dead letters of an endpoint again: one, those of a time, or all.
    Replay {
        /// Which endpoint.
        endpoint: Uuid,
        /// Only this one.
        #[arg(long, value_name = "POSITION")]
        position: Option<i64>,
        /// Only those that were tried first at or after this time (RFC 3339).
        #[arg(long, value_name = "TIME")]
        from: Option<DateTime<Utc>>,
        /// Only those that were tried first before it.
        #[arg(long, value_name = "TIME")]
        until: Option<DateTime<Utc>>,
        /// All.
        #[arg(long)]
        all: bool,
    },
    /// Forbids a partner everything, or with --endpoint delivers to that endpoint no more.
    Disable(Which),
    /// Takes that back.
    Enable(Which),
    /// Removes a partner with its keys, its endpoints and their dead letters.
    Remove {
        /// Which.
        name: String,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Shows which operator did what, by command or by the admin API; the newest first, a JSON object a line.
    Audit {
        /// Only lines before this one: the last id of the page before.
        #[arg(long, value_name = "ID")]
        before: Option<Uuid>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: i64,
    },
    /// Lists the newest JSON Schemas of types, a JSON object a line.
    Schemas,
    /// Registers the next version of a type's JSON Schema, which must accept all that the one before accepts.
    Register {
        /// The type.
        ty: String,
        /// The schema.
        file: PathBuf,
    },
}

/// What a partner may do.
#[derive(Args)]
pub struct Rights {
    /// A type that it may send, such as com.acme.*; may be there several times.
    #[arg(long = "publish", value_name = "PATTERN")]
    publishes: Vec<String>,
    /// A type that it may receive, such as com.gravitalia.account.#; may be there several times.
    #[arg(long = "receive", value_name = "PATTERN")]
    receives: Vec<String>,
    /// A source that it may claim, whole or its beginning before a '*'; by default what begins with / and its name.
    #[arg(long = "source", value_name = "SOURCE")]
    sources: Vec<String>,
    /// Whom to write to when an endpoint is disabled.
    #[arg(long, value_name = "ADDRESS")]
    contact: Option<String>,
    /// The language of these mails.
    #[arg(long)]
    locale: Option<String>,
    /// Events that it may send a minute, instead of the setting.
    #[arg(long, value_name = "N")]
    events_per_minute: Option<i32>,
    /// Endpoints that it may have, instead of the setting.
    #[arg(long, value_name = "N")]
    max_endpoints: Option<i32>,
    /// It may have the scope of the admin API.
    #[arg(long)]
    admin: bool,
}

/// A partner or an endpoint.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// This partner.
    name: Option<String>,
    /// This endpoint.
    #[arg(long)]
    endpoint: Option<Uuid>,
}

/// The partners' side of a command.
fn operator(config: &Config) -> anyhow::Result<Operator> {
    let shared = &config.shared;
    let section: orrery_partners::Config = config.source.section(orrery_partners::PARTNERS.name())?;
    let pool = Pool::new(&shared.database, orrery_partners::PARTNERS, Handle::current())?;
    let sealing = section.keys(&shared.keys).map_err(anyhow::Error::msg)?;
    let mail = shared.keys.mail().map_err(anyhow::Error::msg)?;
    let actor = Actor::CommandLine(crate::console::user());
    Operator::new(actor, &section, pool, &sealing, &mail, Random::system()?).context("a key cannot be used")
}

/// Does it.
pub async fn run(config: Config, command: Partners) -> anyhow::Result<ExitCode> {
    match act(&operator(&config)?, command).await {
        Err(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
        ended => ended,
    }
}

async fn act(operator: &Operator, command: Partners) -> anyhow::Result<ExitCode> {
    match command {
        Partners::Create { name, rights } => {
            let create = Create {
                name: name.clone(),
                publishes: rights.publishes,
                receives: rights.receives,
                sources: rights.sources,
                contact: rights.contact,
                locale: rights.locale,
                events_per_minute: rights.events_per_minute,
                max_endpoints: rights.max_endpoints,
                is_operator: rights.admin,
            };
            let made = operator.create(create).await?;
            out(&format!("client_id {name}\nclient_secret {}", made.secret.as_str()))?;
        }
        Partners::List { after, limit, json } => {
            for partner in operator.list(&after, limit).await? {
                out(&if json { serde_json::to_string(&partner)? } else { line(&partner) })?;
            }
        }
        Partners::Show { name } => out(&serde_json::to_string_pretty(&operator.show(&name).await?)?)?,
        Partners::RotateKey { name } => {
            let rotated = operator.rotate_key(&name).await?;
            out(&format!("client_id {name}\nclient_secret {}", rotated.secret.as_str()))?;
        }
        Partners::Endpoints { name } => {
            for endpoint in operator.endpoints(name.as_deref()).await? {
                out(&endpoint_line(&endpoint))?;
            }
        }
        Partners::DeadLetters { endpoint, after, limit } => {
            for letter in operator.dead_letters(endpoint, after, limit).await? {
                out(&serde_json::to_string(&letter)?)?;
            }
        }
        Partners::Replay { endpoint, position, from, until, all } => {
            let replayed = operator.replay(endpoint, which(position, from, until, all)?).await?;
            out(&format!("{replayed} are delivered again"))?;
        }
        Partners::Disable(which) => set(operator, which, false).await?,
        Partners::Enable(which) => set(operator, which, true).await?,
        Partners::Remove { name, yes } => match ask("remove this partner?", yes).await? {
            Answer::Yes => {
                operator.remove(&name).await?;
                out("it is removed")?;
            }
            Answer::No => {
                tell("nothing was done");
                return Ok(ExitCode::FAILURE);
            }
            Answer::Nobody => return Ok(ExitCode::FAILURE),
        },
        Partners::Audit { before, limit } => {
            for line in operator.audit(before, limit).await? {
                out(&serde_json::to_string(&line)?)?;
            }
        }
        Partners::Schemas => {
            for schema in operator.schemas().await? {
                out(&serde_json::to_string(&schema)?)?;
            }
        }
        Partners::Register { ty, file } => {
            let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
            let schema = serde_json::from_slice(&text).with_context(|| file.display().to_string())?;
            out(&format!("{ty} has version {}", operator.register(&ty, schema).await?))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn set(operator: &Operator, which: Which, enabled: bool) -> anyhow::Result<()> {
    let changed = match (which.name, which.endpoint) {
        (Some(name), _) => operator.set_disabled(&name, !enabled).await?,
        (None, Some(endpoint)) => operator.set_endpoint(endpoint, enabled).await?,
        (None, None) => false,
    };
    let state = if enabled { "enabled" } else { "disabled" };
    out(&if changed { format!("it is {state}") } else { "nothing had to be changed".to_owned() })
}

fn line(partner: &ListedPartner) -> String {
    let state = match partner.disabled_at {
        Some(at) => format!("disabled since {at}"),
        None => "active".to_owned(),
    };
    let (sends, gets) = (partner.publishes.join(","), partner.receives.join(","));
    format!("{:<32}  {:<13}  {state}  sends [{sends}]  receives [{gets}]", partner.name, partner.origin)
}

fn endpoint_line(endpoint: &ListedEndpoint) -> String {
    let failing = endpoint.failing_since.map(|since| format!("  fails since {since}")).unwrap_or_default();
    let reason = endpoint.reason.as_ref().map(|reason| format!("  ({reason})")).unwrap_or_default();
    format!(
        "{}  {:<8}  at {}  {}{failing}{reason}",
        endpoint.id, endpoint.state, endpoint.cursor, endpoint.url
    )
}
