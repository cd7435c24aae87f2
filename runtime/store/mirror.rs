//! The mirror of the records: follows the live store in synced commits, at most one a second.
//!
//! Changes are noted by key, so however often a record changes within a second it is written once. A commit that fails (a full
//! disk) is tried again with all that was noted since; the daemon goes on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::Database;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error_chain::chain;
use super::records::{StoreError, Table, write};
use crate::metrics::{Lag, Outcome, metrics};

/// At least this long between two commits: what a power cut may cost, and what flash has to bear.
const INTERVAL: Duration = Duration::from_secs(1);

/// Table and id of a record.
pub(super) type Key = (Table, String);

/// The synced store and what it has not been told yet.
#[derive(Debug)]
pub(super) struct Mirror {
    database: Database,
    pending: Mutex<BTreeMap<Key, Option<Vec<u8>>>>,
    changed: Notify,
}

impl Mirror {
    pub(super) fn new(database: Database) -> Self {
        Self { database, pending: Mutex::default(), changed: Notify::new() }
    }

    /// Notes a change; `None` deletes.
    pub(super) fn note(&self, key: Key, value: Option<Vec<u8>>) {
        {
            let mut pending = self.pending();
            pending.insert(key, value);
            waiting(&pending);
        }
        self.changed.notify_one();
    }

    /// Writes at once, at start; what fails is noted for the next commit.
    pub(super) fn write_now(&self, changes: &BTreeMap<Key, Option<Vec<u8>>>, boot_id: Option<&str>) {
        if let Err(error) = self.commit(changes, boot_id) {
            tracing::warn!(error = chain(&error), "the mirror of the records cannot be written");
            self.put_back(changes.clone());
        }
    }

    /// Copies changes until `stop`, then once more.
    pub(super) async fn follow(self: &Arc<Self>, stop: CancellationToken) {
        let mut failing = false;
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.changed.notified() => {}
                () = stop.cancelled() => {}
            }
            failing = self.flush(failing).await;
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
        self.flush(failing).await;
    }

    /// Returns whether the mirror is failing; a row of failures is logged once.
    async fn flush(self: &Arc<Self>, failing: bool) -> bool {
        let (changes, taken_at) = (std::mem::take(&mut *self.pending()), Lag::now());
        if changes.is_empty() {
            return failing;
        }
        let mirror = Arc::clone(self);
        let written =
            tokio::task::spawn_blocking(move || mirror.commit(&changes, None).inspect_err(|_| mirror.put_back(changes.clone())))
                .await
                .unwrap_or(Err(StoreError::Interrupted));
        let result = if written.is_ok() { "ok" } else { "error" };
        metrics().mirror_commits.get_or_create(&Outcome { result }).inc();
        {
            let pending = self.pending();
            if written.is_ok() {
                // What waits now was noted after the others were taken.
                metrics().mirror_lag.restart((!pending.is_empty()).then_some(taken_at));
            }
            waiting(&pending);
        }
        match written {
            Ok(()) => {
                if failing {
                    tracing::info!("the mirror of the records is written again");
                }
                false
            }
            Err(error) => {
                if !failing {
                    tracing::error!(error = chain(&error), "the mirror of the records cannot be written");
                }
                // Wakes the loop again although nothing has changed since.
                self.changed.notify_one();
                true
            }
        }
    }

    fn commit(&self, changes: &BTreeMap<Key, Option<Vec<u8>>>, boot_id: Option<&str>) -> Result<(), StoreError> {
        write(&self.database, changes.iter().map(|(key, value)| (key, value.as_deref())), boot_id)
    }

    /// What has been noted meanwhile is newer and stays.
    fn put_back(&self, changes: BTreeMap<Key, Option<Vec<u8>>>) {
        let mut pending = self.pending();
        for (key, value) in changes {
            pending.entry(key).or_insert(value);
        }
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<Key, Option<Vec<u8>>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn waiting(pending: &BTreeMap<Key, Option<Vec<u8>>>) {
    metrics().mirror_pending.set(i64::try_from(pending.len()).unwrap_or(i64::MAX));
    if !pending.is_empty() {
        metrics().mirror_lag.begin();
    }
}
