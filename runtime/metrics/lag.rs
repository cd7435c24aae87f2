//! A gauge that grows by itself: the age of something, counted when it is read.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// The beginning of this clock; a moment is counted in microseconds from here, and 0 stands for none.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Seconds since a moment; 0 while there is none.
#[derive(Debug, Clone, Default)]
pub struct Lag(Arc<AtomicU64>);

impl Lag {
    /// Now, as [`Lag::begin`] and [`Lag::restart`] take it.
    pub fn now() -> u64 {
        u64::try_from(EPOCH.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// It began now, unless it had begun.
    pub fn begin(&self) {
        let _ = self.0.compare_exchange(0, Self::now(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What it was about is over; `next`: something else began then.
    pub fn restart(&self, next: Option<u64>) {
        self.0.store(next.unwrap_or(0), Ordering::Relaxed);
    }

    /// In seconds.
    pub fn seconds(&self) -> f64 {
        match self.0.load(Ordering::Relaxed) {
            0 => 0.0,
            since => std::time::Duration::from_micros(Self::now().saturating_sub(since)).as_secs_f64(),
        }
    }
}

impl TypedMetric for Lag {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Lag {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&self.seconds())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}
