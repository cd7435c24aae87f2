//! From a client to the command: a queue of bytes with one writer (the reader of the connection) and one reader.
//!
//! Its bound is counted in bytes, not pieces, and has three parts. The first 32 KiB of a stream are its own. Beyond
//! them it takes from a pool that all connections share, up to its limit. So a few slow readers get long queues, many
//! hostile ones together get no more than the pool, and nobody ever waits for another connection's bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// What a stream holds without asking the pool: a piece as Go's clients write them.
const OWN: usize = 32 * 1024;
/// What a piece costs besides its bytes, so that a flood of single bytes is counted as what it takes.
const PIECE: usize = 128;

/// Bytes that all queues share.
#[derive(Debug)]
pub(crate) struct Pool(AtomicUsize);

impl Pool {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }

    fn take(&self, bytes: usize) -> bool {
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(bytes)).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }
}

/// How a client's stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client closed its half.
    Closed,
    /// The client reset the stream, or has gone.
    Gone,
}

/// Bytes from a client.
#[derive(Debug)]
pub struct Input(Arc<Queue>);

/// The writing end of an [`Input`].
#[derive(Debug)]
pub(crate) struct Filler(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    limit: usize,
    pool: Arc<Pool>,
    state: Mutex<State>,
    /// There is something to read, or the end.
    filled: Notify,
    /// There is room, or nobody reads any more.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Bytes>,
    held: usize,
    pooled: usize,
    end: Option<End>,
    unread: bool,
}

/// A queue for one stream that holds `limit` bytes, and its two ends.
pub(crate) fn queue(limit: usize, pool: Arc<Pool>) -> (Filler, Input) {
    let (filled, emptied) = (Notify::new(), Notify::new());
    let queue = Arc::new(Queue { limit, pool, state: Mutex::default(), filled, emptied });
    (Filler(queue.clone()), Input(queue))
}

impl Input {
    /// The next bytes, at most about 32 KiB and never none; `None` when the client has closed the stream or has gone,
    /// again and again. May be dropped and called anew without loss.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let filled = self.0.filled.notified();
            {
                let mut state = self.0.lock();
                if let Some(piece) = state.pieces.pop_front() {
                    self.0.release(&mut state, PIECE + piece.len());
                    drop(state);
                    self.0.emptied.notify_one();
                    return Some(piece);
                }
                if state.end.is_some() {
                    return None;
                }
            }
            filled.await;
        }
    }

    /// After [`next`](Self::next) gave `None`: whether the client closed this stream in order (the end of its input, as
    /// `stdin_once` means it), and not merely went away.
    pub fn closed_in_order(&self) -> bool {
        self.0.lock().end == Some(End::Closed)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.unread = true;
        let held = state.held;
        state.pieces.clear();
        self.0.release(&mut state, held);
        drop(state);
        self.0.emptied.notify_one();
    }
}

impl Filler {
    /// Adds a copy of `bytes`, and waits until there is room for it. What nobody reads, and what comes after the end, is
    /// thrown away.
    pub(crate) async fn push(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        loop {
            let emptied = self.0.emptied.notified();
            {
                let mut state = self.0.lock();
                if state.unread || state.end.is_some() {
                    return;
                }
                if self.0.reserve(&mut state, PIECE + bytes.len()) {
                    state.pieces.push_back(Bytes::copy_from_slice(bytes));
                    drop(state);
                    self.0.filled.notify_one();
                    return;
                }
            }
            emptied.await;
        }
    }

    /// Says how the stream ended; what is queued can still be read. Only the first end counts.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.0.lock();
        state.end.get_or_insert(end);
        drop(state);
        self.0.filled.notify_one();
    }

    /// Whether the client has ended it.
    pub(crate) fn ended(&self) -> bool {
        self.0.lock().end.is_some()
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        self.end(End::Gone);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(&self, state: &mut State, cost: usize) -> bool {
        let held = state.held + cost;
        if held <= OWN.min(self.limit) + state.pooled || state.pieces.is_empty() {
            state.held = held;
            return true;
        }
        if held <= self.limit && self.pool.take(cost) {
            state.held = held;
            state.pooled += cost;
            return true;
        }
        false
    }

    fn release(&self, state: &mut State, cost: usize) {
        state.held = state.held.saturating_sub(cost);
        let back = state.pooled.min(cost);
        state.pooled -= back;
        self.pool.give(back);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const KIB: usize = 1024;

    /// Pushes pieces until one has to wait; how many did not.
    fn fill(filler: &Filler) -> usize {
        std::iter::repeat_with(|| filler.push(&[0; KIB]).now_or_never()).take_while(Option::is_some).count()
    }

    #[tokio::test]
    async fn a_stream_holds_its_limit_and_takes_the_next_piece_when_one_is_read() {
        let pool = Pool::new(1024 * KIB);
        let (filler, mut input) = queue(256 * KIB, pool.clone());
        let held = fill(&filler);
        assert!((200..256).contains(&held), "{held}");
        assert_eq!(fill(&filler), 0);
        assert_eq!(input.next().await.map(|piece| piece.len()), Some(KIB));
        assert_eq!(fill(&filler), 1);
        filler.end(End::Closed);
        let mut left = 0;
        while input.next().await.is_some() {
            left += 1;
        }
        assert_eq!((left, input.closed_in_order()), (held, true));
        assert_eq!(pool.0.load(Ordering::Relaxed), 1024 * KIB);
    }

    #[tokio::test]
    async fn where_the_pool_is_used_up_each_stream_still_has_its_own_part() {
        let pool = Pool::new(300 * KIB);
        let streams: Vec<_> = (0..8).map(|_| queue(256 * KIB, pool.clone())).collect();
        let held: Vec<_> = streams.iter().map(|(filler, _)| fill(filler)).collect();
        assert!(held.iter().all(|held| *held >= 25), "{held:?}");
        assert!(held.iter().sum::<usize>() < 8 * 32 + 300, "{held:?}");
        drop(streams);
        assert_eq!(pool.0.load(Ordering::Relaxed), 300 * KIB);
    }

    #[tokio::test]
    async fn single_bytes_are_counted_as_what_they_take_and_nobody_fills_what_nobody_reads() {
        let pool = Pool::new(1024 * KIB);
        let (filler, input) = queue(256 * KIB, pool.clone());
        let held = std::iter::repeat_with(|| filler.push(b"x").now_or_never()).take_while(Option::is_some).count();
        assert!(held < 2100, "{held}");
        drop(input);
        assert_eq!(std::iter::repeat_with(|| filler.push(&[0; KIB]).now_or_never()).take(1000).flatten().count(), 1000);
        assert_eq!(pool.0.load(Ordering::Relaxed), 1024 * KIB);
        let (filler, mut input) = queue(256 * KIB, pool);
        filler.push(b"last words").await;
        drop(filler);
        assert_eq!(input.next().await.as_deref(), Some(&b"last words"[..]));
        assert_eq!((input.next().await, input.closed_in_order()), (None, false));
    }
}
