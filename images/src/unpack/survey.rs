//! What a finished layer holds: its size on the disk, its wasm files, found by looking into them, and two summaries by
//! which a later look tells whether it is still the same.
//!
//! A summary is the sum of a hash for each file, so the order in which a directory is listed does not matter, and no
//! list is held. It stands against accidents, not against somebody who may write to the store.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use flate2::Crc;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, Stat};
use sha2::{Digest as _, Sha256};

use super::tree::{DIRECTORY, OPAQUE, stat};
use crate::artifact::{START, Start};
use crate::digest::Digest;

/// Files whose content is known without reading it again: below 5 MB of memory. The content of others is read.
const KNOWN: usize = 32 * 1024;

/// Wasm files of a layer that are listed; a layer with more is refused. Far above what images ship, and a few hundred kB.
pub(super) const LISTED: usize = 4096;

/// What a layer holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Survey {
    /// On the disk.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// Wasm files by path below the layer, with their digests; those with a name that is not UTF-8 cannot be asked for.
    pub(crate) wasm: Vec<(String, Digest)>,
    /// Nothing of the layers below is seen. Overlayfs does not look for this mark on a layer's root.
    pub(crate) opaque: bool,
    /// Summary of what the kernel says: inodes, sizes, times of change.
    pub(crate) stamps: String,
    /// Summary of types, owners, modes, links and content.
    pub(crate) content: String,
}

/// A file's content, short.
#[derive(Debug, Clone)]
enum Sum {
    /// Of what may be wasm; the name has a say in that, and a file may have several.
    Digest(Start, Digest),
    Crc(u32),
}

/// Content that passed by when it was written, by inode.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<u64, Sum>);

impl Known {
    /// A file with this digest and these first bytes.
    pub(crate) fn digest(&mut self, file: &File, start: &[u8], digest: &Digest) -> io::Result<()> {
        let start = Start::of(start);
        if start.may_be_wasm() {
            self.insert(rustix::fs::fstat(file)?.st_ino, Sum::Digest(start, digest.clone()));
        }
        Ok(())
    }

    pub(super) fn content(&mut self, file: &File, content: Summing) -> io::Result<()> {
        self.insert(rustix::fs::fstat(file)?.st_ino, content.finish());
        Ok(())
    }

    /// An inode may be freed and taken again: what was known of it is forgotten in any case.
    fn insert(&mut self, inode: u64, sum: Sum) {
        self.0.remove(&inode);
        if self.0.len() < KNOWN {
            self.0.insert(inode, sum);
        }
    }
}

/// Hashes a file's content as it passes; which hash, its first bytes say.
pub(super) struct Summing(Option<Hasher>);

enum Hasher {
    Digest(Start, Box<Sha256>),
    Other(Crc),
}

impl Summing {
    pub(super) fn new() -> Summing {
        Summing(None)
    }

    /// The first piece has at least the first [`START`] bytes, where there are as many.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        let hasher = self.0.get_or_insert_with(|| match Start::of(bytes.get(..START).unwrap_or(bytes)) {
            start if start.may_be_wasm() => Hasher::Digest(start, Box::default()),
            _ => Hasher::Other(Crc::new()),
        });
        match hasher {
            Hasher::Digest(_, hasher) => hasher.update(bytes),
            Hasher::Other(crc) => crc.update(bytes),
        }
    }

    fn finish(self) -> Sum {
        match self.0 {
            Some(Hasher::Digest(start, hasher)) => Sum::Digest(start, Digest::finish(*hasher)),
            Some(Hasher::Other(crc)) => Sum::Crc(crc.sum()),
            None => Sum::Crc(0),
        }
    }
}

/// A sum of hashes, in any order.
#[derive(Default)]
struct Total([u64; 2]);

impl Total {
    fn add(&mut self, hash: Sha256) {
        let hash = hash.finalize();
        for (sum, bytes) in self.0.iter_mut().zip(hash.chunks_exact(8)) {
            *sum = sum.wrapping_add(bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte)));
        }
    }

    fn text(&self) -> String {
        self.0.iter().map(|sum| format!("{sum:016x}")).collect()
    }
}

/// Looks at a finished layer; files that are not known are read.
pub(crate) fn survey(path: &Path, known: &Known) -> io::Result<Survey> {
    survey_of(&rustix::fs::openat(CWD, path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?, known)
}

pub(super) fn survey_of(root: &OwnedFd, known: &Known) -> io::Result<Survey> {
    let mut survey =
        Survey { opaque: rustix::fs::fgetxattr(root, OPAQUE, &mut [0u8; 1]).is_ok_and(|length| length > 0), ..Survey::default() };
    let mut walk = Walk {
        known: Some(known),
        survey: &mut survey,
        seen: HashMap::new(),
        stamps: Total::default(),
        content: Total::default(),
    };
    walk.one(root, Path::new(""), &rustix::fs::fstat(root)?, None)?;
    walk.directory(root, Path::new(""))?;
    (walk.survey.stamps, walk.survey.content) = (walk.stamps.text(), walk.content.text());
    survey.wasm.sort();
    Ok(survey)
}

/// The summary of what the kernel says about a layer's files. Reads none of them.
pub(crate) fn stamps(path: &Path) -> io::Result<String> {
    let root = rustix::fs::openat(CWD, path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    let mut ignored = Survey::default();
    let mut walk =
        Walk { known: None, survey: &mut ignored, seen: HashMap::new(), stamps: Total::default(), content: Total::default() };
    walk.one(&root, Path::new(""), &rustix::fs::fstat(&root)?, None)?;
    walk.directory(&root, Path::new(""))?;
    Ok(walk.stamps.text())
}

struct Walk<'a> {
    /// Nothing where only stamps are wanted.
    known: Option<&'a Known>,
    survey: &'a mut Survey,
    /// Files of several names, with their content: it is counted and read once.
    seen: HashMap<u64, Option<Sum>>,
    stamps: Total,
    content: Total,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &OwnedFd, path: &Path) -> io::Result<()> {
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let Some(found) = stat(directory, name)? else { continue };
            let below = path.join(name);
            self.one(directory, &below, &found, Some(name))?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                let inner = rustix::fs::openat(directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                self.directory(&inner, &below)?;
            }
        }
        Ok(())
    }

    /// Counts what `name` in `parent` is, or the root itself.
    fn one(&mut self, parent: &OwnedFd, path: &Path, found: &Stat, name: Option<&OsStr>) -> io::Result<()> {
        let kind = FileType::from_raw_mode(found.st_mode);
        let mut stamp = hash_of(path, found);
        // The sizes of directories are the file system's own business, and the root's time changes with its name.
        if let Some(_name) = name {
            stamp.update(found.st_ino.to_le_bytes());
            stamp.update(found.st_ctime.to_le_bytes());
            stamp.update(found.st_ctime_nsec.to_le_bytes());
        }
        self.stamps.add(stamp);
        let Some(known) = self.known else { return Ok(()) };

        let several = found.st_nlink > 1 && kind != FileType::Directory;
        let before = if several { self.seen.get(&found.st_ino).cloned() } else { None };
        if before.is_none() {
            self.survey.bytes += found.st_blocks as u64 * 512;
            self.survey.inodes += 1;
        }
        let mut content = hash_of(path, found);
        let mut sum = before.clone().flatten();
        match (kind, name) {
            (FileType::RegularFile, Some(name)) => {
                let file_sum = match (sum.take(), known.0.get(&found.st_ino)) {
                    (Some(sum), _) => sum,
                    (None, Some(sum)) => sum.clone(),
                    (None, None) => read(parent, name)?,
                };
                match &file_sum {
                    Sum::Digest(start, digest) => {
                        content.update(digest.as_str());
                        let is_wasm = start.is_wasm(path, u64::try_from(found.st_size).unwrap_or(u64::MAX));
                        if let Some(text) = path.to_str().filter(|_| is_wasm && self.survey.wasm.len() <= LISTED) {
                            self.survey.wasm.push((text.to_owned(), digest.clone()));
                        }
                    }
                    Sum::Crc(crc) => content.update(crc.to_le_bytes()),
                }
                sum = Some(file_sum);
            }
            (FileType::Symlink, Some(name)) => content.update(rustix::fs::readlinkat(parent, name, Vec::new())?.as_bytes()),
            _ => {}
        }
        self.content.add(content);
        if several {
            self.seen.insert(found.st_ino, sum);
        }
        Ok(())
    }
}

/// What both summaries have of a file.
fn hash_of(path: &Path, found: &Stat) -> Sha256 {
    let mut hash = Sha256::new();
    hash.update(path.as_os_str().as_bytes());
    hash.update([0]);
    for number in [found.st_mode, found.st_uid, found.st_gid] {
        hash.update(number.to_le_bytes());
    }
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        hash.update(found.st_size.to_le_bytes());
    }
    hash
}

fn read(parent: &OwnedFd, name: &OsStr) -> io::Result<Sum> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(parent, name, flags, Mode::empty())?);
    let mut summing = Summing::new();
    let mut buffer = vec![0; START];
    // A read of a regular file is short only at its end, so the first piece has the first bytes.
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(summing.finish());
        }
        summing.update(buffer.get(..count).unwrap_or_default());
    }
}
