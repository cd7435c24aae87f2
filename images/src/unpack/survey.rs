//! What a finished layer holds: its size on the disk, and its wasm files, found by looking into them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::tree::{DIRECTORY, OPAQUE, list, stat};
use crate::digest::Digest;

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
}

/// Counts a finished layer, without looking for wasm files.
pub(crate) fn measure(path: &Path) -> io::Result<Survey> {
    survey_of(&rustix::fs::openat(CWD, path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?, &HashSet::new())
}

/// Counts a finished layer and looks into the files whose inodes may be of wasm files.
pub(super) fn survey_of(root: &OwnedFd, candidates: &HashSet<u64>) -> io::Result<Survey> {
    let mut survey = Survey::default();
    let mut seen = HashSet::new();
    let own = rustix::fs::fstat(root)?;
    survey.bytes += own.st_blocks as u64 * 512;
    survey.inodes += 1;
    survey.opaque = rustix::fs::fgetxattr(root, OPAQUE, &mut [0u8; 1]).is_ok_and(|length| length > 0);
    walk(root, Path::new(""), candidates, &mut seen, &mut survey)?;
    survey.wasm.sort();
    Ok(survey)
}

fn walk(
    directory: &OwnedFd,
    path: &Path,
    candidates: &HashSet<u64>,
    seen: &mut HashSet<u64>,
    survey: &mut Survey,
) -> io::Result<()> {
    for name in list(directory)? {
        let Some(found) = stat(directory, &name)? else { continue };
        // A file with several names counts once.
        if found.st_nlink == 1 || FileType::from_raw_mode(found.st_mode) == FileType::Directory || seen.insert(found.st_ino) {
            survey.bytes += found.st_blocks as u64 * 512;
            survey.inodes += 1;
        }
        let below = path.join(&name);
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let inner = rustix::fs::openat(directory, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
                walk(&inner, &below, candidates, seen, survey)?;
            }
            FileType::RegularFile if candidates.contains(&found.st_ino) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = File::from(rustix::fs::openat(directory, &name, flags, Mode::empty())?);
                if let (Some(digest), Some(text)) = (wasm_digest(file)?, below.to_str()) {
                    survey.wasm.push((text.to_owned(), digest));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The digest of a file that begins as wasm does.
fn wasm_digest(mut file: File) -> io::Result<Option<Digest>> {
    let mut buffer = vec![0; 64 * 1024];
    let mut hasher = Sha256::new();
    let mut start = Vec::with_capacity(4);
    loop {
        let count = file.read(&mut buffer)?;
        let chunk = buffer.get(..count).unwrap_or_default();
        if chunk.is_empty() {
            break;
        }
        if start.len() < 4 {
            start.extend(chunk.iter().take(4 - start.len()));
            if start.len() == 4 && !crate::artifact::is_wasm(&start) {
                return Ok(None);
            }
        }
        hasher.update(chunk);
    }
    Ok((start.len() == 4).then(|| Digest::finish(hasher)))
}
