//! Counter files that stay open: the kernel makes their text anew at each read from their start, and opening them is what costs.
//!
//! A descriptor is opened at the first read. All of them together have a budget; a file that gets no place in it is opened and
//! closed at each read, which is slower and otherwise the same.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Longest text that is read of one file: hundreds of interfaces, or any `memory.stat`.
const MAX_TEXT: usize = 64 * 1024;

/// What one system call reads at most: any control file at once.
const CHUNK: usize = 16 * 1024;

/// A list over many objects comes in pieces of at most a page, and a piece ends early only where the next object would not fit. So
/// less than this is the whole file; no object's line is as long.
const SURELY_ALL: usize = 2048;

/// Upper bound of descriptors that are kept, whatever the process may open.
const MAX_KEPT: u64 = 100_000;

/// How many descriptors may still be kept open.
#[derive(Debug)]
pub struct Budget(AtomicU64);

impl Budget {
    /// Half of what the process may open (`RLIMIT_NOFILE`), so that everything else has room.
    pub fn of_process() -> Arc<Self> {
        Self::of(getrlimit(Resource::Nofile).current.map_or(MAX_KEPT, |files| (files / 2).min(MAX_KEPT)))
    }

    fn of(descriptors: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(descriptors)))
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.is_ok().then(|| Place(Arc::clone(self)))
    }
}

/// A place in the budget, given back when it is dropped.
#[derive(Debug)]
struct Place(Arc<Budget>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One file, read again and again.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    open: Option<(OwnedFd, Option<Place>)>,
    /// The kernel has no such file; it is not looked for again.
    absent: bool,
    budget: Arc<Budget>,
}

impl Kept {
    /// A file that is opened when it is first read.
    pub fn new(path: PathBuf, budget: &Arc<Budget>) -> Self {
        Self { path, open: None, absent: false, budget: Arc::clone(budget) }
    }

    /// A file that is open already: one that its path leads to only from within a namespace. Where [`Kept::has_place`] says that
    /// there is none for it, its owner drops it when it is read.
    pub fn opened(file: OwnedFd, budget: &Arc<Budget>) -> Self {
        let place = budget.take();
        Self { path: PathBuf::new(), open: Some((file, place)), absent: false, budget: Arc::clone(budget) }
    }

    /// Whether it is open within the budget.
    pub fn has_place(&self) -> bool {
        matches!(self.open, Some((_, Some(_))))
    }

    /// The whole text, in `buffer`; `None`: the file is not there, or no longer.
    pub fn read<'a>(&mut self, buffer: &'a mut Vec<u8>) -> Option<&'a str> {
        if self.absent {
            return None;
        }
        let mut read = match &self.open {
            Some((file, _)) => read_all(file, buffer),
            None => self.open_and_read(buffer),
        };
        // A group that was removed and made again has new files at the same path.
        if read == Err(Errno::NODEV) && !self.path.as_os_str().is_empty() {
            self.open = None;
            read = self.open_and_read(buffer);
        }
        self.absent = matches!(read, Err(Errno::NOENT | Errno::OPNOTSUPP));
        std::str::from_utf8(buffer.get(..read.ok()?)?).ok()
    }

    fn open_and_read(&mut self, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        let file = rustix::fs::open(&self.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let read = read_all(&file, buffer);
        if read.is_ok() {
            self.open = self.budget.take().map(|place| (file, Some(place)));
        }
        read
    }
}

/// Reads from the start to the end; tells the length. A file that is longer than [`MAX_TEXT`] is cut. The buffer only ever grows:
/// what lies behind the length is left over.
fn read_all(file: &OwnedFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    let mut length = 0;
    loop {
        if buffer.len() < length + CHUNK {
            buffer.resize(length + CHUNK, 0);
        }
        let Some(rest) = buffer.get_mut(length..) else { return Err(Errno::NOMEM) };
        let count = match rustix::io::pread(file, rest, u64::try_from(length).unwrap_or(u64::MAX)) {
            Err(Errno::INTR) => continue,
            count => count?,
        };
        length += count;
        if count == 0 || !(SURELY_ALL..MAX_TEXT).contains(&length) {
            return Ok(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_file_is_read_anew_each_time_and_gives_its_place_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cpuacct.usage");
        std::fs::write(&path, "1\n").unwrap();
        let budget = Budget::of(1);
        let mut file = Kept::new(path.clone(), &budget);
        let mut buffer = Vec::new();
        assert_eq!(file.read(&mut buffer), Some("1\n"));
        std::fs::write(&path, "22\n").unwrap();
        assert_eq!(file.read(&mut buffer), Some("22\n"));
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
        drop(file);
        assert_eq!(budget.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn without_a_place_it_is_opened_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pids.current");
        std::fs::write(&path, "7\n").unwrap();
        let budget = Budget::of(0);
        let mut file = Kept::new(path.clone(), &budget);
        let mut buffer = Vec::new();
        assert_eq!(file.read(&mut buffer), Some("7\n"));
        assert!(!file.has_place());
        let opened = Kept::opened(std::fs::File::open(&path).unwrap().into(), &budget).read(&mut buffer).map(str::to_owned);
        assert_eq!(opened.as_deref(), Some("7\n"));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.read(&mut buffer), None);
    }

    #[test]
    fn a_file_that_is_missing_is_not_looked_for_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("io.pressure");
        let mut file = Kept::new(path.clone(), &Budget::of(9));
        let mut buffer = Vec::new();
        assert_eq!(file.read(&mut buffer), None);
        std::fs::write(&path, "late\n").unwrap();
        assert_eq!(file.read(&mut buffer), None);
    }

    #[test]
    fn long_files_are_read_whole_and_endless_ones_are_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dev");
        let text = "0123456789abcde\n".repeat(3000);
        std::fs::write(&path, &text).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(Kept::new(path.clone(), &Budget::of(9)).read(&mut buffer), Some(text.as_str()));
        std::fs::write(&path, text.repeat(9)).unwrap();
        let cut = Kept::new(path, &Budget::of(9)).read(&mut buffer).unwrap().len();
        assert!((MAX_TEXT..=MAX_TEXT + CHUNK).contains(&cut), "{cut}");
    }
}
