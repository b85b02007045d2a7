//! What operators do with partners: the same functions for the command line and for the admin API. Each act
//! is a line of the audit log, in the transaction that does it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection as _, AsyncPgConnection};
use orrery_config::partner::is_reserved;
use orrery_schemas::address::{Address, AddressFault};
use orrery_seal::SealError;
use orrery_service::GivenUp;
use orrery_store::{Pool, StoreError};
use orrery_supervise::{clock::Clock, random::Random};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    publish::{allowed::is_type, compatible, intake},
    records::{
        audit,
        deliveries::{self, Which},
        endpoints::{self, Endpoint},
        keys::{self, Key},
        partners::{self, NewPartner, Partner},
        schemas::{self, Registered},
    },
    vault::Vault,
};

pub use crate::records::{
    audit::{Actor, Line},
    deliveries::Which as Replayed,
    endpoints::Endpoint as ListedEndpoint,
    partners::Partner as ListedPartner,
};

/// Why a command was not done; the text is for the operator.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Nobody is meant.
    #[error("no partner has this name")]
    Unknown,
    /// No endpoint is meant.
    #[error("no endpoint has this id")]
    UnknownEndpoint,
    /// Its name is taken.
    #[error("a partner of this name is there already")]
    Taken,
    /// A field cannot be used.
    #[error("{0}: {1}")]
    Field(&'static str, String),
    /// An address that cannot be one.
    #[error("contact: the address {0}")]
    Address(#[from] AddressFault),
    /// A schema may not follow.
    #[error("the schema does not accept all that version {0} accepts, at {1}; make a new type")]
    Incompatible(i32, String),
    /// Another one registered a version at the same time.
    #[error("a version was registered meanwhile; try again")]
    Meanwhile,
    /// Something cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<diesel::result::Error> for CommandError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Store(error.into())
    }
}

/// What a partner is made of.
#[derive(Debug, Clone, Default)]
pub struct Create {
    /// Its name: its client id.
    pub name: String,
    /// Types that it may send, as patterns.
    pub publishes: Vec<String>,
    /// Types that it may receive, as patterns.
    pub receives: Vec<String>,
    /// Sources that it may claim; none: what begins with a slash and its name.
    pub sources: Vec<String>,
    /// Whom to tell.
    pub contact: Option<String>,
    /// In which language.
    pub locale: Option<String>,
    /// Its quota of events.
    pub events_per_minute: Option<i32>,
    /// Its quota of endpoints.
    pub max_endpoints: Option<i32>,
    /// Whether it may use the admin API.
    pub is_operator: bool,
}

/// A partner with what belongs to it.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Itself.
    #[serde(flatten)]
    pub partner: Partner,
    /// Whether it has somebody to tell.
    pub has_contact: bool,
    /// Its valid keys.
    pub keys: Vec<Key>,
    /// How many endpoints it has.
    pub endpoints: usize,
}

/// A secret that is shown once.
#[derive(Debug)]
pub struct Fresh {
    /// Whose.
    pub id: Uuid,
    /// The secret.
    pub secret: Zeroizing<String>,
}

/// Does what operators ask for.
#[derive(Clone)]
pub struct Operator {
    /// Who acts; none for a partner that acts on what is its own, which is not logged.
    pub actor: Option<Actor>,
    /// Connections.
    pub pool: Pool,
    /// Seals contacts.
    pub vault: std::sync::Arc<Vault>,
    /// How long a rotated key stays valid.
    pub key_overlap: Duration,
    /// The time.
    pub clock: Clock,
    /// Ids and secrets.
    pub random: Random,
}

impl Operator {
    /// For the command line: opens its own connections.
    ///
    /// # Errors
    /// When a key cannot be used.
    pub fn new(
        actor: Actor,
        config: &crate::Config,
        pool: Pool,
        sealing: &orrery_config::keys::KeyRing,
        mail: &orrery_config::keys::KeyRing,
        random: Random,
    ) -> Result<Self, SealError> {
        let vault = std::sync::Arc::new(Vault::new(sealing, mail)?);
        let (actor, key_overlap) = (Some(actor), config.key_overlap);
        Ok(Self { actor, pool, vault, key_overlap, clock: Clock::System, random })
    }

    /// Writes down what is done, in the transaction that does it.
    async fn log(
        &self,
        connection: &mut AsyncPgConnection,
        action: &'static str,
        target: &str,
        detail: Option<String>,
    ) -> Result<(), StoreError> {
        let Some(actor) = &self.actor else { return Ok(()) };
        audit::write(connection, self.random.uuid_v7(&self.clock), actor, action, target, detail).await
    }

    /// The audit log, the newest line first; `before` is the last id of the page before.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn audit(&self, before: Option<Uuid>, limit: i64) -> Result<Vec<Line>, CommandError> {
        self.pool
            .run(move |mut connection| async move { Ok(audit::page(&mut connection, before, limit).await?) })
            .await
    }

    /// Makes a partner with its first key.
    ///
    /// # Errors
    /// When a field cannot be used, or the name is taken.
    pub async fn create(&self, create: Create) -> Result<Fresh, CommandError> {
        check(&create)?;
        let (id, key) = (self.random.uuid_v7(&self.clock), self.random.uuid_v7(&self.clock));
        let contact = match &create.contact {
            None => None,
            Some(address) => {
                let address = Address::parse(address, true)?;
                Some(self.vault.contacts.seal(address.typed().as_bytes(), &id.to_string())?)
            }
        };
        let sources =
            if create.sources.is_empty() { vec![format!("/{}*", create.name)] } else { create.sources };
        let new = NewPartner {
            name: create.name,
            is_operator: create.is_operator,
            sources,
            publishes: create.publishes,
            receives: create.receives,
            events_per_minute: create.events_per_minute,
            max_endpoints: create.max_endpoints,
            contact,
            locale: create.locale.unwrap_or_else(|| "en".to_owned()),
        };
        let secret = keys::fresh(&self.random);
        let kept = secret.clone();
        let overlap = self.key_overlap;
        let operator = self.clone();
        self.pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, CommandError, _>(async |connection| {
                        if !partners::create(connection, id, &new).await? {
                            return Err(CommandError::Taken);
                        }
                        let rights = json!({"sources": new.sources, "publishes": new.publishes,
                            "receives": new.receives, "is_operator": new.is_operator});
                        operator
                            .log(connection, "partner.create", &new.name, Some(rights.to_string()))
                            .await?;
                        Ok(keys::rotate(connection, id, key, &kept, overlap).await?)
                    })
                    .await
            })
            .await?;
        Ok(Fresh { id, secret })
    }

    /// Partners by name, those after one.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn list(&self, after: &str, limit: i64) -> Result<Vec<Partner>, CommandError> {
        let after = after.to_owned();
        self.pool
            .run(move |mut connection| async move { Ok(partners::list(&mut connection, &after, limit).await?) })
            .await
    }

    /// Shows a partner.
    ///
    /// # Errors
    /// When there is none.
    pub async fn show(&self, name: &str) -> Result<Shown, CommandError> {
        let partner = self.named(name).await?;
        self.pool
            .run(move |mut connection| async move {
                let keys = keys::valid(&mut connection, partner.id).await?;
                let endpoints = endpoints::list(&mut connection, Some(partner.id)).await?.len();
                Ok(Shown { has_contact: partner.contact.is_some(), keys, endpoints, partner })
            })
            .await
    }

    async fn named(&self, name: &str) -> Result<Partner, CommandError> {
        let name = name.to_owned();
        self.pool
            .run(move |mut connection| async move {
                partners::by_name(&mut connection, &name).await?.ok_or(CommandError::Unknown)
            })
            .await
    }

    /// Gives a partner a key; the one before stays valid for a while.
    ///
    /// # Errors
    /// When there is none.
    pub async fn rotate_key(&self, name: &str) -> Result<Fresh, CommandError> {
        let partner = self.named(name).await?;
        let (id, secret) = (self.random.uuid_v7(&self.clock), keys::fresh(&self.random));
        let (kept, overlap) = (secret.clone(), self.key_overlap);
        let operator = self.clone();
        self.pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, CommandError, _>(async |connection| {
                        operator.log(connection, "partner.rotate_key", &partner.name, None).await?;
                        Ok(keys::rotate(connection, partner.id, id, &kept, overlap).await?)
                    })
                    .await
            })
            .await?;
        Ok(Fresh { id: partner.id, secret })
    }

    /// Forbids a partner everything, or allows it again; returns whether that changed anything.
    ///
    /// # Errors
    /// When there is none.
    pub async fn set_disabled(&self, name: &str, disabled: bool) -> Result<bool, CommandError> {
        let partner = self.named(name).await?;
        let operator = self.clone();
        self.pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, CommandError, _>(async |connection| {
                        let changed = partners::set_disabled(connection, partner.id, disabled).await?;
                        if changed {
                            let action = if disabled { "partner.disable" } else { "partner.enable" };
                            operator.log(connection, action, &partner.name, None).await?;
                        }
                        Ok(changed)
                    })
                    .await
            })
            .await
    }

    /// Removes a partner with its keys, endpoints and their dead letters.
    ///
    /// # Errors
    /// When there is none.
    pub async fn remove(&self, name: &str) -> Result<(), CommandError> {
        let partner = self.named(name).await?;
        let operator = self.clone();
        self.pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, CommandError, _>(async |connection| {
                        if partners::remove(connection, partner.id).await? {
                            operator.log(connection, "partner.remove", &partner.name, None).await?;
                        }
                        Ok(())
                    })
                    .await
            })
            .await
    }

    /// The endpoints of a partner, or of everybody.
    ///
    /// # Errors
    /// When there is no such partner.
    pub async fn endpoints(&self, name: Option<&str>) -> Result<Vec<Endpoint>, CommandError> {
        let partner = match name {
            Some(name) => Some(self.named(name).await?.id),
            None => None,
        };
        self.pool
            .run(move |mut connection| async move { Ok(endpoints::list(&mut connection, partner).await?) })
            .await
    }

    /// The dead letters of an endpoint after a position.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn dead_letters(
        &self,
        endpoint: Uuid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<GivenUp>, CommandError> {
        self.pool
            .run(move |mut connection| async move {
                Ok(deliveries::dead(&mut connection, endpoint, after, limit).await?)
            })
            .await
    }

    /// Has dead letters delivered again; returns how many.
    ///
    /// # Errors
    /// When there is no such endpoint.
    pub async fn replay(&self, endpoint: Uuid, which: Which) -> Result<usize, CommandError> {
        let now = self.clock.now();
        let operator = self.clone();
        self.pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, CommandError, _>(async |connection| {
                        if endpoints::by_id(connection, endpoint).await?.is_none() {
                            return Err(CommandError::UnknownEndpoint);
                        }
                        let replayed = deliveries::replay(connection, endpoint, which, now).await?;
                        let detail = Some(format!("{replayed} dead letters"));
                        operator.log(connection, "endpoint.replay", &endpoint.to_string(), detail).await?;
                        Ok(replayed)
                    })
                    .await
            })
            .await
    }

    /// Delivers to an endpoint again, or not any more until an operator says otherwise; returns whether that changed anything. What its receiver
    /// never allowed is not delivered to, whoever asks.
    ///
    /// # Errors
    /// When there is none.
    pub async fn set_endpoint(&self, endpoint: Uuid, enabled: bool) -> Result<bool, CommandError> {
        let operator = self.clone();
        self.pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, CommandError, _>(async |connection| {
                        if endpoints::by_id(connection, endpoint).await?.is_none() {
                            return Err(CommandError::UnknownEndpoint);
                        }
                        let changed = endpoints::set(connection, endpoint, enabled).await?;
                        if changed {
                            let action = if enabled { "endpoint.enable" } else { "endpoint.disable" };
                            operator.log(connection, action, &endpoint.to_string(), None).await?;
                        }
                        Ok(changed)
                    })
                    .await
            })
            .await
    }

    /// The newest schemas of all types.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn schemas(&self) -> Result<Vec<Registered>, CommandError> {
        self.pool.run(|mut connection| async move { Ok(schemas::list(&mut connection).await?) }).await
    }

    /// Registers the next version of a type's schema; returns its number. The one that is there already changes nothing.
    ///
    /// # Errors
    /// When it is no schema, or does not accept all that the version before accepts.
    pub async fn register(&self, ty: &str, schema: Value) -> Result<i32, CommandError> {
        if !is_type(ty) || is_reserved(ty) {
            return Err(CommandError::Field(
                "type",
                "must be a type of a partner, such as com.acme.order.v1".into(),
            ));
        }
        intake::validator(&schema)
            .map_err(|error| CommandError::Field("schema", format!("is no JSON Schema: {error}")))?;
        let ty = ty.to_owned();
        let operator = self.clone();
        self.pool
            .run(move |mut connection| async move {
                connection
                    .transaction::<_, CommandError, _>(async |connection| {
                        let version = match schemas::newest(connection, &ty).await? {
                            None => 1,
                            Some(newest) if newest.schema == schema => return Ok(newest.version),
                            Some(newest) => {
                                compatible::check(&newest.schema, &schema)
                                    .map_err(|place| CommandError::Incompatible(newest.version, place))?;
                                newest.version.saturating_add(1)
                            }
                        };
                        if !schemas::add(connection, &ty, version, &schema).await? {
                            return Err(CommandError::Meanwhile);
                        }
                        let detail = Some(format!("version {version}"));
                        operator.log(connection, "event_type.register", &ty, detail).await?;
                        Ok(version)
                    })
                    .await
            })
            .await
    }
}

fn check(create: &Create) -> Result<(), CommandError> {
    // The rules of `broker.partners`, so that both mean the same partner.
    let configured: Result<orrery_config::partner::Partner, _> = serde_json::from_value(
        json!({"name": create.name, "publishes": create.publishes, "receives": create.receives}),
    );
    let mut faults = Vec::new();
    match configured {
        Ok(partner) => partner.check(&mut faults),
        Err(error) => faults.push(error.to_string()),
    }
    if let Some(fault) = faults.into_iter().next() {
        let prefix = format!("broker.partners.{}.", create.name);
        let fault = fault.strip_prefix(&prefix).unwrap_or(&fault).to_owned();
        return Err(CommandError::Field("partner", fault));
    }
    for source in &create.sources {
        let bare = source.strip_suffix('*').unwrap_or(source);
        let is_ours = bare.is_empty() || is_reserved(bare) || "com.gravitalia".starts_with(bare);
        if is_ours || source.len() > 200 || bare.contains('*') {
            return Err(CommandError::Field(
                "sources",
                format!("'{source}' must be a source of its own, whole or its beginning before a '*'"),
            ));
        }
    }
    for (name, number) in
        [("events_per_minute", create.events_per_minute), ("max_endpoints", create.max_endpoints)]
    {
        if number.is_some_and(|number| number <= 0) {
            return Err(CommandError::Field(name, "must be above zero".to_owned()));
        }
    }
    Ok(())
}

/// Which dead letters, as a request or a command names them.
///
/// # Errors
/// When nothing is named, or a time is none.
pub fn which(
    position: Option<i64>,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    all: bool,
) -> Result<Which, CommandError> {
    if position.is_none() && from.is_none() && until.is_none() && !all {
        let text = "name a position, a range of time, or all".to_owned();
        return Err(CommandError::Field("replay", text));
    }
    Ok(Which { position, from, until })
}
