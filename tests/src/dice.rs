//! A random source that a seed repeats, for tests that choose what they break. Names that must be unique are `fresh`'s work.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::fresh;

/// SplitMix64 (Steele, Lea and Flood, 2014): the same seed, the same choices.
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// Dice that fall the same way for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, state: seed }
    }

    /// With the seed in `ORRERY_CHAOS_SEED`, else with a random one.
    ///
    /// # Errors
    /// The variable is no number.
    pub fn thrown() -> Result<Self> {
        match std::env::var("ORRERY_CHAOS_SEED") {
            Ok(seed) => Ok(Self::new(seed.parse().context("ORRERY_CHAOS_SEED is no number")?)),
            Err(_) => Ok(Self::new(fresh::uuid().as_u64_pair().0)),
        }
    }

    /// What to put into `ORRERY_CHAOS_SEED` to see the same again.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `limit`, which is above 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// A time from `least` to `most` milliseconds.
    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = u64::try_from(last + 1).map(|places| self.below(places)).unwrap_or_default();
            items.swap(last, usize::try_from(other).unwrap_or_default());
        }
    }
}
