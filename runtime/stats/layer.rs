//! What a container has written to its root filesystem: the blocks and inodes of its writable layer.
//!
//! The kernel does not count this, so the layer is walked. A walk is made when somebody asks and the last one is older than
//! [`MAX_AGE`]; it goes on behind the answer, which tells the last value with its time. Only a layer that was never measured is
//! walked at once, as far as [`AT_ONCE`] files: a new container's layer is all but empty. A layer whose container has ended is
//! walked once more and never again.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How old a value may be before the next one is on its way.
const MAX_AGE: Duration = Duration::from_secs(10);

/// How many files are looked at while a client waits.
const AT_ONCE: u64 = 256;

/// The size of a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TreeSize {
    /// Bytes in allocated blocks.
    pub bytes: u64,
    /// Inodes, the directory's own too.
    pub inodes: u64,
}

/// What a layer was at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerUsage {
    /// Nanoseconds since the epoch.
    pub timestamp: i64,
    /// Its size then.
    pub size: TreeSize,
}

/// The last measurement of one layer.
#[derive(Debug, Default)]
pub struct Layer(Mutex<Measured>);

#[derive(Debug, Default)]
struct Measured {
    last: Option<LayerUsage>,
    at: Option<Instant>,
    /// It was measured after its container had ended.
    last_word: bool,
}

impl Layer {
    /// The last value. `None`: the layer is too large to be measured while somebody waits. Blocking.
    pub fn usage(&self, directory: &Path, ended: bool) -> Option<LayerUsage> {
        let mut measured = self.lock();
        if measured.at.is_none()
            && let Some(size) = measure(directory, AT_ONCE)
        {
            measured.take(size, ended);
        }
        measured.last
    }

    /// Whether it is time for [`Layer::refresh`].
    pub fn is_due(&self, ended: bool) -> bool {
        let measured = self.lock();
        let old = measured.at.is_none_or(|at| at.elapsed() >= MAX_AGE);
        if ended { !measured.last_word } else { old }
    }

    /// Walks the layer. Blocking, and as long as the layer is large.
    pub fn refresh(&self, directory: &Path, ended: bool) {
        if let Some(size) = measure(directory, u64::MAX) {
            self.lock().take(size, ended);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Measured {
    fn take(&mut self, size: TreeSize, ended: bool) {
        self.last = Some(LayerUsage { timestamp: wasm_host::protocol::now(), size });
        self.at = Some(Instant::now());
        self.last_word = ended;
    }
}

/// The size of a tree; a file with several names counts once, and a directory that is not there as nothing. `None`: it has more
/// than `limit` files. What disappears while it is looked at is not counted.
pub fn measure(directory: &Path, limit: u64) -> Option<TreeSize> {
    let mut size = TreeSize::default();
    let Ok(metadata) = directory.symlink_metadata() else { return Some(size) };
    let device = metadata.dev();
    size.add(&metadata);
    let mut linked = HashSet::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            let again = metadata.nlink() > 1 && !metadata.is_dir() && !linked.insert(metadata.ino());
            if metadata.dev() != device || again {
                continue;
            }
            size.add(&metadata);
            if size.inodes > limit {
                return None;
            }
            if metadata.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Some(size)
}

impl TreeSize {
    fn add(&mut self, metadata: &std::fs::Metadata) {
        // st_blocks counts 512 bytes whatever the filesystem's block is.
        self.bytes = self.bytes.saturating_add(metadata.blocks().saturating_mul(512));
        self.inodes = self.inodes.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_tree_is_measured_and_a_missing_one_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        fs::write(directory.path().join("a/file"), vec![1; 10_000]).unwrap();
        fs::hard_link(directory.path().join("a/file"), directory.path().join("b")).unwrap();
        std::os::unix::fs::symlink("/", directory.path().join("link")).unwrap();
        let size = measure(directory.path(), u64::MAX).unwrap();
        assert!((10_000..100_000).contains(&size.bytes), "{size:?}");
        assert_eq!(size.inodes, 4);
        assert_eq!(measure(&directory.path().join("none"), 0), Some(TreeSize::default()));
    }

    #[test]
    fn a_large_layer_is_not_walked_while_somebody_waits() {
        let directory = tempfile::tempdir().unwrap();
        for file in 0..AT_ONCE {
            fs::write(directory.path().join(file.to_string()), "").unwrap();
        }
        let layer = Layer::default();
        assert_eq!(layer.usage(directory.path(), false), None);
        assert!(layer.is_due(false));
        layer.refresh(directory.path(), false);
        assert_eq!(layer.usage(directory.path(), false).unwrap().size.inodes, AT_ONCE + 1);
        assert!(!layer.is_due(false));
    }

    #[test]
    fn a_small_layer_is_measured_at_once_and_its_value_stays_for_a_while() {
        let directory = tempfile::tempdir().unwrap();
        let layer = Layer::default();
        let first = layer.usage(directory.path(), false).unwrap();
        assert_eq!(first.size.inodes, 1);
        fs::write(directory.path().join("new"), "x").unwrap();
        assert_eq!(layer.usage(directory.path(), false), Some(first));
        assert!(!layer.is_due(false));
        // Its end makes one more walk due, and no other.
        assert!(layer.is_due(true));
        layer.refresh(directory.path(), true);
        assert_eq!(layer.usage(directory.path(), true).unwrap().size.inodes, 2);
        assert!(!layer.is_due(true));
    }
}
