//! From a blob in a registry to a finished layer. The blob is hashed and appended to its partial file while it arrives,
//! and unpacked behind by another thread; the layer gets its name when both digests are right, the blob's and the one
//! of its content. Never is a whole layer in memory.

use std::fs::File;
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::feed::{CancelOnDrop, Feed, FeedReader};
use super::receive::{Failed, Transfer};
use crate::api::Inner;
use crate::artifact;
use crate::digest::Digest;
use crate::error::DiskError;
use crate::layer::Layer;
use crate::manifest::Descriptor;
use crate::partial::Partial;
use crate::progress::{self, Counter, Phase};
use crate::registry::{RegistryError, Session};
use crate::store::Pins;
use crate::unpack::UnpackError;

/// Where a layer comes from.
#[derive(Debug, Clone)]
pub(crate) enum LayerSource {
    /// A tar archive.
    Archive { blob: Descriptor, diff_id: Digest },
    /// A wasm file by itself.
    Module { blob: Descriptor, file_name: String },
}

/// Why a layer is not there. The digest is the blob's.
#[derive(Debug, Clone)]
pub(crate) enum LayerError {
    Registry(RegistryError),
    Disk(DiskError),
    Unpack(Digest, UnpackError),
}

impl LayerSource {
    pub(crate) fn name(&self) -> String {
        match self {
            LayerSource::Archive { diff_id, .. } => diff_id.hex().to_owned(),
            LayerSource::Module { blob, file_name } => artifact::layer_name(file_name, &blob.digest),
        }
    }

    pub(crate) fn blob(&self) -> &Descriptor {
        match self {
            LayerSource::Archive { blob, .. } | LayerSource::Module { blob, .. } => blob,
        }
    }
}

impl LayerError {
    /// Whether the next try has use for the bytes that are here.
    fn leaves_a_good_part(&self) -> bool {
        match self {
            LayerError::Registry(RegistryError::Mismatch { .. } | RegistryError::TooLarge { .. } | RegistryError::Range(_)) => {
                false
            }
            LayerError::Registry(_) | LayerError::Unpack(_, UnpackError::Cancelled) => true,
            // Of a full disk the partial takes its share; of a failing one it may be what fails.
            LayerError::Disk(_) | LayerError::Unpack(..) => false,
        }
    }
}

/// A layer that is here and whole, or that another pull is bringing, or that is brought now.
pub(super) async fn layer(pull: &super::Pull, source: &LayerSource) -> Result<Arc<Layer>, LayerError> {
    let (inner, name) = (&pull.inner, source.name());
    let counter = progress::counter(&inner.counters, &name, source.blob());
    pull.tracker.add(counter.clone());
    // Another pull's failure may be its own, of its registry or its credentials; so it is not taken for ours.
    loop {
        let work = || {
            let job = Job {
                inner: inner.clone(),
                session: pull.session.clone(),
                source: source.clone(),
                pins: pull.pins.clone(),
                counter: counter.clone(),
            };
            job.bring().boxed()
        };
        match inner.layer_flights.run(name.clone(), work).await {
            (Err(_), true) => {}
            (result, _) => return result,
        }
    }
}

/// The work on one layer.
struct Job {
    inner: Arc<Inner>,
    session: Arc<Session>,
    source: LayerSource,
    /// Of the pull that began it. A layer that is finished after that has failed is kept or removed as the pull says.
    pins: Arc<Pins>,
    counter: Arc<Counter>,
}

impl Job {
    async fn bring(self) -> Result<Arc<Layer>, LayerError> {
        let (store, name) = (self.inner.store.clone(), self.source.name());
        self.counter.phase(Phase::Waiting);
        let checked = tokio::task::spawn_blocking(move || store.checked_layer(&name)).await;
        if let Some(layer) = checked.ok().flatten() {
            self.counter.phase(Phase::Exists);
            return Ok(layer);
        }
        // The blob first, then a turn: who waits for a blob takes none.
        let partial = self.inner.store.partials.own(&self.source.blob().digest).await;
        let Ok(_turn) = self.inner.downloads.acquire().await else {
            return Err(LayerError::Registry(RegistryError::Unavailable("the store is closing".to_owned())));
        };
        let mut result = self.attempt(&partial).await;
        if let Err(Failed { error, patched: true }) = &result
            && !error.leaves_a_good_part()
            && !matches!(error, LayerError::Disk(_) | LayerError::Unpack(_, UnpackError::Disk(_)))
        {
            let blob = &self.source.blob().digest;
            tracing::warn!(%blob, ?error, "a blob that was fetched in parts is wrong and is fetched again as a whole");
            let stale = partial.clone();
            let _removed = tokio::task::spawn_blocking(move || stale.remove()).await;
            result = self.attempt(&partial).await;
        }
        let result = result.map_err(|failed| failed.error);
        if result.as_ref().err().is_none_or(|error| !error.leaves_a_good_part()) {
            partial.discard();
        }
        // Deleting a large file takes a while.
        let _dropped = tokio::task::spawn_blocking(move || drop(partial)).await;
        result.inspect(|_| self.counter.phase(Phase::Done))
    }

    /// Fetches what lacks of the blob, and unpacks it from its beginning.
    async fn attempt(&self, partial: &Arc<Partial>) -> Result<Arc<Layer>, Failed> {
        let blob = self.source.blob();
        let whole = |error| Failed { error, patched: false };
        let begun = std::time::Instant::now();
        let (opened, size) = (partial.clone(), blob.size);
        let opened = blocking(partial, move || {
            let (mut file, mut have) = opened.open()?;
            // Not what an earlier try left of this blob.
            if have > size {
                opened.remove();
                (file, have) = opened.open()?;
            }
            let reading = File::open(opened.path()).map_err(|error| DiskError::new("open", opened.path(), error))?;
            Ok((file, reading, have))
        });
        let (file, reading, have) = opened.await.map_err(|error| whole(LayerError::Disk(error)))?;

        let feed = Arc::new(Feed::default());
        // The threads are not stopped by a dropped future.
        let _cancel = CancelOnDrop(feed.clone());
        self.counter.phase(Phase::Downloading);
        let transfer = Transfer {
            session: self.session.clone(),
            blob: blob.clone(),
            partial: partial.clone(),
            feed: feed.clone(),
            counter: self.counter.clone(),
            counts: self.inner.store.counts.clone(),
            retries: self.inner.config.download_retries,
        };
        let arriving = async {
            let arrived = transfer.run(file, have).await;
            if arrived.is_ok() {
                self.counter.phase(Phase::Unpacking);
                tracing::debug!(blob = %blob.digest, size, had = have, ms = begun.elapsed().as_millis() as u64, "blob is here");
            }
            arrived
        };
        match &self.source {
            LayerSource::Module { file_name, .. } => {
                drop(reading);
                arriving.await?;
                self.install_module(partial, file_name.clone()).await.map_err(whole)
            }
            LayerSource::Archive { diff_id, .. } => {
                let reader = FeedReader::new(feed.clone(), reading, partial.clone());
                let unpacking = self.install_archive(reader, diff_id.clone(), feed, partial);
                both(arriving, unpacking, have > 0).await
            }
        }
    }

    /// Unpacks what arrives, on a thread of its own.
    async fn install_archive(
        &self,
        reader: FeedReader,
        diff_id: Digest,
        feed: Arc<Feed>,
        partial: &Arc<Partial>,
    ) -> Result<Arc<Layer>, LayerError> {
        let (inner, name, pins, owner) = (self.inner.clone(), self.source.name(), self.pins.clone(), partial.clone());
        let blob = self.source.blob().digest.clone();
        let installed = blocking(partial, move || {
            let limits = &inner.config.limits;
            let installed =
                inner.store.layers.install_archive(&name, reader, &diff_id, limits, feed.cancelled(), || feed.verdict());
            let installed = installed.map_err(|error| match (error, feed.failed()) {
                (UnpackError::Invalid(_), Some(error)) => LayerError::Disk(error),
                (error, _) => LayerError::Unpack(blob, error),
            });
            let layer = installed.map(|layer| inner.store.add_layer(&name, layer));
            drop((pins, owner));
            Ok(layer)
        });
        installed.await.unwrap_or_else(|error| Err(LayerError::Disk(error)))
    }

    async fn install_module(&self, partial: &Arc<Partial>, file_name: String) -> Result<Arc<Layer>, LayerError> {
        let (inner, name, pins, owner) = (self.inner.clone(), self.source.name(), self.pins.clone(), partial.clone());
        let digest = self.source.blob().digest.clone();
        let installed = blocking(partial, move || {
            let layer = inner.store.layers.install_module(&name, &file_name, owner.path(), &digest)?;
            let layer = inner.store.add_layer(&name, layer);
            drop((pins, owner));
            Ok(layer)
        });
        installed.await.map_err(LayerError::Disk)
    }
}

/// Waits for the transfer and the unpacking behind it. Content that is broken may be so because the bytes are not those
/// that were named, so their digest is waited for; content that is too much is left at once.
async fn both(
    arriving: impl Future<Output = Result<(), Failed>>,
    unpacking: impl Future<Output = Result<Arc<Layer>, LayerError>>,
    resumed: bool,
) -> Result<Arc<Layer>, Failed> {
    tokio::pin!(arriving, unpacking);
    tokio::select! {
        arrived = &mut arriving => {
            // Where it did not arrive, the feed is cancelled, and the thread ends.
            let unpacked = unpacking.await;
            match (arrived, unpacked) {
                (Ok(()), unpacked) => unpacked.map_err(|error| Failed { error, patched: false }),
                (Err(_), Err(error @ (LayerError::Disk(_) | LayerError::Unpack(_, UnpackError::Disk(_))))) => {
                    Err(Failed { error, patched: false })
                }
                (Err(failed), _) => Err(failed),
            }
        }
        unpacked = &mut unpacking => {
            let error = match unpacked {
                Ok(layer) => {
                    arriving.await?;
                    return Ok(layer);
                }
                Err(error) => error,
            };
            match &error {
                LayerError::Unpack(_, UnpackError::Invalid(_) | UnpackError::DiffId { .. } | UnpackError::Cancelled) => {
                    arriving.await?;
                    Err(Failed { error, patched: false })
                }
                LayerError::Unpack(_, UnpackError::TooLarge { .. }) => Err(Failed { error, patched: resumed }),
                _ => Err(Failed { error, patched: false }),
            }
        }
    }
}

async fn blocking<T: Send + 'static>(
    partial: &Arc<Partial>,
    work: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
) -> Result<T, DiskError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(DiskError::new("unpack", partial.path(), std::io::Error::other(error))))
}
