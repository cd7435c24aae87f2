//! From samples to a median and its spread.

use std::time::Duration;

/// What a measurement came to.
#[derive(Debug, Clone)]
pub enum Cell {
    /// Of many samples.
    Spread {
        /// Median.
        p50: f64,
        /// A tenth of the samples is below.
        p10: f64,
        /// A tenth of the samples is above.
        p90: f64,
        /// Number of samples.
        count: usize,
    },
    /// One figure, already a mean or a sum.
    Single(f64),
    /// Nothing, for this reason.
    Missing(String),
}

impl Cell {
    /// Of samples in any order.
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        match (nearest(&samples, 50), nearest(&samples, 10), nearest(&samples, 90)) {
            (Some(p50), Some(p10), Some(p90)) => Self::Spread { p50, p10, p90, count: samples.len() },
            _ => Self::Missing("-".to_owned()),
        }
    }

    /// The figure to compare.
    pub fn middle(&self) -> Option<f64> {
        match self {
            Self::Spread { p50, .. } => Some(*p50),
            Self::Single(value) => Some(*value),
            Self::Missing(_) => None,
        }
    }
}

/// The sample at a percentile of a sorted list, by nearest rank.
fn nearest(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// In milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Bytes in megabytes of 1,000,000.
#[allow(clippy::cast_precision_loss, reason = "sizes of memory are far below 2^52")]
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// A sum over pods by their number.
pub fn each(sum: f64, count: usize) -> f64 {
    sum / f64::from(u32::try_from(count.max(1)).unwrap_or(u32::MAX))
}
