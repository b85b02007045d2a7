//! `orrery queues purge`.

use clap::Args;
use orrery_bus::{Bus, BusError};
use orrery_console::{
    purge::{self, Kinds},
    text,
};
use serde_json::json;

use super::End;
use crate::{
    config::Config,
    terminal::{Answer, ask, out, tell},
};

/// What to empty.
#[derive(Args)]
pub struct Purge {
    /// A handler, such as maily.email, which means its own queue; or one of its queues, such as maily.email.retry.2000.
    #[arg(value_name = "QUEUE|HANDLER")]
    name: String,
    /// The handler's quarantine queue.
    #[arg(long)]
    quarantine: bool,
    /// The handler's retry queues.
    #[arg(long)]
    retry: bool,
    /// The handler's dead letters that are not in the table yet; those in it are dropped by `queues dead drop`.
    #[arg(long)]
    dead: bool,
    /// Does not ask.
    #[arg(long)]
    yes: bool,
}

/// Empties.
pub async fn run(config: &Config, arguments: &Purge, json: bool) -> anyhow::Result<End> {
    let kinds = Kinds { quarantine: arguments.quarantine, retry: arguments.retry, dead: arguments.dead };
    let queues = match purge::queues(&arguments.name, kinds, &config.handlers()) {
        Ok(queues) => queues,
        Err(error) => {
            tell(&format!("orrery: {}", text::safe(&error.to_string())));
            return Ok(End::Usage);
        }
    };
    let bus = Bus::new(config.shared.broker.clone());
    let connection = bus.connect("console").await?;
    let waiting = purge::waiting(&bus, &connection, &queues).await?;
    let total = waiting.iter().sum();
    let end = if total == 0 {
        if json {
            for queue in &queues {
                out(&json!({"queue": queue, "purged": 0}).to_string())?;
            }
        }
        tell(&format!("nothing waits in {}", queues.join(", ")));
        End::Nothing
    } else {
        let what = text::count(total, "message");
        match ask(&format!("throw {what} in {} away for good?", queues.join(", ")), arguments.yes).await? {
            Answer::Nobody => return Ok(End::Usage),
            Answer::No => {
                tell("nothing was purged");
                End::Part
            }
            Answer::Yes => {
                let operator = super::operator(&super::pool(config)?)?;
                for (queue, _) in queues.iter().zip(&waiting).filter(|(_, waiting)| **waiting > 0) {
                    let purged = operator.purge(&bus, &connection, queue).await?;
                    out(&if json {
                        json!({"queue": queue, "purged": purged}).to_string()
                    } else {
                        format!("purged {} from {queue}", text::count(purged, "message"))
                    })?;
                }
                End::Done
            }
        }
    };
    connection.close(200, "done".into()).await.map_err(BusError::Amqp)?;
    Ok(end)
}
