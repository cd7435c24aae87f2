//! What this crate counts from its start on, for whoever shows it. Each is an atomic addition where it happens.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that only grow.
#[derive(Debug, Default)]
pub struct Counts {
    /// Bytes of layers that registries have sent.
    pub received_bytes: AtomicU64,
    /// Questions for code that the cache had.
    pub code_hits: AtomicU64,
    /// Questions for code that had to be compiled.
    pub code_misses: AtomicU64,
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}
