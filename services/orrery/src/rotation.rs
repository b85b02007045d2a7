//! `orrery keys`: signing keys, and what lies sealed in autha's tables.

use std::process::ExitCode;

use clap::Subcommand;
use orrery_autha::operator::Rotation;

use crate::{
    account,
    config::Config,
    keys,
    terminal::{Answer, ask, out, tell},
};

/// What to do.
#[derive(Subcommand)]
pub enum Keys {
    /// Makes a new signing key. It is published now, and signs when every replica has published it for an hour, the time that clients keep the JWKS.
    Rotate {
        /// The new key signs at once, and the others are forgotten: every access token ends. For a key that has leaked.
        #[arg(long, conflicts_with = "data")]
        immediately: bool,
        /// Instead seals what lies under a former master key under the current one, while everything runs. Safe to stop and to run again.
        #[arg(long)]
        data: bool,
        /// Does not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Does it.
pub async fn run(config: Config, Keys::Rotate { immediately, data, yes }: Keys) -> anyhow::Result<ExitCode> {
    let operator = account::operator(&config)?;
    if data {
        // The check value is sealed anew first: a key that opens nothing is told before anything is written.
        keys::hold(&config).await?;
        let done = operator.reseal(|done| tell(&format!("{} texts", done.texts))).await?;
        out(&format!("{} texts were sealed under the current key", done.texts))?;
        if done.left > 0 {
            out(&format!(
                "{} texts lie under a key that is not in the configuration: add it to keys.master_previous and run this again",
                done.left
            ))?;
            return Ok(ExitCode::FAILURE);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if immediately {
        match ask("end every access token now?", yes).await? {
            Answer::Yes => {}
            Answer::No => {
                tell("nothing was done");
                return Ok(ExitCode::FAILURE);
            }
            Answer::Nobody => return Ok(ExitCode::FAILURE),
        }
    }
    let rotation = if immediately { Rotation::Immediate } else { Rotation::Scheduled };
    let kid = operator.rotate_signing_key(rotation).await?;
    out(&match rotation {
        Rotation::Immediate => format!("{kid} signs; running replicas see it within a minute"),
        Rotation::Scheduled => {
            format!(
                "{kid} is published within a minute, and signs when every replica has published it for an hour"
            )
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
