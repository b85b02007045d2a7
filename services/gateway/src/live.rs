//! What a reload replaces as one: the tables, the ways to backends, limits. Requests that are at work keep what they began with.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use url::Url;

use crate::{
    config::{Config, listener::Role},
    limit::{Limiter, Shared},
    providers::{Provider, Settings},
    routes::{Admitted, Ambiguous, Table, Target},
    served::{Served, Way},
    upstream::{Pool, PoolSettings},
};

/// The roles, in the order in which `Live` has their tables.
const ROLES: [Role; 4] = [Role::Edge, Role::Api, Role::Forward, Role::Reverse];

/// Who answers what is not answered here.
#[derive(Clone)]
pub enum Backend {
    /// Replicas.
    Pool(Arc<Pool>),
    /// A service of this process, by its name.
    Local(&'static str),
    /// Objects of the bucket below a prefix.
    Assets(Arc<str>),
}

/// The gateway as it is configured now.
pub struct Live {
    /// The settings.
    pub config: Config,
    /// Callers' budgets.
    pub limiter: Arc<Limiter>,
    /// Who answers, by places that the tables name.
    pub backends: Vec<Backend>,
    /// Service providers.
    pub providers: Vec<Arc<Provider>>,
    /// The providers of backends, by the places of these.
    provider_at: HashMap<usize, Arc<Provider>>,
    tables: Vec<(Role, Table)>,
    empty: Table,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// Two routes are the same.
    #[error("gateway.routes, role {}: {ambiguous}", role.as_str())]
    Ambiguous {
        /// In the table of this role.
        role: Role,
        /// Which.
        ambiguous: Ambiguous,
    },
    /// A route leads to a service that is not there.
    #[error("gateway.routes: there is no service '{0}'; name one that is enabled")]
    NoService(String),
}

impl Live {
    /// Puts it together; pools and budgets whose settings did not change stay as they are. Where `registered` is none, service providers stay too.
    ///
    /// # Errors
    /// When the routes contradict each other.
    pub fn new(
        config: Config,
        served: &[Served],
        before: Option<&Self>,
        shared: Option<&Arc<Shared>>,
        registered: Option<Vec<Settings>>,
    ) -> Result<Self, LiveError> {
        let mut backends: Vec<Backend> = Vec::new();
        let pool = |settings: PoolSettings| {
            let known =
                before.into_iter().flat_map(|before| &before.backends).find_map(|backend| match backend {
                    Backend::Pool(pool) if pool.settings == settings => Some(Arc::clone(pool)),
                    _ => None,
                });
            Backend::Pool(known.unwrap_or_else(|| Arc::new(Pool::new(settings))))
        };
        let mut services = Vec::new();
        let mut by_name = BTreeMap::new();
        for service in served {
            by_name.insert(service.name, backends.len());
            services.push((service.routes, backends.len()));
            backends.push(match &service.way {
                Way::Local(_) => Backend::Local(service.name),
                Way::Upstreams(given) => {
                    let urls = config.upstreams_of(service.name).unwrap_or(given);
                    pool(of_service(&config, service.name, urls.clone()))
                }
            });
        }
        let mut configured = Vec::new();
        for (at, route) in config.routes.iter().enumerate() {
            let place = match (&route.service, &route.assets) {
                (Some(service), _) => match by_name.get(service.as_str()) {
                    Some(place) => *place,
                    // Who only looks at the settings does not know the services.
                    None if served.is_empty() => {
                        backends.push(Backend::Local(""));
                        backends.len() - 1
                    }
                    None => return Err(LiveError::NoService(service.clone())),
                },
                (None, Some(prefix)) => {
                    backends.push(Backend::Assets(prefix.trim_end_matches('/').into()));
                    backends.len() - 1
                }
                (None, None) => {
                    backends.push(pool(PoolSettings {
                        name: format!("route {at}"),
                        urls: route.upstreams.clone(),
                        health: route.health.clone(),
                        outstanding: config.outstanding,
                        probe_every: config.probe_every,
                    }));
                    backends.len() - 1
                }
            };
            configured.push((route, place));
        }
        let providers = provided(before, registered);
        let routes: Vec<Vec<_>> = providers.iter().map(|provider| provider.routes().collect()).collect();
        let mut provider_at = HashMap::new();
        for (provider, routes) in providers.iter().zip(&routes) {
            // A pool of its own: what is set aside there is set aside for nobody else.
            provider_at.insert(backends.len(), Arc::clone(provider));
            // After the configured routes: of two that are the same theirs is taken.
            configured.extend(routes.iter().map(|route| (route, backends.len())));
            backends.push(pool(PoolSettings {
                name: format!("provider {}", provider.settings.name),
                urls: provider.settings.upstreams.clone(),
                health: None,
                outstanding: config.outstanding,
                probe_every: config.probe_every,
            }));
        }
        let tables = ROLES
            .into_iter()
            .map(|role| {
                let table = Table::new(role, &config, &services, &configured);
                table.map(|table| (role, table)).map_err(|ambiguous| LiveError::Ambiguous { role, ambiguous })
            })
            .collect::<Result<_, _>>()?;
        let unchanged = before.filter(|before| before.config.rates == config.rates);
        let limiter = unchanged.map_or_else(
            || Arc::new(Limiter::new(config.rates.clone(), shared.cloned())),
            |before| Arc::clone(&before.limiter),
        );
        Ok(Self { limiter, backends, providers, provider_at, tables, empty: Table::default(), config })
    }

    /// The table of a role.
    pub fn table(&self, role: Role) -> &Table {
        self.tables.iter().find(|(of, _)| *of == role).map_or(&self.empty, |(_, table)| table)
    }

    /// The service provider that a request goes to, if it goes to one.
    pub fn provider(&self, admitted: &Admitted) -> Option<&Arc<Provider>> {
        match admitted.rule.target {
            Target::Backend(place) => self.provider_at.get(&place),
            Target::Here => None,
        }
    }

    /// Its pools.
    pub fn pools(&self) -> Vec<Arc<Pool>> {
        let pool = |backend: &Backend| match backend {
            Backend::Pool(pool) => Some(Arc::clone(pool)),
            Backend::Local(_) | Backend::Assets(_) => None,
        };
        self.backends.iter().filter_map(pool).collect()
    }
}

/// The providers as they are registered now; those that are known keep what they count.
fn provided(before: Option<&Live>, registered: Option<Vec<Settings>>) -> Vec<Arc<Provider>> {
    let known = before.map(|before| before.providers.as_slice()).unwrap_or_default();
    let Some(registered) = registered else { return known.to_vec() };
    let provider = |settings: Settings| {
        let before = known.iter().find(|provider| provider.settings.name == settings.name);
        match before {
            Some(before) if before.settings == settings => Arc::clone(before),
            Some(before) => Arc::new(before.with(settings)),
            None => Arc::new(Provider::new(settings)),
        }
    };
    registered.into_iter().map(provider).collect()
}

fn of_service(config: &Config, name: &str, urls: Vec<Url>) -> PoolSettings {
    PoolSettings {
        name: name.to_owned(),
        urls,
        health: Some("/health/ready".to_owned()),
        outstanding: config.outstanding,
        probe_every: config.probe_every,
    }
}

/// The gateway as it is now, for requests that begin, and the pools that are watched.
#[derive(Clone)]
pub struct Current {
    live: Arc<ArcSwap<Live>>,
    pools: watch::Sender<Vec<Arc<Pool>>>,
}

impl Current {
    /// Begins with this.
    pub fn new(live: Live) -> Self {
        let pools = watch::Sender::new(live.pools());
        Self { live: Arc::new(ArcSwap::from_pointee(live)), pools }
    }

    /// What holds now.
    pub fn get(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Replaces it, for every request from now on.
    pub fn replace(&self, live: Live) {
        let pools = live.pools();
        self.live.store(Arc::new(live));
        self.pools.send_replace(pools);
    }

    /// The pools to watch.
    pub fn pools(&self) -> watch::Receiver<Vec<Arc<Pool>>> {
        self.pools.subscribe()
    }
}
