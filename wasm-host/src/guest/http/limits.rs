//! Turns: how many requests are worked on at once, and how many wait for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hands out turns in the order of asking.
pub(super) struct Turns {
    running: Arc<Semaphore>,
    max_running: usize,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// A request is worked on until this is dropped.
pub(super) type Turn = OwnedSemaphorePermit;

/// There are as many requests waiting as may.
#[derive(Debug)]
pub(super) struct Full;

impl Turns {
    pub(super) fn new(max_running: u32, max_waiting: u32) -> Self {
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let max_running = number(max_running.max(1)).min(Semaphore::MAX_PERMITS);
        Turns {
            running: Arc::new(Semaphore::new(max_running)),
            max_running,
            waiting: AtomicUsize::new(0),
            max_waiting: number(max_waiting),
        }
    }

    /// Waits until nobody has a turn. Nobody gets one afterwards.
    pub(super) async fn all_done(&self) {
        let all = u32::try_from(self.max_running).unwrap_or(u32::MAX);
        if let Ok(all) = self.running.acquire_many(all).await {
            all.forget();
        }
    }

    /// Waits for a turn, if there is room to wait.
    pub(super) async fn take(&self) -> Result<Turn, Full> {
        if let Ok(turn) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(turn);
        }
        let _waiting = Waiting::new(self)?;
        // Nobody closes the semaphore.
        Arc::clone(&self.running).acquire_owned().await.map_err(|_| Full)
    }
}

/// Counted among those that wait; also where the client goes away meanwhile.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(turns: &'a Turns) -> Result<Self, Full> {
        let waiting = Waiting(&turns.waiting);
        if turns.waiting.fetch_add(1, Ordering::Relaxed) >= turns.max_waiting { Err(Full) } else { Ok(waiting) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn those_who_find_no_room_to_wait_are_refused_and_the_others_have_their_turn() {
        let turns = Turns::new(1, 1);
        let first = turns.take().await.unwrap();
        let mut second = pin!(turns.take());
        assert!(poll!(&mut second).is_pending());
        assert!(turns.take().await.is_err());
        drop(first);
        drop(second.await.unwrap());
        // Whoever waits and leaves makes room.
        let _first = turns.take().await.unwrap();
        {
            let mut gone = pin!(turns.take());
            assert!(poll!(&mut gone).is_pending());
        }
        assert!(poll!(pin!(turns.take())).is_pending());
    }
}
