//! The image store: what is on the disk, who uses it, and when it goes.
//!
//! ```text
//! <root>/lock                          held by the process that has the store open
//!        blobs/sha256/<hex>            manifests, indexes and configurations
//!        layers/<name>/{fs,layer.json} unpacked layers
//!        records/<manifest hex>.json   one per image; names.json: tags
//!        compiled/<engine>/<wasm hex>.{cwasm,json}
//!        aside/<name>.<number>         damaged layers that were replaced, while containers have them mounted
//!        partial/<blob hex>            blobs that are not whole, for the next try
//!        ingest/                       what is not finished
//!        empty/                        a layer for images without one
//! ```
//!
//! The memory has the truth while the process lives; a change is on the disk before it is acknowledged. Two locks: one
//! that is held over a change and its writes, one for the maps, held for moments only and never over a sync.
//!
//! An image that is removed while containers hold it stays on the disk, marked, invisible, until the last hold is gone;
//! also over a restart, when containers have to be found again first ([`Store::collect_removed`]).

mod change;
mod check;
mod find;
mod idle;
mod open;
mod pins;
mod records;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::code::CodeCache;
use crate::counts::Counts;
use crate::digest::Digest;
use crate::disk;
use crate::error::NotFound;
use crate::image::Image;
use crate::ingest::{Ingest, TempPath};
use crate::layer::{Layer, Layers};
use crate::partial::Partials;
use idle::Aside;
pub(crate) use open::open;
pub use pins::Hold;
pub(crate) use pins::{Item, Pins};
use records::{Record, Records};

pub(crate) struct Store {
    pub(crate) root: PathBuf,
    pub(crate) ingest: Ingest,
    pub(crate) partials: Partials,
    pub(crate) layers: Layers,
    pub(crate) code: CodeCache,
    pub(crate) counts: Arc<Counts>,
    /// Broken records that were renamed when the store was opened.
    pub(crate) set_aside: Vec<PathBuf>,
    blobs: PathBuf,
    empty: PathBuf,
    records: Records,
    /// See [`crate::Config::keep_layers`] and [`crate::Config::unfinished_bytes`].
    keep_idle: Duration,
    unfinished_bytes: u64,
    state: Mutex<State>,
    /// Held over a change of names or records and its writes.
    changes: Mutex<()>,
    _lock: File,
}

#[derive(Default)]
struct State {
    images: BTreeMap<String, Entry>,
    /// `name:tag` to image id.
    names: BTreeMap<String, String>,
    layers: HashMap<String, Arc<Layer>>,
    pins: HashMap<Item, usize>,
    /// What failed pulls had finished, and when they failed.
    idle: HashMap<Item, Instant>,
    aside: Vec<Aside>,
    /// Layers that are to be looked at closely.
    suspects: HashSet<String>,
    /// Every container that was there before the start holds its image again.
    settled: bool,
}

struct Entry {
    record: Arc<Record>,
    /// The record's image with its tags.
    image: Arc<Image>,
    holds: usize,
}

/// What a pull brought, to be made visible.
pub(crate) struct NewImage {
    pub(crate) image: Image,
    pub(crate) blobs: Vec<(Digest, Vec<u8>)>,
    pub(crate) tag: Option<String>,
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn list(&self) -> Vec<Arc<Image>> {
        self.state().visible().map(|entry| entry.image.clone()).collect()
    }

    pub(crate) fn get(&self, text: &str) -> Option<Arc<Image>> {
        self.state().find(text).map(|entry| entry.image.clone())
    }

    pub(crate) fn hold(self: &Arc<Store>, id: &str) -> Result<Hold, NotFound> {
        let mut state = self.state();
        let entry = state.images.get_mut(id).ok_or_else(|| NotFound { id: id.to_owned() })?;
        entry.holds += 1;
        Ok(Hold::new(self.clone(), id.to_owned()))
    }

    /// The directories that overlayfs stacks, top first, at least one.
    pub(crate) fn lower_dirs(&self, image: &Image) -> Vec<PathBuf> {
        if image.layers.is_empty() {
            return vec![self.empty.clone()];
        }
        image.layers.iter().rev().map(|name| self.layers.fs(name)).collect()
    }

    pub(crate) fn layer(&self, name: &str) -> Option<Arc<Layer>> {
        let layer = self.state().layers.get(name).cloned()?;
        self.layers.exists(name).then_some(layer)
    }

    pub(crate) fn add_layer(&self, name: &str, layer: Layer) -> Arc<Layer> {
        let layer = Arc::new(layer);
        // One that was damaged may have been put aside for this one.
        let replaced = self.layers.aside_of(name);
        let mut trash = Vec::new();
        let mut state = self.state();
        state.layers.insert(name.to_owned(), layer.clone());
        state.suspects.remove(name);
        for entry in replaced {
            if !state.aside.iter().any(|aside| aside.entry == entry) {
                let (bytes, inodes) = self.layers.aside_usage(&entry);
                state.aside.push(Aside { entry, bytes, inodes });
            }
        }
        self.collect_aside(&mut state, &mut trash);
        drop(state);
        drop(trash);
        layer
    }

    /// An image that shows this wasm file.
    pub(crate) fn with_wasm(&self, digest: &str) -> Option<(Arc<Image>, PathBuf)> {
        let state = self.state();
        state.images.values().find_map(|entry| {
            let file = entry.image.wasm.iter().find(|file| file.digest == digest)?;
            Some((entry.image.clone(), file.path.clone()))
        })
    }

    /// Moves away what removed images used and nobody else does. Renames and unlinks only; the returned paths are
    /// deleted when they are dropped, which may take long.
    fn collect(&self, state: &mut State) -> Vec<TempPath> {
        let mut trash = Vec::new();
        self.collect_aside(state, &mut trash);
        let gone: Vec<String> =
            state.images.iter().filter(|(_, entry)| entry.record.removed && entry.holds == 0).map(|(id, _)| id.clone()).collect();
        for id in gone {
            let Some(entry) = state.images.remove(&id) else { continue };
            // The record goes last, so that a kill in between leaves something that knows what to remove.
            self.release(state, entry.record.items(), &mut trash);
            if let Err(error) = self.records.forget(&id) {
                tracing::warn!(%error, "the record of a removed image stays until the store is opened again");
            }
        }
        trash
    }

    /// Moves away those of the items that no image and no pull uses.
    fn release(&self, state: &mut State, items: impl Iterator<Item = Item>, trash: &mut Vec<TempPath>) {
        for item in items {
            if Store::is_used(state, &item) {
                continue;
            }
            if let Item::Layer(name) = &item {
                state.layers.remove(name);
            }
            for path in self.paths(&item) {
                let temp = self.ingest.name("");
                match std::fs::rename(&path, temp.path()) {
                    Ok(()) => trash.push(temp),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => temp.keep(),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "what no image uses could not be removed"),
                }
            }
        }
    }

    fn paths(&self, item: &Item) -> Vec<PathBuf> {
        match item {
            Item::Layer(name) => vec![self.layers.directory().join(name)],
            Item::Blob(digest) => vec![self.blobs.join(digest.hex())],
            Item::Code(digest) => self.code.files(digest).to_vec(),
        }
    }

    /// Bytes on the disk and inodes of all of it, unfinished blobs too. What pulls under way have unpacked of a layer counts
    /// when that is finished.
    pub(crate) fn usage(&self) -> std::io::Result<(u64, u64)> {
        let (mut bytes, mut inodes) = {
            let state = self.state();
            let layers = state.layers.values().map(|layer| (layer.bytes, layer.inodes));
            let aside = state.aside.iter().map(|aside| (aside.bytes, aside.inodes));
            layers.chain(aside).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
        };
        let flat = [
            &self.root,
            &self.blobs,
            self.records.directory(),
            self.layers.directory(),
            self.layers.aside(),
            self.partials.path(),
            self.ingest.path(),
            self.code.directory(),
        ];
        for directory in flat {
            let (more_bytes, more_inodes) = disk::flat_usage(directory)?;
            bytes += more_bytes;
            inodes += more_inodes;
        }
        Ok((bytes, inodes))
    }
}

impl State {
    fn visible(&self) -> impl Iterator<Item = &Entry> {
        self.images.values().filter(|entry| !entry.record.removed)
    }

    /// Replaces the names, and the images that carry them where these change.
    fn set_names(&mut self, names: BTreeMap<String, String>) {
        self.names = names;
        for (id, entry) in &mut self.images {
            let tags: Vec<String> = self.names.iter().filter(|(_, named)| *named == id).map(|(tag, _)| tag.clone()).collect();
            if entry.image.repo_tags != tags {
                entry.image = Arc::new(Image { repo_tags: tags, ..entry.record.image.clone() });
            }
        }
    }
}
