//! The sections that several services share, read together. A service's own section lives in its crate.

use serde::Serialize;

use crate::{
    ConfigError, Section, Source, broker::Broker, database::Database, keys::Keys, listen::Internal,
    redis::Redis, retention::Retention, storage::Storage,
};

/// The shared sections.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Shared {
    /// The listener for operators, and how long a shutdown may take.
    pub internal: Internal,
    /// PostgreSQL.
    pub database: Database,
    /// RabbitMQ.
    pub broker: Broker,
    /// How long rows are kept.
    pub retention: Retention,
    /// The bucket.
    pub storage: Storage,
    /// The keys of the installation.
    pub keys: Keys,
    /// What replicas share, if anything.
    pub redis: Redis,
}

impl Shared {
    /// Their names.
    pub const NAMES: [&str; 7] = ["internal", "database", "broker", "retention", "storage", "keys", "redis"];

    /// Takes them from what was given.
    ///
    /// # Errors
    /// When a value has the wrong type or a key is unknown.
    pub fn read(source: &Source) -> Result<Self, ConfigError> {
        Ok(Self {
            internal: source.section("internal")?,
            database: source.section("database")?,
            broker: source.section("broker")?,
            retention: source.section("retention")?,
            storage: source.section("storage")?,
            keys: source.section("keys")?,
            redis: source.section("redis")?,
        })
    }
}

impl Section for Shared {
    fn validate(&self, faults: &mut Vec<String>) {
        let Self { internal, database, broker, retention, storage, keys, redis } = self;
        let sections: [&dyn Section; 7] = [internal, database, broker, retention, storage, keys, redis];
        sections.iter().for_each(|section| section.validate(faults));
    }
}
