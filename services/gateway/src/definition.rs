//! The gateway as the binary's list has it: its section, what it needs, how it starts and how its settings are replaced.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use orrery_bus::Bus;
use orrery_config::{Section, Source, shared::Shared};
use orrery_schemas::services::ServiceId;
use orrery_service::{Checked, Context, Definition, Needs, Service, StartError, Started, read};
use orrery_store::Pool;
use orrery_supervise::{clock::Clock, random::Random};
use tokio::net::TcpStream;
use url::Url;

use crate::{
    config::{Config, Urls},
    gateway::{Control, Gateway, Parts, SharedCounts},
    served::{Served, Way},
};

/// Its name; it publishes nothing.
pub const GATEWAY: ServiceId = ServiceId::new("gateway", "com.gravitalia.gateway");

/// The reverse proxy, the only part that is exposed.
pub static SERVICE: Definition = Definition {
    service: GATEWAY,
    about: "the only part that is exposed: routes, limits, balancing",
    routes: &[],
    bridge_queues: &[],
    read: |source| read(source, GATEWAY.name(), |config| Configured { config, control: OnceLock::new() }),
};

/// How long an upstream may take to take a connection.
const LIMIT: Duration = Duration::from_secs(2);

/// The gateway with its settings.
struct Configured {
    config: Config,
    /// Of the gateway that was started.
    control: OnceLock<Control>,
}

#[async_trait]
impl Service for Configured {
    fn section(&self) -> &dyn Section {
        &self.config
    }

    fn shown(&self) -> Result<toml::Table, toml::ser::Error> {
        toml::Table::try_from(&self.config)
    }

    fn needs(&self, _: &Shared) -> Needs {
        Needs::default()
    }

    async fn check(&self, _: &Shared) -> Vec<Checked> {
        let usable = crate::gateway::check(&self.config, &[]);
        let usable = usable.map(|()| "routes and certificates can be used".to_owned());
        let mut lines = vec![Checked::new("gateway", usable.map_err(|error| error.to_string()))];
        for url in &self.config.autha {
            lines.push(Checked::new("autha", upstream(url, "autha", "gateway.autha").await));
        }
        for (service, Urls(urls)) in &self.config.upstreams {
            for url in urls {
                let setting = format!("gateway.upstreams.{service}");
                lines.push(Checked::new("upstream", upstream(url, service, &setting).await));
            }
        }
        for (at, route) in self.config.routes.iter().enumerate() {
            for url in &route.upstreams {
                let setting = format!("gateway.routes.{at}");
                lines.push(Checked::new("route", upstream(url, "the application", &setting).await));
            }
        }
        lines
    }

    fn start(&self, context: &Context) -> Result<Started, StartError> {
        let config = self.config.clone();
        let served = context
            .peers
            .iter()
            .map(|peer| Served {
                name: peer.service.name(),
                routes: peer.routes,
                way: match &peer.local {
                    Some(local) => Way::Local(Arc::clone(local)),
                    None => {
                        Way::Upstreams(config.upstreams_of(peer.service.name()).cloned().unwrap_or_default())
                    }
                },
            })
            .collect();
        let redis = context.shared.redis.address().map_err(StartError::told)?;
        let assets = config.routes.iter().any(|route| route.assets.is_some());
        let parts = Parts {
            served,
            redis: redis.map(|url| SharedCounts { url, timeout: context.shared.redis.timeout }),
            objects: if assets { Some(context.objects()?) } else { None },
            bus: (config.cache.bytes > 0 && config.cache.purge)
                .then(|| Bus::new(context.shared.broker.clone())),
            clock: Clock::System,
            random: Random::system().map_err(StartError::of)?,
            main: context.main.handle().clone(),
            config,
        };
        let registered = parts.config.providers.enabled.then(|| context.main.handle().clone());
        let gateway = Gateway::new(parts).map_err(StartError::of)?;
        gateway.start(&context.supervisor);
        let server = gateway.listen(&context.health).map_err(StartError::of)?;
        // A process starts each service once.
        let _first = self.control.set(gateway.control()).is_ok();
        let mut dependencies = gateway.dependencies();
        if let Some(main) = registered {
            // No need of the definition: what is known is served while the database is away.
            let pool = Pool::new(&context.shared.database, GATEWAY, main).map_err(StartError::of)?;
            dependencies.push(gateway.register(pool, &context.supervisor));
        }
        Ok(Started { servers: vec![(GATEWAY.name(), server)], application: None, dependencies })
    }

    fn reload(&self, source: &Source) -> Result<(), StartError> {
        let Some(control) = self.control.get() else { return Ok(()) };
        let config: Config = source.section(GATEWAY.name()).map_err(StartError::of)?;
        let mut faults = Vec::new();
        config.validate(&mut faults);
        if !faults.is_empty() {
            return Err(StartError::told(faults.join("; ")));
        }
        control.reload(config).map_err(StartError::of)
    }
}

async fn upstream(url: &Url, what: &str, setting: &str) -> Result<String, String> {
    let fault =
        |why: &str| format!("{url} cannot be reached ({why}): start {what} there, or change {setting}");
    let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(|| fault("no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match tokio::time::timeout(LIMIT, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(format!("{url} takes connections")),
        Ok(Err(error)) => Err(fault(&error.to_string())),
        Err(_) => Err(fault("no answer")),
    }
}
