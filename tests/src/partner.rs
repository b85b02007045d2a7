//! A third party at the broker, of one test. Users belong to the whole broker: its name is nobody else's.

use anyhow::Result;
use lapin::{Connection, ConnectionProperties, types::ShortString};

use crate::{World, WorldBuilder, fresh};

/// A partner as the configuration knows it.
#[derive(Debug, Clone)]
pub struct Partner {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl Default for Partner {
    fn default() -> Self {
        Self::new()
    }
}

impl Partner {
    /// One that nobody knows yet.
    pub fn new() -> Self {
        let id = fresh::uuid().simple().to_string();
        Self { name: format!("test-{}", id.get(..20).unwrap_or(&id)), password: id }
    }

    /// `broker.partners` with this one alone, and with what more is said of it: `publishes=[...]`.
    pub fn setting(&self, more: &str) -> String {
        format!("[{{name=\"{}\",password=\"{}\",{more}}}]", self.name, self.password)
    }

    /// A world that knows this partner alone.
    ///
    /// # Errors
    /// It does not start.
    pub async fn world(&self, more: &str) -> Result<World> {
        self.start(World::builder().env("ORRERY_BROKER__PARTNERS", &self.setting(more))).await
    }

    /// Starts a world that knows it, where its password is a secret; its user is deleted with the world.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(&self, builder: WorldBuilder) -> Result<World> {
        let world = builder.start().await?;
        world.secret(&self.password);
        self.url(&world)?;
        Ok(world)
    }

    /// Its user at the broker.
    pub fn user(&self) -> String {
        format!("partner-{}", self.name)
    }

    /// The broker's address with its name and password.
    ///
    /// # Errors
    /// The broker's own address is none.
    pub fn url(&self, world: &World) -> Result<String> {
        world.broker().url_as(&self.user(), &self.password)
    }

    /// The queue that it reads.
    pub fn queue(&self) -> ShortString {
        format!("partner.{}", self.name).into()
    }

    /// The exchange that it writes to.
    pub fn exchange(&self) -> ShortString {
        format!("ingress.{}", self.name).into()
    }

    /// Connects as this partner.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn connect(&self, world: &World) -> Result<Connection> {
        Ok(Connection::connect(&self.url(world)?, ConnectionProperties::default()).await?)
    }
}
