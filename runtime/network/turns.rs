//! Who may run plugins when.
//!
//! The specification forbids two operations on one container at a time, and
//! `GC` beside any `ADD` or `DEL`. Operations on different sandboxes do not wait
//! for each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

type Locks = Mutex<HashMap<String, Arc<AsyncMutex<()>>>>;

/// Hands out turns, in the order in which they are asked for.
#[derive(Default)]
pub struct Turns {
    gate: Arc<RwLock<()>>,
    sandboxes: Arc<Locks>,
}

/// A turn on one sandbox; given back when dropped.
pub struct Turn {
    // In this order: the place looks whether anybody else wants the lock.
    _lock: OwnedMutexGuard<()>,
    _place: Place,
    _gate: OwnedRwLockReadGuard<()>,
}

impl Turns {
    /// Waits until nobody else works on the sandbox.
    pub async fn sandbox(&self, id: &str) -> Turn {
        let gate = Arc::clone(&self.gate).read_owned().await;
        let lock = {
            let mut sandboxes = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(sandboxes.entry(id.to_owned()).or_default())
        };
        let place = Place { sandboxes: Arc::clone(&self.sandboxes), id: id.to_owned(), lock: Arc::clone(&lock) };
        let lock = lock.lock_owned().await;
        Turn { _lock: lock, _place: place, _gate: gate }
    }

    /// Waits until nobody works on any sandbox, and lets nobody begin.
    pub async fn everything(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.gate).write_owned().await
    }
}

/// Somebody who waits for a sandbox or has it. The last one clears the table,
/// also if the wait was broken off.
struct Place {
    sandboxes: Arc<Locks>,
    id: String,
    lock: Arc<AsyncMutex<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sandboxes = self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner);
        // The table's and this one's. Others are taken under the table's lock.
        if Arc::strong_count(&self.lock) == 2 {
            sandboxes.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn one_sandbox_is_worked_on_by_one_at_a_time_and_others_beside_it() {
        let turns = Turns::default();
        let first = turns.sandbox("a").await;
        let other = timeout(SOON, turns.sandbox("b")).await.unwrap();
        assert!(timeout(SOON, turns.sandbox("a")).await.is_err());
        drop(first);
        let again = timeout(SOON, turns.sandbox("a")).await.unwrap();
        drop((other, again));
        assert!(turns.sandboxes.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_wait_that_is_broken_off_leaves_no_entry() {
        let turns = Turns::default();
        let first = turns.sandbox("a").await;
        let mut waiting = Box::pin(turns.sandbox("a"));
        assert!(timeout(SOON, &mut waiting).await.is_err());
        drop(first);
        drop(waiting);
        assert!(turns.sandboxes.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_collection_runs_beside_nothing_else() {
        let turns = Turns::default();
        let first = turns.sandbox("a").await;
        assert!(timeout(SOON, turns.everything()).await.is_err());
        drop(first);
        let all = timeout(SOON, turns.everything()).await.unwrap();
        assert!(timeout(SOON, turns.sandbox("b")).await.is_err());
        drop(all);
        timeout(SOON, turns.sandbox("b")).await.unwrap();
    }
}
