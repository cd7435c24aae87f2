//! Room on the disk: looked at before blobs are fetched, told where it ran out, and given back after that.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{LayerSource, Pull};
use crate::digest::Digest;
use crate::error::{DiskError, PullError};
use crate::image::Image;

/// How long the threads of layers that were given up may take to let go of their files.
const LET_GO: Duration = Duration::from_secs(5);

impl Pull {
    /// Fails at once where not even the blobs have room. What they unpack to is not known yet, mostly more; so this
    /// spares a long download now and then, and promises nothing.
    pub(super) async fn check_room(&self, sources: &[LayerSource]) -> Result<(), PullError> {
        let (store, wanted) = (self.inner.store.clone(), missing(self, sources));
        let room = tokio::task::spawn_blocking(move || {
            let needed = wanted.iter().fold(0u64, |sum, (digest, size)| {
                let have = std::fs::metadata(store.partials.path().join(digest.hex())).map_or(0, |file| file.len());
                sum.saturating_add(size.saturating_sub(have))
            });
            if free(&store.root).is_none_or(|(free, _)| free >= needed) {
                return None;
            }
            // What was kept of other pulls is worth less than this one.
            store.clear_leftovers();
            free(&store.root).filter(|(free, _)| *free < needed).map(|_| needed)
        });
        match room.await {
            Ok(Some(needed)) => Err(self.full(needed)),
            _ => Ok(()),
        }
    }

    /// What a pull that has ended leaves behind, and how its failure is told.
    pub(super) async fn settle(&self, result: Result<Arc<Image>, PullError>) -> Result<Arc<Image>, PullError> {
        let error = match result {
            Ok(image) => return Ok(image),
            Err(error) => error,
        };
        match &error {
            PullError::RegistryUnavailable { .. } | PullError::Unauthorized { .. } | PullError::NotFound { .. } => {}
            PullError::Compile { reason: crate::error::CompileError::Failed(_), .. } => {}
            PullError::Io { io, .. } if io.is_full() => {
                self.pins.spoil();
                self.give_room().await;
                let blobs = self.tracker.snapshot().blobs;
                // Where none is known yet, the error says all that is.
                let needed = blobs.iter().map(|blob| blob.total).fold(0, u64::saturating_add);
                return Err(if blobs.is_empty() { error } else { self.full(needed) });
            }
            PullError::Io { .. } => {}
            _ => {
                self.pins.spoil();
                self.drop_partials().await;
            }
        }
        Err(error)
    }

    /// Takes away this pull's unfinished blobs and what earlier ones left.
    async fn give_room(&self) {
        self.drop_partials().await;
        let store = self.inner.store.clone();
        let _cleared = tokio::task::spawn_blocking(move || store.clear_leftovers()).await;
    }

    /// Takes away this pull's unfinished blobs, when the threads that wrote them have ended.
    async fn drop_partials(&self) {
        let blobs = self.tracker.snapshot().blobs;
        let let_go = blobs.iter().filter_map(|blob| Digest::parse(&blob.digest).ok()).map(|digest| async move {
            // Another pull may be at work on the same blob.
            if let Ok(partial) = tokio::time::timeout(LET_GO, self.inner.store.partials.own(&digest)).await {
                partial.discard();
                let _removed = tokio::task::spawn_blocking(move || drop(partial)).await;
            }
        });
        futures_util::future::join_all(let_go).await;
    }

    fn full(&self, needed: u64) -> PullError {
        let root = &self.inner.store.root;
        let inodes = free(root).is_some_and(|(_, inodes)| inodes == Some(0));
        let lacks = if inodes {
            "it has no inode left".to_owned()
        } else {
            let free = free(root).map_or(0, |(free, _)| free);
            format!("it has {free} bytes free, and the image's blobs alone are {needed}")
        };
        let text = format!("its file system is full: {lacks}; remove images or containers, or make it larger");
        let error = std::io::Error::new(std::io::ErrorKind::StorageFull, text);
        PullError::Io { reference: self.text(), io: DiskError::new("store the image in", root, error) }
    }
}

/// Blobs of layers that are not here.
fn missing(pull: &Pull, sources: &[LayerSource]) -> Vec<(Digest, u64)> {
    let absent = sources.iter().filter(|source| pull.inner.store.layer(&source.name()).is_none());
    let mut blobs: Vec<(Digest, u64)> = absent.map(|source| (source.blob().digest.clone(), source.blob().size)).collect();
    blobs.sort();
    blobs.dedup();
    blobs
}

/// Bytes, and inodes where the file system counts them, that are free.
fn free(path: &Path) -> Option<(u64, Option<u64>)> {
    let found = rustix::fs::statvfs(path).ok()?;
    let inodes = (found.f_files > 0).then_some(found.f_favail);
    Some((found.f_bavail.saturating_mul(found.f_frsize), inodes))
}
