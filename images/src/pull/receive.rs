//! A blob's way from the registry into its partial file: appended and hashed while it arrives, taken up by a range
//! request where a connection breaks off.
//!
//! The network is read on the executor, the file is written on a thread of its own; between them lie a few pieces.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::LayerError;
use super::feed::Feed;
use crate::counts::Counts;
use crate::digest::Digest;
use crate::error::DiskError;
use crate::manifest::Descriptor;
use crate::partial::Partial;
use crate::progress::Counter;
use crate::registry::{Body, RegistryError, Session};

/// Pieces of a blob between the network and the disk. A piece has at most some 100 kB, so this is below 1 MB.
const QUEUE: usize = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// What a connection has to bring to count as a good one, or a sixteenth of a smaller blob: a registry that gives a byte
/// at a time is given up too.
const PROGRESS: u64 = 256 * 1024;

/// A blob that is to arrive.
pub(super) struct Transfer {
    pub(super) session: Arc<Session>,
    pub(super) blob: Descriptor,
    pub(super) partial: Arc<Partial>,
    pub(super) feed: Arc<Feed>,
    pub(super) counter: Arc<Counter>,
    pub(super) counts: Arc<Counts>,
    /// Tries in a row that bring nothing before it is given up.
    pub(super) retries: u32,
}

/// Why a blob did not arrive.
pub(super) struct Failed {
    pub(super) error: LayerError,
    /// It was put together of parts, of which one may be wrong: a fetch from the beginning may go well.
    pub(super) patched: bool,
}

/// What the writing thread found.
enum Written {
    Whole,
    Short(u64),
    Other(Digest),
}

impl Transfer {
    /// Returns when the whole blob is in the file, which begins with the `have` bytes that an earlier try left, and has
    /// the right digest. The feed is told of every piece, and of the end.
    pub(super) async fn run(&self, file: File, have: u64) -> Result<(), Failed> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (feed, partial, blob) = (self.feed.clone(), self.partial.clone(), self.blob.clone());
        let writer = tokio::task::spawn_blocking(move || {
            let written = write(file, have, &blob, receiver, &feed, &partial);
            if !matches!(written, Ok(Written::Whole)) {
                feed.cancel();
            }
            written
        });
        let mut patched = have > 0;
        let fetched = self.fetch(have, &sender, &mut patched).await;
        drop(sender);
        let failed = |error| Failed { error, patched };
        let written = writer.await;
        let written = written.unwrap_or_else(|error| Err(self.disk("write", std::io::Error::other(error))));
        match written.map_err(|error| failed(LayerError::Disk(error)))? {
            Written::Whole => Ok(()),
            Written::Other(actual) => {
                let (expected, actual) = (self.blob.digest.to_string(), actual.to_string());
                Err(failed(LayerError::Registry(RegistryError::Mismatch { what: "a layer".to_owned(), expected, actual })))
            }
            Written::Short(length) => {
                fetched.map_err(|error| failed(LayerError::Registry(error)))?;
                let text = format!("blob {}: it ended after {length} of {} bytes", self.blob.digest, self.blob.size);
                Err(failed(LayerError::Registry(RegistryError::Unavailable(text))))
            }
        }
    }

    fn disk(&self, action: &'static str, error: std::io::Error) -> DiskError {
        DiskError::new(action, self.partial.path(), error)
    }

    /// Sends what lacks after `have` bytes. Also returns when the writer has ended, which says why itself.
    async fn fetch(&self, mut have: u64, sender: &mpsc::Sender<Bytes>, patched: &mut bool) -> Result<(), RegistryError> {
        let size = self.blob.size;
        let (mut tries, mut mark) = (0, have);
        self.counter.done(have);
        while have < size {
            *patched |= have > 0;
            let trouble = match self.connect(&mut have, sender).await {
                Ok(()) => return Ok(()),
                Err(RegistryError::Cut(text)) => text,
                Err(error) => return Err(error),
            };
            if have - mark >= PROGRESS.min(size / 16).max(1) {
                (tries, mark) = (0, have);
            }
            if tries >= self.retries {
                let text = format!("{trouble}; {have} of {size} bytes are here, the next pull goes on from there");
                return Err(RegistryError::Unavailable(text));
            }
            let pause = FIRST_PAUSE.saturating_mul(1 << tries.min(8)).min(LONGEST_PAUSE);
            tries += 1;
            tracing::info!(blob = %self.blob.digest, have, size, trouble, tries, "a blob broke off and is taken up again");
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// One connection. An end before the blob's is an error, so `Ok` is the blob's end, or that of the writer.
    async fn connect(&self, have: &mut u64, sender: &mpsc::Sender<Bytes>) -> Result<(), RegistryError> {
        let size = self.blob.size;
        let mut body: Body = self.session.blob(&self.blob.digest, size, *have).await?;
        // A registry that knows no ranges begins at 0: what is here already is passed over.
        let mut skip = have.checked_sub(body.start()).ok_or_else(|| {
            RegistryError::Range(format!("blob {}: it sent a part after {} of {have} bytes", self.blob.digest, body.start()))
        })?;
        while let Some(mut chunk) = body.next().await? {
            let length = chunk.len() as u64;
            Counts::add(&self.counts.received_bytes, length);
            let passed = skip.min(length);
            skip -= passed;
            let chunk = chunk.split_off(usize::try_from(passed).unwrap_or(chunk.len()));
            if chunk.is_empty() {
                continue;
            }
            *have += chunk.len() as u64;
            if sender.send(chunk).await.is_err() {
                return Ok(());
            }
            self.counter.done(*have);
        }
        if *have < size {
            return Err(RegistryError::Cut(format!("blob {}: it ended after {have} of {size} bytes", self.blob.digest)));
        }
        Ok(())
    }
}

/// Hashes what is there, then hashes and appends what comes.
fn write(
    mut file: File,
    have: u64,
    blob: &Descriptor,
    mut receiver: mpsc::Receiver<Bytes>,
    feed: &Feed,
    partial: &Partial,
) -> Result<Written, DiskError> {
    let mut hasher = Sha256::new();
    let mut length = have;
    feed.arrived(length);
    let there = file.seek(SeekFrom::Start(0)).and_then(|_| std::io::copy(&mut (&file).take(have), &mut hasher));
    there.map_err(|error| DiskError::new("read", partial.path(), error))?;
    while let Some(chunk) = receiver.blocking_recv() {
        file.write_all(&chunk).map_err(|error| DiskError::new("write", partial.path(), error))?;
        length += chunk.len() as u64;
        // First told, then hashed: the reader works meanwhile.
        feed.arrived(length);
        hasher.update(&chunk);
    }
    if length < blob.size {
        return Ok(Written::Short(length));
    }
    let actual = Digest::finish(hasher);
    if actual != blob.digest {
        return Ok(Written::Other(actual));
    }
    feed.whole();
    Ok(Written::Whole)
}
