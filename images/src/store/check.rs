//! Whether what is here is still what was pulled. Everything here reads the disk, and blocks.

use std::sync::Arc;

use super::{Item, Pins, Store};
use crate::digest::Digest;
use crate::disk;
use crate::image::Image;
use crate::layer::{Check, Layer};

impl Store {
    /// An image whose layers, manifests and configuration are all here and whole, also one that was removed but is still
    /// held. What it uses is pinned.
    pub(crate) fn complete(&self, id: &str, pins: &Pins) -> Option<Image> {
        let record = self.state().images.get(id)?.record.clone();
        for item in record.items() {
            pins.add(item);
        }
        // Looked up again under its pins: it may have gone in between.
        let record = self.state().images.get(id)?.record.clone();
        let blobs = record.blobs.iter().all(|digest| {
            let whole = self.blob_is_whole(digest);
            if !whole {
                tracing::warn!(image = id, blob = %digest, "a manifest or configuration is damaged and is fetched again");
            }
            whole
        });
        // All of them: what is damaged is to be brought in one go.
        let layers = record.image.layers.iter().filter(|name| self.checked_layer(name).is_none()).count() == 0;
        (blobs && layers).then(|| record.image.clone())
    }

    /// A layer that is here and, as far as a look at it tells, whole. One that is damaged stays in its place until
    /// another is there, but is no longer known.
    pub(crate) fn checked_layer(&self, name: &str) -> Option<Arc<Layer>> {
        let layer = self.layer(name)?;
        let closely = self.state().suspects.contains(name);
        let checked = self.layers.check(name, &layer, closely);
        let mut state = self.state();
        // Another pull may have replaced it meanwhile, which is as good as whole.
        let same = state.layers.get(name).is_some_and(|now| Arc::ptr_eq(now, &layer));
        match checked {
            _ if !same => state.layers.get(name).cloned(),
            Check::Whole => {
                state.suspects.remove(name);
                Some(layer)
            }
            Check::Stamped(layer) => {
                state.suspects.remove(name);
                let layer = Arc::new(layer);
                state.layers.insert(name.to_owned(), layer.clone());
                Some(layer)
            }
            Check::Damaged(reason) => {
                tracing::warn!(layer = name, reason, "a layer is damaged and is fetched again");
                state.layers.remove(name);
                None
            }
        }
    }

    /// A wasm file turned out not to be what was pulled: the next pull reads the layers that have it.
    pub(crate) fn suspect(&self, wasm_digest: &str) {
        let mut state = self.state();
        let has = |layer: &Layer| layer.wasm.iter().any(|(_, digest)| digest.as_str() == wasm_digest);
        let names: Vec<String> = state.layers.iter().filter(|(_, layer)| has(layer)).map(|(name, _)| name.clone()).collect();
        state.suspects.extend(names);
    }

    pub(super) fn blob_is_whole(&self, digest: &Digest) -> bool {
        std::fs::read(self.blobs.join(digest.hex())).is_ok_and(|bytes| Digest::of(&bytes) == *digest)
    }

    /// Drops the blobs of a record that are damaged and not brought now: an index under which the image was once pulled.
    pub(super) fn forget_damaged(&self, blobs: &mut Vec<Digest>, brought: &[(Digest, Vec<u8>)]) {
        blobs.retain(|digest| {
            let keep = brought.iter().any(|(brought, _)| brought == digest) || self.blob_is_whole(digest);
            if !keep && let Err(error) = disk::remove(&self.blobs.join(digest.hex())) {
                tracing::warn!(%error, "a damaged manifest stays");
            }
            keep
        });
    }

    /// Whether something is used by an image that is here.
    pub(super) fn is_used(state: &super::State, item: &Item) -> bool {
        state.pins.contains_key(item) || state.images.values().any(|entry| entry.record.uses(item))
    }
}
