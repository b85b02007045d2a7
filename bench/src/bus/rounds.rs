//! Rates of rounds, and the two sides of a pair. A pair's ratio is the median of its rounds' ratios: the two halves of a
//! round are neighbours in time, so that what else the machine does meets both.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::figures::{Bound, Figure, Unit};

/// Messages a second, one number for each round.
#[derive(Debug, Default)]
pub struct Rates(Vec<f64>);

impl Rates {
    /// Adds a round.
    pub fn add(&mut self, messages: usize, time: Duration) {
        let messages = u32::try_from(messages).map_or(f64::MAX, f64::from);
        self.0.push(messages / time.as_secs_f64());
    }

    /// The middle one.
    ///
    /// # Errors
    /// There was no round.
    pub fn median(&self) -> Result<f64> {
        median(self.0.clone())
    }

    /// As a figure that is held against nothing.
    ///
    /// # Errors
    /// There was no round.
    pub fn figure(&self, name: &str) -> Result<Figure> {
        let rate = Figure::once(name, self.median()?, Unit::PerSecond, Bound::None);
        Ok(Figure { samples: self.0.len(), ..rate })
    }
}

/// The same work done by us and bare.
#[derive(Debug)]
pub struct Pair {
    name: &'static str,
    least: f64,
    /// Our rates.
    pub ours: Rates,
    /// Those of the bare loop.
    pub bare: Rates,
}

impl Pair {
    /// A pair without rounds, whose ratio should be at least `least`.
    pub fn new(name: &'static str, least: f64) -> Self {
        Self { name, least, ours: Rates::default(), bare: Rates::default() }
    }

    /// The ratio beside its aim, and the two rates.
    ///
    /// # Errors
    /// There was no round.
    pub fn figures(&self) -> Result<[Figure; 3]> {
        let ratios = self.ours.0.iter().zip(&self.bare.0).map(|(ours, bare)| ours / bare).collect();
        let ratio = Figure::once(self.name, median(ratios)?, Unit::Ratio, Bound::Least(self.least));
        Ok([
            Figure { samples: self.ours.0.len(), ..ratio },
            self.ours.figure("    ours")?,
            self.bare.figure("    bare")?,
        ])
    }
}

fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_median_of_its_rounds() -> Result<()> {
        let mut pair = Pair::new("pair", 0.9);
        assert!(pair.figures().is_err());
        for (ours, bare) in [(1, 1), (2, 4), (9, 3)] {
            pair.ours.add(12, Duration::from_secs(bare));
            pair.bare.add(12, Duration::from_secs(ours));
        }
        let [ratio, ours, _] = pair.figures()?;
        assert!((ratio.value - 1.0).abs() < 1e-9, "{}", ratio.value);
        assert!((ours.value - 4.0).abs() < 1e-9, "{}", ours.value);
        Ok(())
    }
}
