//! What the fuzzer of `fuzz/` runs: the readers of foreign bytes, each with what must hold whatever the bytes are.
//!
//! It lives here because the readers are private, and so that the committed corpus runs as a unit test as well. A
//! property that does not hold is a panic. The feature `fuzzing` opens it; nothing that is shipped has it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a broken property is a panic")]

mod layers;
mod make;
mod model;
mod scratch;

pub use crate::registry::fuzzing::{challenge, hosts};
pub use layers::{entries, tar, whiteouts};

use crate::artifact::{self, Packaging};
use crate::manifest::{self, Descriptor, Document};
use crate::reference::Reference;

/// Bytes of an error about a document: it goes into a log, a gRPC status and a pod's event.
const ERROR_BYTES: usize = 2048;

/// A reference is refused, or normalised to a text that means the same and has nothing in it that a URL or a path
/// could be led astray with.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parsed = match Reference::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return assert!(!error.reason.is_empty()),
    };
    let normal = parsed.to_string();
    let again = Reference::parse(&normal).unwrap_or_else(|error| panic!("{text:?} is {normal:?}, and that is refused: {error}"));
    assert_eq!(again, parsed, "{text:?} is {normal:?}");
    assert_eq!(again.to_string(), normal);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@[]".contains(&byte);
    assert!(normal.bytes().all(good), "{normal:?}");
    assert!(!normal.split('/').any(|part| part.is_empty() || part == "." || part == ".."), "{normal:?}");
    assert!(parsed.name().len() <= 255, "{normal:?}");
    assert!(normal.starts_with(&format!("{}/{}", parsed.registry(), parsed.repository())));
    match (parsed.digest(), parsed.tagged()) {
        (Some(digest), None) => assert_eq!(parsed.target(), digest),
        (None, Some(tagged)) => assert_eq!((tagged.as_str(), Reference::parse(&tagged)), (normal.as_str(), Ok(parsed))),
        both => panic!("{text:?}: {both:?}"),
    }
}

/// A manifest or an index is refused in some words, or leads to one of its own entries, a wasm one where there is one.
pub fn manifest(bytes: &[u8]) {
    match manifest::parse(bytes) {
        Err(reason) => assert!(!reason.is_empty()),
        Ok(Document::Index(entries)) => {
            let is_wasm = |entry: &Descriptor| entry.platform.as_ref().is_some_and(|platform| platform.architecture == "wasm");
            match manifest::choose(&entries, "amd64") {
                Ok(chosen) => {
                    assert!(entries.iter().any(|entry| std::ptr::eq(entry, chosen)));
                    assert!(is_wasm(chosen) || !entries.iter().any(is_wasm) || chosen.platform.is_some());
                }
                Err(_) => assert!(!entries.iter().any(is_wasm)),
            }
        }
        Ok(Document::Manifest(manifest)) => {
            if let Ok(Packaging::Module { layer, file_name }) = artifact::recognise(&manifest) {
                assert!(manifest.layers.iter().any(|other| std::ptr::eq(other, layer)));
                let hostile = file_name.contains(['/', '\0']) || matches!(file_name.as_str(), "" | "." | "..");
                assert!(!hostile && file_name.len() <= 255 && !file_name.starts_with(".wh."), "{file_name:?}");
            }
        }
    }
}

/// A configuration is refused in some words or read.
pub fn config(bytes: &[u8]) {
    match manifest::parse_config(bytes) {
        Err(reason) => assert!(!reason.is_empty() && reason.len() <= ERROR_BYTES + bytes.len() * 8),
        // Nothing is made up: what was read is at most what was sent.
        Ok(file) => assert!(file.diff_ids.len() * 64 <= bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    type Target = (&'static str, fn(&[u8]));

    /// The seeds and whatever was found once.
    #[test]
    fn the_committed_corpus_holds() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        let targets: [Target; 8] = [
            ("reference", super::reference),
            ("manifest", super::manifest),
            ("config", super::config),
            ("hosts", super::hosts),
            ("challenge", super::challenge),
            ("tar", super::tar),
            ("entries", super::entries),
            ("whiteouts", super::whiteouts),
        ];
        for (name, target) in targets {
            let seeds = std::fs::read_dir(corpus.join(name)).unwrap();
            let ran = seeds.map(|seed| target(&std::fs::read(seed.unwrap().path()).unwrap())).count();
            assert!(ran > 0, "{name} has no seeds");
        }
    }
}
