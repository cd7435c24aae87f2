//! What no image uses and is kept all the same, for a while: what pulls that failed or were cancelled had finished, for
//! the next try; and layers that were replaced, for the containers that have them mounted.
//!
//! The former goes after [`crate::Config::keep_layers`], the oldest first where there is too much, when the disk is
//! full, and when the store is opened. The latter goes when no container holds an image with that layer, which is only
//! known once [`Store::collect_removed`] has been called. Both are looked at at the end of each pull, when an image is
//! removed and when the usage is asked for, which the kubelet does all the time; so nothing here needs a clock.

use std::time::{Duration, Instant};

use super::{Item, State, Store};
use crate::ingest::TempPath;

/// A layer's directory below `aside/`.
pub(super) struct Aside {
    /// `<layer name>.<number>`.
    pub(super) entry: String,
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Store {
    /// Notes what a pull leaves unused; `false` where it is nothing that a next try has use for.
    pub(super) fn keep_idle(&self, state: &mut State, item: &Item) -> bool {
        let worth = match item {
            Item::Layer(name) => state.layers.contains_key(name),
            Item::Code(_) => self.paths(item).iter().all(|path| path.exists()),
            Item::Blob(_) => false,
        };
        if worth {
            state.idle.insert(item.clone(), Instant::now());
        }
        worth
    }

    /// Removes what has been kept long enough. Blocks.
    pub(crate) fn sweep(&self) {
        self.sweep_older(self.keep_idle);
        self.partials.prune();
    }

    /// The disk is full: removes all that nobody is working on. Blocks.
    pub(crate) fn clear_leftovers(&self) {
        self.sweep_older(Duration::ZERO);
        self.partials.clear();
    }

    fn sweep_older(&self, keep: Duration) {
        let trash = {
            let mut state = self.state();
            let mut trash = Vec::new();
            self.collect_idle(&mut state, keep, &mut trash);
            self.collect_aside(&mut state, &mut trash);
            trash
        };
        drop(trash);
    }

    fn collect_idle(&self, state: &mut State, keep: Duration, trash: &mut Vec<TempPath>) {
        let mut idle: Vec<(Duration, Item)> = state.idle.iter().map(|(item, since)| (since.elapsed(), item.clone())).collect();
        idle.sort_by_key(|(age, _)| *age);
        let mut bytes = 0u64;
        for (age, item) in idle {
            if let Item::Layer(name) = &item {
                bytes = bytes.saturating_add(state.layers.get(name).map_or(0, |layer| layer.bytes));
            }
            if age >= keep || bytes > self.unfinished_bytes {
                state.idle.remove(&item);
                self.release(state, std::iter::once(item), trash);
            }
        }
    }

    pub(super) fn collect_aside(&self, state: &mut State, trash: &mut Vec<TempPath>) {
        if !state.settled || state.aside.is_empty() {
            return;
        }
        for aside in std::mem::take(&mut state.aside) {
            let name = aside.entry.split('.').next().unwrap_or_default();
            let held =
                state.images.values().any(|entry| entry.holds > 0 && entry.record.image.layers.iter().any(|of| of == name));
            if held {
                state.aside.push(aside);
                continue;
            }
            let temp = self.ingest.name("");
            match std::fs::rename(self.layers.aside().join(&aside.entry), temp.path()) {
                Ok(()) => trash.push(temp),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => temp.keep(),
                Err(error) => {
                    tracing::warn!(layer = aside.entry, %error, "a replaced layer could not be removed");
                    state.aside.push(aside);
                }
            }
        }
    }
}
