//! `orrery account`: what operators do with accounts. Each act is a line of the audit log; the functions are autha's.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, Subcommand};
use orrery_autha::operator::{
    Deleted, Filter, FirebaseParameters, Format, Imported, ListedAccount, Operator, Parts,
};
use orrery_config::Source;
use orrery_store::Pool;
use orrery_supervise::{clock::Clock, random::Random};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::{
    config::Config,
    terminal::{Answer, ask, is_closed, out, tell},
};

/// What to do. An account is named by its internal id, its name or its address.
#[derive(Subcommand)]
pub enum Account {
    /// Makes an account; its owner sets the password by mail.
    Create {
        /// The name.
        name: String,
        /// The address.
        email: String,
        /// The language of its mails.
        #[arg(long, default_value = "en")]
        locale: String,
    },
    /// Shows an account; of one that is gone, who has said that it holds nothing of it.
    Show {
        /// Which. One that is gone has its internal id only.
        account: String,
        /// A JSON object, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Lists accounts, the oldest first.
    List {
        #[command(flatten)]
        state: State,
        /// Only those after this internal id: the last one of the page before.
        #[arg(long, value_name = "ID")]
        after: Option<Uuid>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: i64,
        /// A JSON object a line, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Suspends an account: nobody logs in, its sessions end, its profile is gone for others.
    Suspend {
        /// Which.
        account: String,
        /// Why, for the mail to its owner.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Ends a suspension, or a deletion that waits.
    Restore {
        /// Which.
        account: String,
    },
    /// Deletes an account, after the usual time of grace.
    Delete {
        /// Which.
        account: String,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Makes an invite, and sends it where an address is given.
    Invite {
        /// Whom to send it to.
        #[arg(long)]
        email: Option<String>,
        /// The language of that mail.
        #[arg(long, default_value = "en")]
        locale: String,
        /// How often it can be used.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=100_000))]
        uses: i32,
    },
    /// Takes the second factor of an account away; its sessions end.
    ResetSecondFactor {
        /// Whose.
        account: String,
    },
    /// Ends all sessions of an account.
    EndSessions {
        /// Whose.
        account: String,
    },
    /// Lets an account ask for the scope `admin`, or not any more.
    Operator {
        /// Whose.
        account: String,
        /// Not any more.
        #[arg(long)]
        revoke: bool,
    },
    /// Imports accounts with their password hashes. Run again after a stop, it goes on where it was.
    Import {
        /// The dump.
        file: PathBuf,
        /// What it is of: jsonl, csv, supabase, auth0, keycloak, rauthy or firebase.
        #[arg(long)]
        format: Format,
        #[command(flatten)]
        firebase: Firebase,
    },
    /// Writes all accounts as JSON lines, with their password hashes and TOTP secrets: whoever has the file can try them.
    Export,
    /// Shows accounts that are gone, and who has said that it holds nothing of them.
    Deletions {
        /// How many at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: i64,
    },
    /// Shows who did what, the newest first, a JSON object a line.
    Audit {
        /// Only lines before this id: the last one of the page before.
        #[arg(long, value_name = "ID")]
        before: Option<Uuid>,
        /// How many at most.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: i64,
    },
}

/// The hash parameters of a Firebase project, from its console.
#[derive(Args)]
pub struct Firebase {
    /// `base64_signer_key`.
    #[arg(long, value_name = "BASE64", default_value = "", hide_default_value = true)]
    firebase_signer_key: String,
    /// `base64_salt_separator`.
    #[arg(long, value_name = "BASE64", default_value = "Bw==")]
    firebase_salt_separator: String,
    /// `rounds`.
    #[arg(long, value_name = "N", default_value_t = 8)]
    firebase_rounds: u32,
    /// `mem_cost`.
    #[arg(long, value_name = "N", default_value_t = 14)]
    firebase_mem_cost: u32,
}

/// Which accounts.
#[derive(Args)]
#[group(multiple = false)]
pub struct State {
    /// Only those that are suspended.
    #[arg(long)]
    suspended: bool,
    /// Only those that wait to be deleted.
    #[arg(long)]
    deleted: bool,
}

/// Autha's side of a command.
///
/// # Errors
/// When a key is missing, or the database's address cannot be used.
pub fn operator(config: &Config) -> anyhow::Result<Operator> {
    let shared = &config.shared;
    let source: &Source = &config.source;
    let parts = Parts {
        config: source.section(orrery_autha::AUTHA.name())?,
        event_lifetime: shared.broker.event_lifetime,
        pool: Pool::new(&shared.database, orrery_autha::AUTHA, Handle::current())?,
        master: shared.keys.master().map_err(anyhow::Error::msg)?,
        mail: shared.keys.mail().map_err(anyhow::Error::msg)?,
        clock: Clock::System,
        random: Random::system()?,
        actor: crate::console::user(),
    };
    Operator::new(parts).context("a key cannot be used")
}

/// Does it.
pub async fn run(config: Config, command: Account) -> anyhow::Result<ExitCode> {
    match act(&operator(&config)?, command).await {
        // A reader that has seen enough, such as head, is no fault.
        Err(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
        ended => ended,
    }
}

async fn act(operator: &Operator, command: Account) -> anyhow::Result<ExitCode> {
    match command {
        Account::Create { name, email, locale } => {
            let id = operator.create(&name, &email, &locale).await?;
            out(&format!("{id} is made; its owner sets the password by the mail that is on its way"))?;
        }
        Account::Show { account, json } => {
            if let Some(gone) = operator.deletion(&account).await? {
                out(&if json { serde_json::to_string(&gone)? } else { gone_line(&gone) })?;
                return Ok(ExitCode::SUCCESS);
            }
            let shown = operator.show(&account).await?;
            if json {
                out(&serde_json::to_string(&shown)?)?;
            } else {
                out(&line(&shown.account))?;
                out(&format!(
                    "email {}, verified {}, second factor {}, recovery codes {}, sessions {}, version {}",
                    shown.email,
                    if shown.account.email_verified_at.is_some() { "yes" } else { "no" },
                    if shown.totp { "TOTP" } else { "none" },
                    shown.recovery_codes,
                    shown.sessions,
                    shown.account.version,
                ))?;
            }
        }
        Account::List { state, after, limit, json } => {
            let filter = match state {
                State { suspended: true, .. } => Filter::Suspended,
                State { deleted: true, .. } => Filter::Deleted,
                State { .. } => Filter::All,
            };
            for account in operator.list(filter, after, limit).await? {
                out(&if json { serde_json::to_string(&account)? } else { line(&account) })?;
            }
        }
        Account::Suspend { account, reason } => {
            let done = operator.suspend(&account, reason).await?;
            out(if done {
                "it is suspended, and its sessions have ended"
            } else {
                "it was suspended before"
            })?;
        }
        Account::Restore { account } => {
            let done = operator.restore(&account).await?;
            out(if done { "it is restored" } else { "it was neither suspended nor deleted" })?;
        }
        Account::Delete { account, yes } => match ask("delete this account?", yes).await? {
            Answer::Yes => {
                let until = operator.delete(&account).await?;
                out(&format!(
                    "it is deleted; until {until} a login or `orrery account restore` takes it back"
                ))?;
            }
            Answer::No => {
                tell("nothing was done");
                return Ok(ExitCode::FAILURE);
            }
            Answer::Nobody => return Ok(ExitCode::FAILURE),
        },
        Account::Invite { email, locale, uses } => {
            let invited = operator.invite(email.as_deref(), &locale, uses).await?;
            out(&format!("{}\n{}\nuntil {}", invited.invite, invited.link, invited.until))?;
        }
        Account::ResetSecondFactor { account } => {
            operator.reset_second_factor(&account).await?;
            out("it has no second factor, and its sessions have ended")?;
        }
        Account::EndSessions { account } => {
            out(&format!("{} sessions have ended", operator.end_sessions(&account).await?))?;
        }
        Account::Operator { account, revoke } => {
            operator.grant_operator(&account, !revoke).await?;
            out(if revoke {
                "it is no operator any more"
            } else {
                "it may ask for the scope admin, with a second factor"
            })?;
        }
        Account::Import { file, format, firebase } => {
            let firebase = FirebaseParameters {
                signer_key: firebase.firebase_signer_key,
                salt_separator: firebase.firebase_salt_separator,
                rounds: firebase.firebase_rounds,
                memory_cost: firebase.firebase_mem_cost,
            };
            let told = |done: &Imported| tell(&format!("{} rows", done.position));
            let done = operator.import(format, &file, firebase, told).await?;
            let mut after = 0;
            loop {
                let left_out = operator.left_out(done.id, after).await?;
                let Some(last) = left_out.last() else { break };
                after = last.record;
                for row in &left_out {
                    out(&serde_json::to_string(row)?)?;
                }
            }
            out(&format!("{} accounts were made, {} rows were left out", done.imported, done.left_out))?;
        }
        Account::Export => {
            let mut after = Uuid::nil();
            loop {
                let (accounts, last) = operator.export(after).await?;
                for account in &accounts {
                    out(&serde_json::to_string(account)?)?;
                }
                let Some(last) = last else { break };
                after = last;
            }
        }
        Account::Deletions { limit } => {
            for deletion in operator.deletions(limit).await? {
                out(&serde_json::to_string(&deletion)?)?;
            }
        }
        Account::Audit { before, limit } => {
            for line in operator.audit(before, limit).await? {
                out(&serde_json::to_string(&line)?)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn gone_line(gone: &Deleted) -> String {
    let mut line = format!(
        "{}  gone since {}, its objects {}",
        gone.account,
        gone.purged_at,
        if gone.objects_removed { "too" } else { "not yet" }
    );
    for (holder, at) in &gone.receipts {
        line.push_str(&format!("\n{holder} holds nothing of it since {at}"));
    }
    line
}

fn line(account: &ListedAccount) -> String {
    let state = match (account.purge_at, account.suspended_at) {
        (Some(purge_at), _) => format!("deleted, gone at {purge_at}"),
        (None, Some(at)) => format!("suspended since {at}"),
        (None, None) => "active".to_owned(),
    };
    let made = account.created_at.format("%Y-%m-%dT%H:%M:%SZ");
    format!("{}  {made}  {:<32}  {:<8}  {state}", account.id, account.vanity, account.locale)
}
