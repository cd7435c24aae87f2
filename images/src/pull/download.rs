//! From a blob in a registry to a finished layer: hashed while it arrives, written to a temporary file, never held in
//! memory; unpacked when its digest is right.

use std::io::{Seek as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::api::Inner;
use crate::artifact;
use crate::digest::Digest;
use crate::error::DiskError;
use crate::ingest::{Ingest, TempFile};
use crate::layer::Layer;
use crate::manifest::Descriptor;
use crate::registry::{Body, RegistryError, Session};
use crate::store::{Item, Pins};
use crate::unpack::UnpackError;

/// Pieces of a blob between the network and the disk. A piece has at most some 100 kB, so this is below 1 MB.
const QUEUE: usize = 4;

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

/// A layer that is here, or that another pull is bringing, or that is brought now.
pub(crate) async fn layer(inner: &Arc<Inner>, session: &Arc<Session>, source: &LayerSource) -> Result<Arc<Layer>, LayerError> {
    // Another pull's failure may be its own, of its registry or its credentials; so it is not taken for ours.
    loop {
        let work = || bring(inner.clone(), session.clone(), source.clone()).boxed();
        match inner.layer_flights.run(source.name(), work).await {
            (Err(_), true) => {}
            (result, _) => return result,
        }
    }
}

async fn bring(inner: Arc<Inner>, session: Arc<Session>, source: LayerSource) -> Result<Arc<Layer>, LayerError> {
    let name = source.name();
    if let Some(layer) = inner.store.layer(&name) {
        return Ok(layer);
    }
    let Ok(_turn) = inner.downloads.acquire().await else {
        return Err(LayerError::Registry(RegistryError::Unavailable("the store is closing".to_owned())));
    };
    let blob = source.blob().clone();
    let begun = std::time::Instant::now();
    let body = session.blob(&blob.digest, blob.size).await.map_err(LayerError::Registry)?;
    let temp = receive(&inner.store.ingest, body, &blob).await?;
    tracing::debug!(blob = %blob.digest, size = blob.size, ms = begun.elapsed().as_millis() as u64, "blob is here");

    // Unpacking runs on its own thread, which a dropped future does not stop.
    let cancel = CancelOnDrop(Arc::new(AtomicBool::new(false)));
    let cancelled = cancel.0.clone();
    let worker = inner.clone();
    // A layer that is finished after its pull has failed is taken away with this.
    let pins = Pins::new(&inner.store);
    pins.add(Item::Layer(name.clone()));
    let installed = tokio::task::spawn_blocking(move || {
        let layers = &worker.store.layers;
        let layer = match &source {
            LayerSource::Archive { blob, diff_id } => {
                let mut archive = temp;
                archive.file.rewind().map_err(|error| LayerError::Disk(DiskError::new("read", archive.path(), error)))?;
                let file = archive.file.try_clone();
                let file = file.map_err(|error| LayerError::Disk(DiskError::new("read", archive.path(), error)))?;
                let limits = &worker.config.limits;
                let installed = layers.install_archive(&name, file, diff_id, limits, &cancelled);
                installed.map_err(|error| LayerError::Unpack(blob.digest.clone(), error))?
            }
            LayerSource::Module { blob, file_name } => {
                layers.install_module(&name, file_name, temp, &blob.digest).map_err(LayerError::Disk)?
            }
        };
        let layer = worker.store.add_layer(&name, layer);
        drop(pins);
        Ok(layer)
    });
    let installed = installed.await;
    drop(cancel);
    installed.unwrap_or_else(|error| {
        Err(LayerError::Disk(DiskError::new("unpack", blob.digest.as_str(), std::io::Error::other(error))))
    })
}

/// Writes a body to a file and checks it.
async fn receive(ingest: &Ingest, mut body: Body, blob: &Descriptor) -> Result<TempFile, LayerError> {
    let temp = ingest.file().map_err(LayerError::Disk)?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let writer = tokio::task::spawn_blocking(move || write(temp, receiver));
    let arrived = loop {
        match body.next().await {
            Ok(Some(chunk)) => {
                // The writer has ended early, and says why below.
                if sender.send(chunk).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(LayerError::Registry(error)),
        }
    };
    drop(sender);
    let written = writer.await;
    arrived?;
    let failed = |error| LayerError::Disk(DiskError::new("write", ingest.path(), std::io::Error::other(error)));
    let (temp, actual, length) = written.map_err(failed)?.map_err(LayerError::Disk)?;
    if length != blob.size {
        let text = format!("blob {}: it ended after {length} of {} bytes", blob.digest, blob.size);
        return Err(LayerError::Registry(RegistryError::Unavailable(text)));
    }
    if actual != blob.digest {
        let (expected, actual) = (blob.digest.to_string(), actual.to_string());
        return Err(LayerError::Registry(RegistryError::Mismatch { what: "a layer".to_owned(), expected, actual }));
    }
    Ok(temp)
}

/// Hashing and writing, off the executor.
fn write(mut temp: TempFile, mut receiver: mpsc::Receiver<Bytes>) -> Result<(TempFile, Digest, u64), DiskError> {
    let mut hasher = Sha256::new();
    let mut length = 0u64;
    while let Some(chunk) = receiver.blocking_recv() {
        hasher.update(&chunk);
        length += chunk.len() as u64;
        temp.file.write_all(&chunk).map_err(|error| DiskError::new("write", temp.path(), error))?;
    }
    Ok((temp, Digest::finish(hasher), length))
}

struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
