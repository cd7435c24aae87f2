//! What is seen of a pull while it runs: its tracker, for callers that join it, and a line in the log now and then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::api::PullKey;
use crate::progress::{Phase, Tracker};

/// Between two lines about one pull.
const EVERY: Duration = Duration::from_secs(10);

/// The trackers of pulls under way.
#[derive(Default)]
pub(crate) struct Trackers(Mutex<HashMap<PullKey, Weak<Tracker>>>);

impl Trackers {
    pub(crate) fn add(&self, key: PullKey, tracker: &Arc<Tracker>) {
        let mut trackers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        trackers.retain(|_, tracker| tracker.strong_count() > 0);
        trackers.insert(key, Arc::downgrade(tracker));
    }

    pub(crate) fn get(&self, key: &PullKey) -> Option<Arc<Tracker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).and_then(Weak::upgrade)
    }
}

/// Runs a pull, and says every 10 seconds how far it is.
pub(super) async fn logged<T>(reference: &str, tracker: &Tracker, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + EVERY, EVERY);
    let mut before = 0u64;
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = ticks.tick() => before = line(reference, tracker, before),
        }
    }
}

/// Gives the bytes that are here.
fn line(reference: &str, tracker: &Tracker, before: u64) -> u64 {
    let now = tracker.snapshot();
    let wanted = || now.blobs.iter().filter(|blob| blob.phase != Phase::Exists);
    let (done, total) = wanted().fold((0u64, 0u64), |(done, total), blob| (done + blob.done, total.saturating_add(blob.total)));
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
    let bytes_per_second = done.saturating_sub(before) / EVERY.as_secs();
    let unpacking = wanted().filter(|blob| blob.phase == Phase::Unpacking).count();
    let compiling = now.compiling.len();
    tracing::info!(reference, percent, done, total, bytes_per_second, unpacking, compiling, "still pulling");
    done
}
