//! What did not compile by its own fault, so that it is not tried again: a kubelet creates a container that cannot be
//! every few minutes for as long as its pod is there, and each try would burn the CPU seconds of a compilation.
//!
//! Only the verdict on the bytes is kept: [`CompileError::Rejected`] is the same each time for one digest and one
//! engine, which a process does not change. A limit or a failing compiler may be otherwise next time. In memory, so a
//! restart asks again.

use std::collections::VecDeque;

use crate::digest::Digest;
use crate::error::CompileError;

/// Digests that are remembered; the oldest is forgotten first.
const DIGESTS: usize = 128;

/// Bytes of a compiler's words that are remembered: with the digests below 1 MiB. Unknown imports are named one by one,
/// and a module may have thousands.
const WORDS: usize = 4096;

/// The verdicts.
#[derive(Debug, Default)]
pub(super) struct Rejected(VecDeque<(Digest, String)>);

impl Rejected {
    /// The compiler's words about this file.
    pub(super) fn get(&self, digest: &Digest) -> Option<&str> {
        self.0.iter().find(|(rejected, _)| rejected == digest).map(|(_, words)| words.as_str())
    }

    /// Keeps a verdict, if this is one.
    pub(super) fn note(&mut self, digest: &Digest, error: &CompileError) {
        let CompileError::Rejected(words) = error else { return };
        if self.get(digest).is_some() {
            return;
        }
        if self.0.len() >= DIGESTS {
            self.0.pop_front();
        }
        let mut kept = words.clone();
        if kept.len() > WORDS {
            kept.truncate(kept.floor_char_boundary(WORDS));
            kept.push('…');
        }
        self.0.push_back((digest.clone(), kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rejections_are_kept_and_only_so_many() {
        let mut rejected = Rejected::default();
        let digest = |n: usize| Digest::of(&n.to_le_bytes());
        rejected.note(&digest(0), &CompileError::Limit("time".to_owned()));
        rejected.note(&digest(0), &CompileError::Failed("fork".to_owned()));
        assert_eq!(rejected.get(&digest(0)), None);
        for n in 0..=DIGESTS {
            rejected.note(&digest(n), &CompileError::Rejected("ü".repeat(WORDS)));
        }
        assert_eq!((rejected.get(&digest(0)), rejected.0.len()), (None, DIGESTS));
        assert!(rejected.get(&digest(DIGESTS)).is_some_and(|words| words.len() <= WORDS + 3 && words.ends_with("ü…")));
    }
}
