//! The topology actor: looks at the queues and exchanges that this process needs, at its start, every now and then, and when somebody missed one.
//! What it finds stands in `orrery_bus::standing`, for health. It declares nothing that is missing.

use std::{sync::Arc, time::Duration};

use lapin::{
    Connection, ExchangeKind, options::ExchangeDeclareOptions, protocol::AMQPSoftError, types::FieldTable,
};
use orrery_bus::{
    Bus, BusError,
    connection::{close, soft},
    standing::{missing_text, waiting},
};
use orrery_supervise::{Actor, ActorError, Life, Mailbox, Shutdown, Supervisor};
use serde_json::Value;

use super::{Queue, Topology, declare, difference::Difference};

/// How often it looks where everything stands, and where something does not.
const LOOK: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Looks.
#[derive(Clone)]
pub struct Watch {
    bus: Bus,
    wanted: Arc<Topology>,
    /// Queues that are others' to declare: they have to be there, however they stand.
    legacy: Arc<[&'static str]>,
    shutdown: Shutdown,
}

impl Actor for Watch {
    fn started(&mut self, life: &mut Life<Self>) -> Result<(), ActorError> {
        let watch = Self { shutdown: life.shutdown(), ..self.clone() };
        life.run(watch.run());
        Ok(())
    }
}

impl Watch {
    /// Starts to look at what a process needs: of `wanted` its exchanges and queues, and these legacy queues.
    pub fn start(supervisor: &Supervisor, bus: Bus, wanted: Topology, legacy: &[&'static str]) {
        let shutdown = supervisor.shutdown_signal();
        let watch = Self { bus, wanted: Arc::new(wanted), legacy: legacy.into(), shutdown };
        supervisor.start_actor("topology", Mailbox::own_work(1), move || watch.clone());
    }

    async fn run(mut self) -> Result<(), BusError> {
        let connection = self.bus.connect_aside("topology").await?;
        let ended = self.look(&connection).await;
        close(&connection).await;
        ended
    }

    async fn look(&mut self, connection: &Connection) -> Result<(), BusError> {
        loop {
            let faults = self.faults(connection).await?;
            let pause = if faults.is_empty() { LOOK } else { LOOK_AGAIN };
            for fault in &faults {
                if !self.bus.standing().faults().is_some_and(|known| known.contains(fault)) {
                    tracing::error!("{fault}");
                }
            }
            self.bus.standing().found(faults);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.bus.standing().missed(), if pause == LOOK => {}
                () = self.shutdown.requested() => return Ok(()),
            }
        }
    }

    /// A sentence for each that is missing or stands otherwise.
    async fn faults(&self, connection: &Connection) -> Result<Vec<String>, BusError> {
        let (bus, mut faults) = (&self.bus, Vec::new());
        for exchange in &self.wanted.exchanges {
            let channel = bus.within(connection.create_channel()).await?;
            let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
            let asked = channel.exchange_declare(
                exchange.as_str().into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            );
            match bus.within(asked).await {
                Ok(()) => bus.within(channel.close(200, "".into())).await?,
                Err(error) if refused_with(&error) == Some(AMQPSoftError::NOTFOUND) => {
                    faults.push(missing_text(&format!("the exchange {exchange}")));
                }
                Err(error) => return Err(error),
            }
        }
        for queue in &self.wanted.queues {
            if waiting(bus, connection, &queue.name).await?.is_none() {
                faults.push(missing_text(&queue.name));
            } else {
                faults.extend(self.difference(connection, queue).await?);
            }
        }
        for queue in self.legacy.iter() {
            if waiting(bus, connection, queue).await?.is_none() {
                faults.push(missing_text(queue));
            }
        }
        Ok(faults)
    }

    async fn difference(&self, connection: &Connection, queue: &Queue) -> Result<Option<String>, BusError> {
        let difference = match declare::queue_difference(&self.bus, connection, queue).await {
            // A service whose user may declare nothing learns no more than that the queue is there.
            Err(error) if refused_with(&error) == Some(AMQPSoftError::ACCESSREFUSED) => return Ok(None),
            found => found?,
        };
        let Some(found) = difference.and_then(told) else { return Ok(None) };
        Ok(Some(found.text(&self.bus.vhost()?)))
    }
}

/// Without what `migrate` sets by the broker's own default limit, which is not asked for here.
fn told(difference: Difference) -> Option<Difference> {
    let Difference::Queue { queue, mut inequalities } = difference else { return Some(difference) };
    inequalities.retain(|found| {
        let is_unlimited = found.standing == Some(Value::from(-1)) && found.wanted.is_none();
        !(found.argument == "x-delivery-limit" && is_unlimited)
    });
    (!inequalities.is_empty()).then_some(Difference::Queue { queue, inequalities })
}

fn refused_with(error: &BusError) -> Option<AMQPSoftError> {
    match error {
        BusError::Amqp(error) => soft(error),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Arguments, Reader, difference::Inequality};

    #[test]
    fn that_a_queue_says_it_has_no_limit_is_no_difference() {
        let queue = Queue {
            name: "maily.email.dead".to_owned(),
            arguments: Arguments::new(),
            reader: Reader::Handler("maily.email"),
        };
        let found = |argument: &str, standing: i64| {
            let argument = argument.to_owned();
            let inequality = Inequality { argument, standing: Some(standing.into()), wanted: None };
            told(Difference::Queue { queue: queue.clone(), inequalities: vec![inequality] })
        };
        assert_eq!(found("x-delivery-limit", -1), None);
        assert!(found("x-delivery-limit", 3).is_some());
        assert!(found("x-max-length", -1).is_some());
    }
}
