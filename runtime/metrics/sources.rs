//! What other rooms count themselves, brought into the metrics when somebody asks.

use std::sync::atomic::Ordering;

use images::Images;

use super::{Outcome, metrics};

/// Where such numbers come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Counts bytes and the hits of its cache.
    pub images: Images,
}

impl Sources {
    /// Brings them.
    pub(super) fn read(&self) {
        let (metrics, counts) = (metrics(), self.images.counts());
        let lookups = |result| metrics.code_lookups.get_or_create_owned(&Outcome { result });
        lookups("hit").inner().store(counts.code_hits.load(Ordering::Relaxed), Ordering::Relaxed);
        lookups("miss").inner().store(counts.code_misses.load(Ordering::Relaxed), Ordering::Relaxed);
        metrics.pull_received.inner().store(counts.received_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Notes what the image store takes.
pub fn image_store(images: &Images, used_bytes: u64) {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    metrics().image_store.set(number(used_bytes));
    metrics().images.set(number(images.list().len() as u64));
}
