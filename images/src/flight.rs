//! Work that several callers want at once is done once.
//!
//! The work runs as long as somebody waits for it: it is polled by its waiters, so when the last of them goes away
//! (a cancelled RPC) it is dropped, and stops at its next await.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};

type Work<V> = BoxFuture<'static, V>;

/// Work under way, by key.
pub(crate) struct Flights<K, V: Clone> {
    running: Mutex<HashMap<K, WeakShared<Work<V>>>>,
}

impl<K: Eq + Hash, V: Clone> Flights<K, V> {
    pub(crate) fn new() -> Flights<K, V> {
        Flights { running: Mutex::new(HashMap::new()) }
    }

    /// Joins the work of this key, or begins it. The flag says whether it was joined.
    pub(crate) async fn run(&self, key: K, begin: impl FnOnce() -> Work<V>) -> (V, bool) {
        let (work, joined) = self.join(key, begin);
        (work.await, joined)
    }

    /// As [`Flights::run`], without waiting.
    pub(crate) fn join(&self, key: K, begin: impl FnOnce() -> Work<V>) -> (Shared<Work<V>>, bool) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Work that has its result already is not joined: what the registry says may have changed since.
        if let Some(work) = running.get(&key).and_then(WeakShared::upgrade).filter(|work| work.peek().is_none()) {
            return (work, true);
        }
        running.retain(|_, work| work.upgrade().is_some_and(|work| work.peek().is_none()));
        let work = begin().shared();
        if let Some(weak) = work.downgrade() {
            running.insert(key, weak);
        }
        (work, false)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn slow(count: &Arc<AtomicUsize>, ended: &Arc<AtomicUsize>) -> Work<usize> {
        let (count, ended) = (count.clone(), ended.clone());
        async move {
            let mine = count.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            ended.fetch_add(1, Ordering::SeqCst);
            mine
        }
        .boxed()
    }

    #[tokio::test]
    async fn callers_at_once_share_the_work_and_later_ones_do_it_again() {
        let (flights, begun, ended) = (Flights::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (first, second) = tokio::join!(flights.run("k", || slow(&begun, &ended)), flights.run("k", || slow(&begun, &ended)));
        assert_eq!((first, second), ((0, false), (0, true)));
        assert_eq!(flights.run("k", || slow(&begun, &ended)).await, (1, false));
    }

    #[tokio::test]
    async fn work_goes_on_while_one_waits_and_stops_with_the_last() {
        let (flights, begun, ended) = (Flights::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let gives_up = tokio::time::timeout(Duration::from_millis(10), flights.run(1, || slow(&begun, &ended)));
        let (gone, stays) = tokio::join!(gives_up, flights.run(1, || slow(&begun, &ended)));
        assert!(gone.is_err());
        assert_eq!(stays, (0, true));
        assert_eq!(ended.load(Ordering::SeqCst), 1);

        let all = tokio::time::timeout(Duration::from_millis(10), flights.run(2, || slow(&begun, &ended)));
        assert!(all.await.is_err());
        tokio::time::sleep(Duration::from_millis(80)).await;
        assert_eq!((begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst)), (2, 1));
    }
}
