//! How far a pull has come, for whoever draws bars or writes logs.
//!
//! The work counts with a few atomic additions; whoever wants to know looks when it suits it. So a slow watcher holds up
//! no pull, and several may watch one. A layer that several pulls wait for has one counter, which all of them show.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::manifest::Descriptor;

/// What one blob of an image is going through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// For its turn, or for another pull that works on the same blob.
    Waiting,
    /// Bytes arrive, and are unpacked behind.
    Downloading,
    /// All bytes are here; the rest is unpacked and written to the disk.
    Unpacking,
    /// It was here already.
    Exists,
    /// It is here now.
    Done,
}

const PHASES: [Phase; 5] = [Phase::Waiting, Phase::Downloading, Phase::Unpacking, Phase::Exists, Phase::Done];

/// One blob at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobProgress {
    /// `sha256:…` of the blob.
    pub digest: String,
    /// Bytes, as the manifest says.
    pub total: u64,
    /// Bytes that are here. Falls to 0 where a blob has to be fetched again.
    pub done: u64,
    /// What is happening to it.
    pub phase: Phase,
}

/// A pull at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The layers, in the order of the manifest; empty until that is known.
    pub blobs: Vec<BlobProgress>,
    /// Paths of the wasm files that are being compiled, or wait for their turn, sorted.
    pub compiling: Vec<PathBuf>,
}

/// Shows a pull to who began it: given to [`crate::Images::pull_with`], looked at while that runs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Arc<Tracker>>>);

impl Progress {
    /// Shows nothing until it is given to a pull.
    pub fn new() -> Progress {
        Progress::default()
    }

    /// How far the pull is. Does not block.
    pub fn snapshot(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).snapshot()
    }

    pub(crate) fn follow(&self, tracker: Arc<Tracker>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tracker;
    }
}

/// One pull's counters.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    blobs: Mutex<Vec<Arc<Counter>>>,
    /// With how many hold each path.
    compiling: Mutex<BTreeMap<PathBuf, usize>>,
}

/// One blob's counter.
#[derive(Debug)]
pub(crate) struct Counter {
    digest: String,
    total: u64,
    done: AtomicU64,
    phase: AtomicU8,
}

/// The counters of all layers under way, by layer name.
pub(crate) type Counters = Mutex<HashMap<String, Weak<Counter>>>;

/// The counter of a layer: that of who works on it already, or a new one.
pub(crate) fn counter(counters: &Counters, layer: &str, blob: &Descriptor) -> Arc<Counter> {
    let mut counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(counter) = counters.get(layer).and_then(Weak::upgrade) {
        return counter;
    }
    counters.retain(|_, counter| counter.strong_count() > 0);
    let counter = Arc::new(Counter::new(blob));
    counters.insert(layer.to_owned(), Arc::downgrade(&counter));
    counter
}

/// The counter of a blob that is here.
pub(crate) fn here(blob: &Descriptor) -> Arc<Counter> {
    let counter = Counter::new(blob);
    counter.phase(Phase::Exists);
    Arc::new(counter)
}

impl Counter {
    fn new(blob: &Descriptor) -> Counter {
        Counter { digest: blob.digest.to_string(), total: blob.size, done: AtomicU64::new(0), phase: AtomicU8::new(0) }
    }

    pub(crate) fn phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        if matches!(phase, Phase::Exists | Phase::Done) {
            self.done.store(self.total, Ordering::Relaxed);
        }
    }

    pub(crate) fn done(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    fn shown(&self) -> BlobProgress {
        let phase = PHASES.get(usize::from(self.phase.load(Ordering::Relaxed))).copied().unwrap_or(Phase::Waiting);
        BlobProgress { digest: self.digest.clone(), total: self.total, done: self.done.load(Ordering::Relaxed), phase }
    }
}

impl Tracker {
    /// Adds a layer; in the order of the manifest.
    pub(crate) fn add(&self, counter: Arc<Counter>) {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).push(counter);
    }

    /// Shows a file as being compiled while the guard lives.
    pub(crate) fn compiling(&self, path: &Path) -> Compiling<'_> {
        *self.compiling.lock().unwrap_or_else(PoisonError::into_inner).entry(path.to_owned()).or_insert(0) += 1;
        Compiling { tracker: self, path: path.to_owned() }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|counter| counter.shown()).collect();
        let compiling = self.compiling.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        Snapshot { blobs, compiling }
    }
}

/// See [`Tracker::compiling`].
pub(crate) struct Compiling<'a> {
    tracker: &'a Tracker,
    path: PathBuf,
}

impl Drop for Compiling<'_> {
    fn drop(&mut self) {
        let mut compiling = self.tracker.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = compiling.get_mut(&self.path) {
            *count -= 1;
            if *count == 0 {
                compiling.remove(&self.path);
            }
        }
    }
}
