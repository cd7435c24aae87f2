//! Blobs that are not whole yet: `partial/<blob hex>`, kept over broken connections, failed pulls and kills, so that the
//! next try fetches only the rest.
//!
//! Nothing is believed of such a file: the next try hashes what is there. It is not synced either; what a power cut
//! leaves of it has another digest, and is fetched again. Each file has one owner at a time, also while the threads of
//! a given-up pull are still ending. What nobody takes up again is bounded: by age, and all of it by size.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::digest::Digest;
use crate::disk;
use crate::error::DiskError;

/// The directory `partial/`.
pub(crate) struct Partials {
    directory: PathBuf,
    keep: Duration,
    bytes: u64,
    locks: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
}

/// The right to write one blob's file. When the last holder lets go, a file that is empty or of no use is removed.
pub(crate) struct Partial {
    path: PathBuf,
    useless: AtomicBool,
    _owner: OwnedMutexGuard<()>,
}

impl Partials {
    /// `keep`: how long a file stays after its last byte came. `bytes`: of all files together.
    pub(crate) fn open(directory: PathBuf, keep: Duration, bytes: u64) -> Result<Partials, DiskError> {
        disk::make_dir(&directory)?;
        let partials = Partials { directory, keep, bytes, locks: Mutex::default() };
        partials.prune();
        Ok(partials)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Waits until nobody else works on this blob.
    pub(crate) async fn own(&self, blob: &Digest) -> Arc<Partial> {
        let owner = self.lock(blob.hex()).lock_owned().await;
        Arc::new(self.partial(blob.hex(), owner))
    }

    fn lock(&self, name: &str) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(AsyncMutex::new(()));
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }

    fn partial(&self, name: &str, owner: OwnedMutexGuard<()>) -> Partial {
        Partial { path: self.directory.join(name), useless: AtomicBool::new(false), _owner: owner }
    }

    /// Removes what is too old, and then the oldest of what is too much. Blocks. Failures are logged: a partial that
    /// stays does no harm.
    pub(crate) fn prune(&self) {
        self.remove_where(|age, newer| age > self.keep || newer > self.bytes);
    }

    /// Removes all that nobody works on: the disk is full.
    pub(crate) fn clear(&self) {
        self.remove_where(|_, _| true);
    }

    /// Asks about each file, newest first, by its age and the bytes of it and of all newer ones.
    fn remove_where(&self, unwanted: impl Fn(Duration, u64) -> bool) {
        let now = SystemTime::now();
        let mut files: Vec<(Duration, u64, String)> = Vec::new();
        for name in disk::names(&self.directory).unwrap_or_default() {
            if let Ok(metadata) = fs::symlink_metadata(self.directory.join(&name)) {
                // A time in the future is that of a clock that was set back: new.
                let age = metadata.modified().ok().and_then(|time| now.duration_since(time).ok()).unwrap_or_default();
                files.push((age, metadata.blocks() * 512, name));
            }
        }
        files.sort();
        let mut newer = 0u64;
        for (age, bytes, name) in files {
            newer = newer.saturating_add(bytes);
            if unwanted(age, newer)
                && let Ok(owner) = self.lock(&name).try_lock_owned()
            {
                tracing::debug!(blob = name, bytes, "an unfinished blob is removed");
                self.partial(&name, owner).discard();
            }
        }
    }
}

impl Partial {
    /// The file, for reading and writing, made if it is not there, and its length.
    pub(crate) fn open(&self) -> Result<(File, u64), DiskError> {
        let failed = |error| DiskError::new("open", &self.path, error);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.path);
        let file = opened.map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok((file, length))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes are wrong, or too many for the disk: it goes when its last holder does.
    pub(crate) fn discard(&self) {
        self.useless.store(true, Ordering::Relaxed);
    }

    /// Removes it now: its content is wrong or has been used.
    pub(crate) fn remove(&self) {
        if let Err(error) = disk::remove(&self.path) {
            tracing::warn!(%error, "an unfinished blob stays for a while");
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let empty = || fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.len() == 0);
        if self.useless.load(Ordering::Relaxed) || empty() {
            self.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(partials: &Partials, name: &str, length: usize, age: u64) {
        let path = partials.path().join(name);
        fs::write(&path, vec![1; length]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }

    #[test]
    fn the_old_and_then_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let partials = Partials::open(directory.path().join("p"), Duration::from_secs(100), 20_000).unwrap();
        put(&partials, "old", 10, 101);
        put(&partials, "first", 8192, 50);
        put(&partials, "second", 8192, 40);
        put(&partials, "third", 8192, 30);
        partials.prune();
        assert_eq!(disk::names(partials.path()).unwrap(), ["second", "third"]);
    }

    #[tokio::test]
    async fn what_somebody_works_on_stays_and_an_empty_file_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let partials = Partials::open(directory.path().join("p"), Duration::ZERO, 0).unwrap();
        let digest = Digest::of(b"x");
        let owned = partials.own(&digest).await;
        put(&partials, digest.hex(), 10, 10);
        partials.prune();
        partials.clear();
        assert_eq!(owned.open().unwrap().1, 10);
        let waits = tokio::time::timeout(Duration::from_millis(20), partials.own(&digest)).await;
        assert!(waits.is_err());
        drop(owned);
        partials.prune();
        assert!(disk::names(partials.path()).unwrap().is_empty());
        let owned = partials.own(&digest).await;
        owned.open().unwrap();
        drop(owned);
        assert!(disk::names(partials.path()).unwrap().is_empty());
    }
}
