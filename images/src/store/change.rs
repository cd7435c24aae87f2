//! Changes to what is visible. They block, and run on a thread of their own from beginning to end: a caller that goes
//! away in between does not leave the disk and the memory with different truths.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::records::Record;
use super::{Entry, NewImage, Pins, Store};
use crate::disk;
use crate::error::{DiskError, RemoveError};
use crate::image::Image;

impl Store {
    /// Makes an image visible, or adds to what is known of it. A tag is taken from the image that has it.
    pub(crate) fn register(&self, new: NewImage, _pins: Arc<Pins>) -> Result<Arc<Image>, DiskError> {
        let _changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let id = new.image.id.clone();
        let mut record = Record::new(new.image, new.blobs.iter().map(|(digest, _)| digest.clone()).collect());
        let (names, old) = {
            let mut state = self.state();
            let old = state.images.get(&id).map(|entry| entry.record.clone());
            if let Some(old) = &old {
                record.merge(old);
            }
            // From here on the last hold no longer takes the image away, should it have been removed.
            if let Some(entry) = state.images.get_mut(&id) {
                entry.record = Arc::new(Record { removed: false, ..(*entry.record).clone() });
            }
            let mut names = state.names.clone();
            if let Some(tag) = new.tag {
                names.insert(tag, id.clone());
            }
            (names, old)
        };
        self.forget_damaged(&mut record.blobs, &new.blobs);
        let unchanged = old.as_deref() == Some(&record);
        let saved = self.save_blobs(&new.blobs).and_then(|()| if unchanged { Ok(()) } else { self.records.write(&record) });
        let saved = saved.and_then(|()| self.save_names(&names));

        let mut state = self.state();
        if let Err(error) = saved {
            if let (Some(entry), Some(old)) = (state.images.get_mut(&id), old) {
                entry.record = old;
            }
            return Err(error);
        }
        let holds = state.images.get(&id).map_or(0, |entry| entry.holds);
        let image = Arc::new(record.image.clone());
        state.images.insert(id.clone(), Entry { record: Arc::new(record), image: image.clone(), holds });
        state.set_names(names);
        Ok(state.images.get(&id).map_or(image, |entry| entry.image.clone()))
    }

    /// Removes an image with all its tags; that there is none is no error. What containers use stays until they let go.
    pub(crate) fn remove(&self, text: &str) -> Result<(), RemoveError> {
        let _changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let (record, names) = {
            let state = self.state();
            let Some(entry) = state.find(text) else { return Ok(()) };
            let mut names = state.names.clone();
            names.retain(|_, id| *id != entry.image.id);
            (Arc::new(Record { removed: true, ..(*entry.record).clone() }), names)
        };
        // Marked first: a name without an image is dropped when the store opens, an image without names is not.
        let mut saved = self.records.write(&record).and_then(|()| self.save_names(&names));
        if saved.as_ref().is_err_and(DiskError::is_full) {
            self.clear_leftovers();
            saved = self.records.write(&record).and_then(|()| self.save_names(&names));
        }
        if let Err(io) = saved {
            if !io.is_full() {
                return Err(RemoveError::Io { reference: text.to_owned(), io });
            }
            // Removing is what makes room, so it cannot fail for the lack of it. The record is unlinked below, for which
            // no room is needed; where containers hold the image, it shows again if the store is opened before that.
            tracing::warn!(image = record.image.id, error = %io, "an image is removed without a note on the full disk");
        }
        let trash = {
            let mut state = self.state();
            if let Some(entry) = state.images.get_mut(&record.image.id) {
                entry.record = record;
            }
            state.set_names(names);
            self.collect(&mut state)
        };
        drop(trash);
        self.sweep();
        Ok(())
    }

    /// Takes away removed images that nobody holds, and replaced layers. From now on holds say what containers use.
    pub(crate) fn collect_removed(&self) {
        let _changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let trash = {
            let mut state = self.state();
            state.settled = true;
            self.collect(&mut state)
        };
        drop(trash);
        self.sweep();
    }

    fn save_blobs(&self, blobs: &[(crate::digest::Digest, Vec<u8>)]) -> Result<(), DiskError> {
        for (digest, bytes) in blobs {
            if !self.blob_is_whole(digest) {
                disk::write_file(&self.ingest, &self.blobs.join(digest.hex()), bytes)?;
            }
        }
        Ok(())
    }

    fn save_names(&self, names: &BTreeMap<String, String>) -> Result<(), DiskError> {
        let unchanged = self.state().names == *names;
        if unchanged { Ok(()) } else { self.records.write_names(names) }
    }
}
