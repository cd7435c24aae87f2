//! A directory for one layer amid things that must stay as they are, and the check that they did.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::config::Limits;
use crate::digest::Digest;
use crate::unpack::{OPAQUE, Survey, UnpackError, unpack};

/// `root/fs` is the layer; everything else under `root`'s parent is the canary.
pub(super) struct Scratch {
    pub(super) base: PathBuf,
    pub(super) fs: PathBuf,
    canary: BTreeMap<PathBuf, (u32, u64, i64, i64, Vec<u8>)>,
}

thread_local! {
    /// One for each thread, since making it is slower than a run.
    static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
}

/// Runs with an empty layer directory, and checks the canary after it.
pub(super) fn with(run: impl FnOnce(&Scratch)) {
    SCRATCH.with_borrow_mut(|scratch| {
        let scratch = scratch.get_or_insert_with(Scratch::new);
        clear(&scratch.fs);
        fs::create_dir(&scratch.fs).unwrap();
        run(scratch);
        let now = scratch.look();
        assert_eq!(now, scratch.canary, "something outside of the layer changed");
    });
}

impl Drop for Scratch {
    fn drop(&mut self) {
        clear(&self.base);
    }
}

impl Scratch {
    fn new() -> Scratch {
        // In memory where it can be: a run writes some files and takes them away.
        let parent = Path::new("/dev/shm");
        let parent = if parent.is_dir() { parent.to_owned() } else { std::env::temp_dir() };
        let thread = format!("{:?}", std::thread::current().id());
        let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
        let base = parent.join(format!("cri-wasm-fuzz-{}-{thread}", std::process::id()));
        clear(&base);
        let fs = base.join("root/fs");
        for directory in ["root/fs", "root/a", "outside/a/b"] {
            fs::create_dir_all(base.join(directory)).unwrap();
        }
        for file in ["root/b", "root/layer.json", "outside/a/victim", "outside/victim", "victim"] {
            fs::write(base.join(file), "as it was").unwrap();
        }
        let mut scratch = Scratch { base, fs, canary: BTreeMap::new() };
        scratch.canary = scratch.look();
        scratch
    }

    /// The canary as it is. The time of `root` changes with the layer in it.
    fn look(&self) -> BTreeMap<PathBuf, (u32, u64, i64, i64, Vec<u8>)> {
        let mut seen = BTreeMap::new();
        let mut pending = vec![self.base.clone()];
        while let Some(path) = pending.pop() {
            let found = fs::symlink_metadata(&path).unwrap();
            let (mut times, mut content) = ((found.mtime(), found.ctime_nsec()), Vec::new());
            if path == self.base.join("root") {
                times = (0, 0);
            }
            if found.is_dir() {
                pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).filter(|path| *path != self.fs));
            } else {
                content = fs::read(&path).unwrap();
            }
            let links = if found.is_dir() { 0 } else { found.nlink() };
            seen.insert(path, (found.mode() ^ found.uid(), links, times.0, times.1, content));
        }
        seen
    }

    /// Unpacks `blob` and checks what every result must be like.
    pub(super) fn unpack(&self, blob: &[u8], diff_id: &Digest, limits: &Limits) -> Result<Survey, UnpackError> {
        let result = unpack(blob, &self.fs, diff_id, limits, &AtomicBool::new(false));
        if let Err(UnpackError::Disk(error)) = &result {
            // This node's fault, says the user's message; no archive may lead to it.
            panic!("an archive is taken for a failure of the disk: {error}");
        }
        let walked = walk(&self.fs, limits);
        if let Ok(survey) = &result {
            assert_eq!((survey.bytes, survey.inodes), (walked.bytes, walked.inodes));
            assert_eq!(survey.wasm, walked.wasm);
            assert_eq!(survey.opaque, is_opaque(&self.fs));
        }
        result
    }
}

pub(super) fn is_opaque(path: &Path) -> bool {
    rustix::fs::lgetxattr(path, OPAQUE, &mut [0u8; 4]).is_ok()
}

/// Counts a layer in another way than the survey does, and looks at each inode for what no layer may have.
fn walk(root: &Path, limits: &Limits) -> Survey {
    let mut survey = Survey::default();
    let mut seen = HashSet::new();
    let mut pending = vec![(root.to_owned(), 0)];
    while let Some((path, depth)) = pending.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        if seen.insert(found.ino()) {
            survey.inodes += 1;
            survey.bytes += found.blocks() * 512;
        }
        let kind = found.file_type();
        assert!(kind.is_file() || kind.is_dir() || kind.is_symlink() || (kind.is_char_device() && found.rdev() == 0), "{path:?}");
        let forbidden = if kind.is_dir() { 0o4000 } else { 0o6000 };
        assert!(kind.is_symlink() || found.mode() & forbidden == 0, "{path:?} has mode {:o}", found.mode());
        let mut names = [0u8; 4096];
        let count = rustix::fs::llistxattr(&path, &mut names).unwrap_or(0);
        for name in names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let own = name == OPAQUE.as_bytes() && kind.is_dir();
            // Harmless ones, and what a security module gives to every file.
            let harmless = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
            assert!(own || harmless || name.starts_with(b"security.selinux"), "{path:?} has {:?}", CString::new(name));
        }
        assert!(depth <= limits.depth * 2 + 1, "{path:?} is too deep");
        if kind.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| (entry.unwrap().path(), depth + 1)));
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap();
            let below = path.strip_prefix(root).unwrap();
            if let (true, Some(text)) = (content.starts_with(b"\0asm"), below.to_str()) {
                survey.wasm.push((text.to_owned(), Digest::of(&content)));
            }
        }
    }
    survey.wasm.sort();
    survey
}

/// By descriptor-free means, and as it may be a directory of mode 0 to others than root.
fn clear(path: &Path) {
    assert!(path.as_os_str().as_bytes().windows(14).any(|part| part == b"cri-wasm-fuzz-"));
    if fs::symlink_metadata(path).is_ok() {
        fs::remove_dir_all(path).unwrap();
    }
}
