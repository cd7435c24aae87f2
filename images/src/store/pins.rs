//! Guards: what a container or a pull uses is not taken away under it.

use std::collections::HashSet;
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
            let Some(entry) = state.images.get_mut(&self.id) else { return };
            entry.holds = entry.holds.saturating_sub(1);
            if entry.holds > 0 || !entry.record.removed {
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
    items: Mutex<HashSet<Item>>,
}

impl Pins {
    pub(crate) fn new(store: &Arc<Store>) -> Pins {
        Pins { store: store.clone(), items: Mutex::default() }
    }

    pub(crate) fn add(&self, item: Item) {
        let mut items = self.items.lock().unwrap_or_else(PoisonError::into_inner);
        if items.insert(item.clone()) {
            *self.store.state().pins.entry(item).or_insert(0) += 1;
        }
    }
}

impl Drop for Pins {
    /// What a failed pull brought, and nothing else uses, goes.
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
            self.store.release(&mut state, items.into_iter(), &mut trash);
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
