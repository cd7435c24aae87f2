//! Guards: what a container or a pull uses is not taken away under it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Store;
use crate::digest::Digest;

/// Something on the disk that several images may share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    Layer(String),
    Blob(Digest),
    Code(Digest),
}

/// Keeps an image's layers and code on the disk until it is dropped, also when the image is removed meanwhile.
#[must_use = "the image is only kept while this lives"]
pub struct Hold {
    store: Arc<Store>,
    id: String,
}

impl Hold {
    pub(super) fn new(store: Arc<Store>, id: String) -> Hold {
        Hold { store, id }
    }

    /// The id of the image that is held.
    pub fn image_id(&self) -> &str {
        &self.id
    }
}

impl std::fmt::Debug for Hold {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Hold").field(&self.id).finish()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let trash = {
            let mut state = self.store.state();
            let replaced = !state.aside.is_empty();
            let Some(entry) = state.images.get_mut(&self.id) else { return };
            entry.holds = entry.holds.saturating_sub(1);
            if entry.holds > 0 || !(entry.record.removed || replaced) {
                return;
            }
            self.store.collect(&mut state)
        };
        discard(trash);
    }
}

/// What a pull is about to use; kept while the pull runs, whether or not it is there already.
pub(crate) struct Pins {
    store: Arc<Store>,
    /// What was finished under these pins is of use to a next try.
    keep: AtomicBool,
    items: Mutex<HashSet<Item>>,
}

impl Pins {
    /// What nobody uses afterwards goes.
    pub(crate) fn new(store: &Arc<Store>) -> Pins {
        Pins { store: store.clone(), keep: AtomicBool::new(false), items: Mutex::default() }
    }

    /// Of a pull: finished layers and code that nobody uses afterwards, because it failed or was cancelled, are kept for
    /// a while, unless it says [`Pins::spoil`].
    pub(crate) fn for_pull(store: &Arc<Store>) -> Pins {
        let pins = Pins::new(store);
        pins.keep.store(true, Ordering::Relaxed);
        pins
    }

    /// The image is at fault, or the disk is full: a next try would end as this one.
    pub(crate) fn spoil(&self) {
        self.keep.store(false, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, item: Item) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.insert(item.clone()) {
            let mut state = self.store.state();
            state.idle.remove(&item);
            *state.pins.entry(item).or_insert(0) += 1;
        }
    }
}

impl Drop for Pins {
    /// What a failed pull brought, and nothing else uses, goes, or is kept for the next try.
    fn drop(&mut self) {
        let items = std::mem::take(&mut *self.items.lock().unwrap_or_else(PoisonError::into_inner));
        let mut trash = Vec::new();
        {
            let mut state = self.store.state();
            for item in &items {
                if let Some(count) = state.pins.get_mut(item) {
                    *count -= 1;
                    if *count == 0 {
                        state.pins.remove(item);
                    }
                }
            }
            let keep = self.keep.load(Ordering::Relaxed);
            for item in items {
                if Store::is_used(&state, &item) || (keep && self.store.keep_idle(&mut state, &item)) {
                    continue;
                }
                self.store.release(&mut state, std::iter::once(item), &mut trash);
            }
        }
        discard(trash);
    }
}

/// Deletes off the executor where there is one. A deletion that the process does not live to see is finished when the
/// store opens.
fn discard(trash: Vec<crate::ingest::TempPath>) {
    if trash.is_empty() {
        return;
    }
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(trash))),
        Err(_) => drop(trash),
    }
}
