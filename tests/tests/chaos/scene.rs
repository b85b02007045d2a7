//! What is killed: each service as a process of its own, the broker and the database server; and how it comes back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use orrery_tests::{Dice, Postgres, RabbitMq, Service, World};
use tokio::task::JoinHandle;

/// The longest that everything may take to be ready once nothing is killed any more.
const READY: Duration = Duration::from_secs(120);

/// What a kill meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Gateway,
    Autha,
    Spinoza,
    Maily,
    Broker,
    Postgres,
}

impl Victim {
    /// Those that are processes of ours.
    pub const OURS: [Self; 4] = [Self::Gateway, Self::Autha, Self::Spinoza, Self::Maily];

    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Autha => "autha",
            Self::Spinoza => "spinoza",
            Self::Maily => "maily",
            Self::Broker => "broker",
            Self::Postgres => "postgresql",
        }
    }
}

/// How often each was killed.
#[derive(Clone, Debug, Default)]
pub struct Kills(BTreeMap<Victim, usize>);

impl Kills {
    /// Of all kinds.
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }
}

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each: Vec<String> =
            self.0.iter().map(|(victim, kills)| format!("{} {kills}", victim.name())).collect();
        write!(f, "{} kills ({})", self.total(), each.join(", "))
    }
}

/// The servers that a world of chaos is on; they outlive it.
pub struct Ground {
    pub postgres: Arc<Postgres>,
    pub broker: Arc<RabbitMq>,
}

impl Ground {
    pub async fn start() -> Result<Self> {
        let (postgres, broker) = tokio::try_join!(Postgres::start(), RabbitMq::start())?;
        Ok(Self { postgres: Arc::new(postgres), broker: Arc::new(broker) })
    }
}

/// The processes over a world, and the kills so far.
pub struct Scene<'a> {
    ground: &'a Ground,
    ours: BTreeMap<Victim, Service>,
    returning: BTreeMap<Victim, JoinHandle<Result<()>>>,
    pub kills: Kills,
}

impl<'a> Scene<'a> {
    /// Starts the four services, each in its process; the gateway knows these addresses of autha beside its own.
    pub async fn start(ground: &'a Ground, world: &World, more_autha: &[String]) -> Result<Self> {
        ground.broker.wait_leaders(world.broker().vhost(), READY).await?;
        let autha = world.spawn(&["autha"]).await?;
        let upstreams = [&[autha.autha_url()], more_autha].concat().join(",");
        let gateway = world.spawn_with(&["gateway"], &[("ORRERY_GATEWAY__AUTHA", &upstreams)]).await?;
        let (spinoza, maily) = tokio::try_join!(world.spawn(&["spinoza"]), world.spawn(&["maily"]))?;
        let ours = BTreeMap::from([
            (Victim::Gateway, gateway),
            (Victim::Autha, autha),
            (Victim::Spinoza, spinoza),
            (Victim::Maily, maily),
        ]);
        Ok(Self { ground, ours, returning: BTreeMap::new(), kills: Kills::default() })
    }

    /// SIGKILL to one, which is started again after a moment. What was killed before may still be away.
    pub async fn strike(&mut self, victim: Victim, dice: &mut Dice) -> Result<()> {
        if let Some(returning) = self.returning.remove(&victim) {
            returning.await??;
        }
        *self.kills.0.entry(victim).or_default() += 1;
        match victim {
            Victim::Broker => {
                self.ground.broker.kill();
                let (broker, pause) = (Arc::clone(&self.ground.broker), dice.millis(100, 1500));
                let back = async move {
                    tokio::time::sleep(pause).await;
                    broker.resume().await
                };
                self.returning.insert(victim, tokio::spawn(back));
            }
            Victim::Postgres => {
                self.ground.postgres.kill();
                let (postgres, pause) = (Arc::clone(&self.ground.postgres), dice.millis(100, 1500));
                let back = async move {
                    tokio::time::sleep(pause).await;
                    postgres.resume().await
                };
                self.returning.insert(victim, tokio::spawn(back));
            }
            _ => {
                let service = self.ours.get_mut(&victim).context("a service that was not started")?;
                let ended = service.ended();
                ensure!(ended.is_none(), "{} ended by itself: {ended:?}\n{}", victim.name(), service.log());
                service.kill();
                tokio::time::sleep(dice.millis(50, 800)).await;
                service.relaunch()?;
            }
        }
        Ok(())
    }

    /// Waits until all that was killed is back and ready.
    pub async fn calm(&mut self) -> Result<()> {
        for (_, returning) in std::mem::take(&mut self.returning) {
            returning.await??;
        }
        for service in self.ours.values_mut() {
            service.wait_ready(READY).await?;
        }
        Ok(())
    }
}
