//! The section `spinoza`. Storage, broker and database have sections of their own.

use std::{collections::BTreeMap, time::Duration};

use bytesize::ByteSize;
use orrery_config::Section;
use orrery_picture::Preset;
use serde::{Deserialize, Serialize};

/// The folder of avatars in the bucket, which is also the name of their preset.
pub const AVATARS: &str = "avatars";

/// Less would refuse pictures that every phone takes.
const LEAST_MEMORY: ByteSize = ByteSize::mib(64);

/// The image optimiser.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Pictures that are worked on at once, each in a worker process.
    pub concurrency: u16,
    /// Pictures that are taken from the queue ahead of their work.
    pub capacity: u16,
    /// Memory that all pictures at work may take together, such as 512MiB: what one needs is known before it is decoded. One that needs more
    /// is refused, one that needs more than is left waits.
    pub memory: ByteSize,
    /// How long a worker process may take for one picture.
    #[serde(with = "humantime_serde")]
    pub decode_limit: Duration,
    /// How long a failed try waits before the second.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    /// How long one picture may take with all that is fetched and stored.
    #[serde(with = "humantime_serde")]
    pub time_limit: Duration,
    /// What is made of a picture, by the first folder of its key in the bucket.
    pub presets: BTreeMap<String, Preset>,
}

impl Default for Config {
    fn default() -> Self {
        let presets = [
            (AVATARS, Preset::avatar()),
            ("banners", Preset::banner()),
            ("attachments", Preset::attachment()),
        ];
        Self {
            concurrency: 2,
            capacity: 0,
            memory: ByteSize::mib(512),
            decode_limit: Duration::from_secs(20),
            retry_delay: Duration::from_secs(10),
            time_limit: Duration::from_secs(60),
            presets: presets.map(|(name, preset)| (name.to_owned(), preset)).into(),
        }
    }
}

impl Section for Config {
    fn validate(&self, faults: &mut Vec<String>) {
        if !(1..=256).contains(&self.concurrency) {
            faults.push("spinoza.concurrency: must be 1 to 256".to_owned());
        }
        if self.capacity > 4096 {
            faults.push("spinoza.capacity: must be 0 to 4096".to_owned());
        }
        if self.memory < LEAST_MEMORY {
            faults.push(format!("spinoza.memory: must be {LEAST_MEMORY} or more"));
        }
        if self.decode_limit >= self.time_limit {
            faults.push(
                "spinoza.decode_limit: must be below spinoza.time_limit, such as a third of it".to_owned(),
            );
        }
        if !self.presets.contains_key(AVATARS) {
            faults.push(format!("spinoza.presets: '{AVATARS}' is missing; autha's pictures are made by it"));
        }
        for (name, preset) in &self.presets {
            if let Err(fault) = preset.check() {
                faults.push(format!("spinoza.presets.{name}.{fault}"));
            }
        }
        let times = [
            ("decode_limit", self.decode_limit),
            ("retry_delay", self.retry_delay),
            ("time_limit", self.time_limit),
        ];
        for (name, value) in times {
            if value.is_zero() {
                faults.push(format!("spinoza.{name}: must be above zero, such as 10s"));
            }
        }
    }
}
