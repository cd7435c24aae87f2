//! Where a blob's writer and its reader meet: the reader follows in the same file, behind the writer, and waits where it
//! has caught up. What it reads is in the page cache; nothing is held in memory.
//!
//! The end of the file is only told when the whole blob has been found to be the right one, so what is unpacked from it
//! is finished only then.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::DiskError;
use crate::partial::Partial;

/// How often a waiting reader looks by itself whether it is still wanted; it is also told.
const LOOK: Duration = Duration::from_secs(5);

/// How far a blob has come.
#[derive(Default)]
pub(super) struct Feed {
    state: Mutex<State>,
    changed: Condvar,
    cancelled: AtomicBool,
}

#[derive(Default)]
struct State {
    arrived: u64,
    whole: bool,
    /// The reader's own trouble with the disk, which the decoders above it would tell as the archive's.
    failed: Option<DiskError>,
}

impl Feed {
    /// So many bytes of the blob lie in the file.
    pub(super) fn arrived(&self, length: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).arrived = length;
        self.changed.notify_all();
    }

    /// The blob is all there, and is the right one.
    pub(super) fn whole(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).whole = true;
        self.changed.notify_all();
    }

    /// No more will come, or nobody wants it.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        // Under the lock, so that a reader that is about to wait sees it.
        drop(self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    pub(super) fn cancelled(&self) -> &AtomicBool {
        &self.cancelled
    }

    pub(super) fn failed(&self) -> Option<DiskError> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// Waits for the verdict: whether the blob is whole. For who is done with its content; a decoder may be so before
    /// the last byte.
    pub(super) fn verdict(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.whole && !self.cancelled.load(Ordering::Relaxed) {
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.whole
    }

    /// Waits for bytes after `at`: how far they go, or nothing at the end.
    fn wait(&self, at: u64) -> io::Result<Option<u64>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(io::Error::other("given up"));
            }
            if state.arrived > at {
                return Ok(Some(state.arrived));
            }
            if state.whole {
                return Ok(None);
            }
            state = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Ends a feed however its owner ends.
pub(super) struct CancelOnDrop(pub(super) Arc<Feed>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Reads a blob while it arrives.
pub(super) struct FeedReader {
    feed: Arc<Feed>,
    file: File,
    partial: Arc<Partial>,
    at: u64,
    ended: bool,
}

impl FeedReader {
    pub(super) fn new(feed: Arc<Feed>, file: File, partial: Arc<Partial>) -> FeedReader {
        FeedReader { feed, file, partial, at: 0, ended: false }
    }
}

impl Read for FeedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(arrived) = self.feed.wait(self.at)? else {
            self.ended = true;
            return Ok(0);
        };
        let wanted = usize::try_from(arrived - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), self.at);
        let count = match read {
            Ok(0) if wanted > 0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            other => other,
        };
        let count = count.inspect_err(|error| {
            let error = DiskError::new("read", self.partial.path(), io::Error::new(error.kind(), error.to_string()));
            self.feed.state.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(error);
        })?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Drop for FeedReader {
    /// A blob that was read to its end is not needed any more. It goes before the layer is synced, so that the kernel
    /// does not write to the disk what is to be deleted.
    fn drop(&mut self) {
        if self.ended {
            self.partial.remove();
        }
    }
}
