//! From what a caller calls an image to the image: ids, parts of ids, tags and digests.

use super::{Entry, State};
use crate::digest::is_hex;
use crate::image::Image;
use crate::reference::Reference;

/// Shortest part of an id that is taken for one: what crictl shows has 13 digits.
const SHORT_ID: usize = 12;

impl State {
    /// By id, then by reference, then by the beginning of an id.
    pub(super) fn find(&self, text: &str) -> Option<&Entry> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let id = format!("sha256:{hex}");
        let shown = |entry: &&Entry| !entry.record.removed;
        if let Some(entry) = self.images.get(&id).filter(shown) {
            return Some(entry);
        }
        if let Ok(reference) = Reference::parse(text)
            && let Some(entry) = self.find_reference(&reference)
        {
            return Some(entry);
        }
        if hex.len() < SHORT_ID || !is_hex(hex) {
            return None;
        }
        let mut matching = self.visible().filter(|entry| entry.image.id.starts_with(&id));
        // Two that begin so are none: which one was meant is not known.
        matching.next().filter(|_| matching.next().is_none())
    }

    fn find_reference(&self, reference: &Reference) -> Option<&Entry> {
        if let Some(tag) = reference.tagged() {
            let id = self.names.get(&tag)?;
            return self.images.get(id).filter(|entry| !entry.record.removed);
        }
        let digest = reference.digest()?;
        let name = reference.name();
        let exact = format!("{name}@{digest}");
        let of_name = |image: &Image| {
            let tagged = |tag: &String| tag.rsplit_once(':').is_some_and(|(tagged, _)| tagged == name);
            let by_digest = |other: &String| other.split_once('@').is_some_and(|(other, _)| other == name);
            image.repo_tags.iter().any(tagged) || image.repo_digests.iter().any(by_digest)
        };
        self.visible()
            .find(|entry| entry.image.repo_digests.contains(&exact) || (entry.image.id == digest && of_name(&entry.image)))
    }
}
