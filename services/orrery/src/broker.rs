//! The broker's part of `orrery migrate` and `orrery check`: users and rights, topology, and what of them is not as configured.

use anyhow::Context;
use orrery_broker_admin::{
    management::Management,
    topology::{Topology, declare, difference::Difference, standing::Standing},
    trust::{apply, commands},
};
use orrery_bus::{
    Bus, Connection,
    bridge::{self, ForeignQueue},
    connection::close,
};
use orrery_supervise::random::Random;
use tracing::{info, warn};

use crate::{config::Config, told};

/// What `migrate` did at the broker.
pub struct Declared {
    /// Every routing key that a queue is now bound for.
    pub routing_keys: Vec<String>,
    /// What stands otherwise and was left as it is, for an operator.
    pub differences: Vec<String>,
}

/// Makes users, rights and the topology. A queue that stands otherwise is left as it is, and everything else declared.
pub async fn migrate(config: &Config) -> anyhow::Result<Declared> {
    let broker = &config.shared.broker;
    let management = match &broker.management_url {
        Some(_) => Some(Management::new(broker)?),
        None => None,
    };
    if let Some(management) = &management {
        info!("{}", apply::set_house(management, broker, &config.enabled_names()).await?);
    }
    let bus = Bus::new(broker.clone());
    let wanted = wanted(config, &bus).await?;
    let connection = bus.connect("migrate").await?;
    let declared = declare::declare(&bus, &connection, &wanted).await;
    close(&connection).await;
    let differences = declared?;
    for queue in legacy(config) {
        let declared = bridge::declare_legacy(&bus, queue).await;
        if !declared.with_context(|| format!("the queue {queue}"))? {
            warn!(queue, "stands with arguments of its own, which is no harm: it is read as it is");
        }
    }
    match &management {
        Some(management) => {
            for line in apply::set_partners(management, broker, &wanted).await? {
                info!("{line}");
            }
        }
        None => tell_commands(&commands::commands(broker, &config.enabled_names())?),
    }
    let vhost = bus.vhost()?;
    let differences = differences.iter().map(|difference| difference.text(&vhost)).collect();
    Ok(Declared { routing_keys: wanted.routing_keys(), differences })
}

#[expect(clippy::print_stdout, reason = "commands that a person types")]
fn tell_commands(commands: &[String]) {
    if commands.is_empty() {
        return;
    }
    warn!("broker.management_url is not set: users and rights at the broker are left as they are");
    println!("To set users and rights, type on the broker's machine:");
    for command in commands {
        println!("  {command}");
    }
    println!(
        "and delete the users of former partners: rabbitmqctl list_users, rabbitmqctl delete_user partner-..."
    );
}

/// What is configured; the broker is asked how it is told of no limit.
async fn wanted(config: &Config, bus: &Bus) -> anyhow::Result<Topology> {
    let specs = config.handlers();
    let default_limit = declare::has_default_limit(bus, Random::system()?.uuid_v4()).await?;
    let mut wanted = Topology::wanted(&specs, &config.shared.broker.partners, default_limit);
    for spec in config.bridges() {
        if let ForeignQueue::Ingress(key) = spec.queue_kind {
            wanted.bridge(spec.queue, key);
        }
    }
    Ok(wanted)
}

/// Queues that are their publishers' to declare.
fn legacy(config: &Config) -> impl Iterator<Item = &'static str> {
    let legacy = config.bridges().into_iter().filter(|spec| spec.queue_kind == ForeignQueue::Legacy);
    legacy.map(|spec| spec.queue)
}

/// A line each for what is right and what is not.
pub async fn check(config: &Config) -> Vec<Result<String, String>> {
    match look(config).await {
        Ok(lines) => lines,
        Err(error) => vec![Err(format!("{}: look at broker.url", told(&error)))],
    }
}

async fn look(config: &Config) -> anyhow::Result<Vec<Result<String, String>>> {
    let bus = Bus::new(config.shared.broker.clone());
    let wanted = match wanted(config, &bus).await {
        Err(error) if bus.blocked().is_some() => {
            return Ok(vec![Err(format!(
                "{}: it is short of memory or disk, look at its alarms",
                told(&error)
            ))]);
        }
        wanted => wanted?,
    };
    let connection = bus.connect("check").await?;
    let lines = compare(config, &bus, &connection, &wanted).await;
    close(&connection).await;
    lines
}

async fn compare(
    config: &Config,
    bus: &Bus,
    connection: &Connection,
    wanted: &Topology,
) -> anyhow::Result<Vec<Result<String, String>>> {
    let (vhost, mut lines) = (bus.vhost()?, Vec::new());
    let differences = match by_plugin(config, wanted).await {
        Some(Ok(seen)) => {
            for queue in seen.retired {
                lines.extend(retired(&queue, declare::depth(bus, connection, &queue).await?));
            }
            lines.extend(seen.faults.into_iter().map(Err));
            seen.differences
        }
        other => {
            lines.push(match other {
                Some(Err(error)) => Err(told(&error)),
                _ => Ok("broker.management_url is not set: bindings, policies, rights and unused queues cannot be looked at"
                    .to_owned()),
            });
            declare::probe(bus, connection, wanted).await?
        }
    };
    for queue in legacy(config) {
        if declare::depth(bus, connection, queue).await?.is_none() {
            lines.push(Err(format!("the queue {queue} is missing: run 'orrery migrate'")));
        }
    }
    lines.extend(differences.iter().map(|difference| Err(difference.text(&vhost))));
    if let Some(reason) = bus.blocked() {
        lines.push(Err(format!(
            "the broker takes no messages: {reason}: it is short of memory or disk, look at its alarms"
        )));
    }
    if lines.iter().all(Result::is_ok) {
        lines.insert(0, Ok("reachable, exchanges and queues stand as configured".to_owned()));
    }
    Ok(lines)
}

/// What the management plugin shows.
struct Seen {
    differences: Vec<Difference>,
    retired: Vec<String>,
    faults: Vec<String>,
}

async fn by_plugin(config: &Config, wanted: &Topology) -> Option<anyhow::Result<Seen>> {
    config.shared.broker.management_url.as_ref()?;
    let look = async {
        let management = Management::new(&config.shared.broker)?;
        let standing = Standing::read(&management).await?;
        Ok(Seen {
            differences: standing.differences(wanted),
            retired: standing.retired(wanted).into_iter().map(str::to_owned).collect(),
            faults: apply::missing(&management, &config.shared.broker, &config.enabled_names())
                .await
                .context("users and rights")?,
        })
    };
    Some(look.await)
}

fn retired(queue: &str, depth: Option<(u32, u32)>) -> Option<Result<String, String>> {
    match depth?.0 {
        0 => Some(Ok(format!("the queue {queue} is not used any more and is empty: it may be deleted"))),
        ready => Some(Ok(format!(
            "the queue {queue} is not used any more, {ready} messages in it go back to their handler by themselves: leave it"
        ))),
    }
}
