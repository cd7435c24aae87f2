//! Unpacking a layer: an archive that nobody vouches for becomes a directory that overlayfs can take.
//!
//! What an entry may do, whatever the order of the entries:
//! - it is made below the layer's directory, by descriptor and `openat2`; a name with `..` is refused;
//! - regular files, directories, symbolic and hard links are made; owners, times and modes are kept, without the
//!   setuid and setgid bits of files; of extended attributes `user.*` are kept, no others, since they could be
//!   overlayfs's own or grant capabilities;
//! - device nodes and FIFOs are left out: a guest has no use for them, and a 0/0 device would be a whiteout;
//! - `.wh.NAME` becomes overlayfs's whiteout and `.wh..wh..opq` its opaque mark; both say something about lower layers
//!   only, so what this layer itself has under the name stays.
//!
//! Directories that the archive does not name are made as 0755 of root.
//!
//! The archive is read as it comes, also while it is still arriving. How much it may become is capped in bytes, in
//! entries, and in proportion to what was read of it ([`Limits::ratio`]).

mod meter;
mod survey;
mod tree;
mod xattr;

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use tar::EntryType;

use crate::config::Limits;
use crate::digest::Digest;
use crate::error::DiskError;
use meter::{Counted, Gauge, Meter, Stop};
use survey::Summing;
pub(crate) use survey::{Known, Survey, stamps, survey};
pub(crate) use tree::OPAQUE;
use tree::{Attributes, Tree};

/// Bytes that a decoder's window may take: what the zstd specification asks every decoder to support.
const ZSTD_WINDOW_LOG: u32 = 23;
/// Bytes of the headers of one entry, long names and extended attributes included.
const HEADER_BYTES: u64 = 1 << 20;
const COPY_BYTES: usize = 128 * 1024;

/// Why a layer was not unpacked; clauses, to which the pull adds the reference.
#[derive(Debug, Clone)]
pub(crate) enum UnpackError {
    Invalid(String),
    TooLarge { what: String, limit: u64, option: &'static str },
    DiffId { expected: String, actual: String },
    Cancelled,
    Disk(DiskError),
}

/// Unpacks the archive `blob`, compressed or not, into the empty directory `into`, and checks its diff-id: the digest
/// of the archive without its compression.
pub(crate) fn unpack(
    blob: impl Read,
    into: &Path,
    diff_id: &Digest,
    limits: &Limits,
    cancelled: &AtomicBool,
) -> Result<Survey, UnpackError> {
    let disk = |error: io::Error| UnpackError::Disk(DiskError::new("unpack into", into, error));
    let gauge = Gauge::new(limits.unpacked_bytes.saturating_add(limits.entries.saturating_mul(4096)), limits.ratio);
    let mut blob = BufReader::with_capacity(64 * 1024, Counted::new(blob, &gauge));
    let start = match blob.fill_buf() {
        Err(_) if cancelled.load(Ordering::Relaxed) => return Err(UnpackError::Cancelled),
        start => start.map_err(disk)?,
    };
    let decoded: Box<dyn Read> = if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(blob))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(blob).map_err(disk)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(disk)?;
        Box::new(decoder)
    } else {
        Box::new(blob)
    };
    let mut archive = tar::Archive::new(Meter::new(decoded, &gauge, cancelled));
    let mut tree = Tree::open(into, limits.depth).map_err(disk)?;
    let unpacked = entries(&mut archive, &mut tree, &gauge, limits);
    let actual = unpacked.and_then(|()| archive.into_inner().finish().map_err(broken));
    let actual = actual.map_err(|error| match gauge.stopped() {
        // The reader below the decoder gave up first.
        None if cancelled.load(Ordering::Relaxed) => UnpackError::Cancelled,
        None => error,
        Some(Stop::Cancelled) => UnpackError::Cancelled,
        Some(Stop::Header) => UnpackError::Invalid(format!("the headers of an entry are above {HEADER_BYTES} bytes")),
        Some(Stop::Total) => too_large("the unpacked layer", limits.unpacked_bytes, "max_unpacked_bytes"),
        Some(Stop::Ratio) => too_large("the number of bytes that one byte unpacks to", limits.ratio, "max_ratio"),
    })?;
    if actual != *diff_id {
        return Err(UnpackError::DiffId { expected: diff_id.to_string(), actual: actual.to_string() });
    }
    let survey = tree.finish().map_err(disk)?;
    let most = limits.modules.min(survey::LISTED);
    if survey.wasm.len() > most {
        return Err(too_large("the number of a layer's wasm files", most as u64, "max_modules"));
    }
    Ok(survey)
}

fn entries<R: Read>(archive: &mut tar::Archive<R>, tree: &mut Tree, gauge: &Gauge, limits: &Limits) -> Result<(), UnpackError> {
    let mut entries = archive.entries().map_err(broken)?;
    let (mut count, mut bytes) = (0u64, 0u64);
    loop {
        // The archive reader holds long names in memory, as long as they say they are.
        gauge.begin_header(HEADER_BYTES);
        let Some(entry) = entries.next() else { return Ok(()) };
        let mut entry = entry.map_err(broken)?;
        gauge.end_header();

        count += 1;
        if count > limits.entries {
            return Err(too_large("the number of a layer's entries", limits.entries, "max_entries"));
        }
        bytes = bytes.saturating_add(entry.size());
        if bytes > limits.unpacked_bytes {
            return Err(too_large("the unpacked layer", limits.unpacked_bytes, "max_unpacked_bytes"));
        }
        place(&mut entry, tree, gauge, limits)?;
        // What place() has not read is read here, outside the header's allowance.
        io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
    }
}

fn place<R: Read>(entry: &mut tar::Entry<'_, R>, tree: &mut Tree, gauge: &Gauge, limits: &Limits) -> Result<(), UnpackError> {
    let raw = entry.path_bytes().into_owned();
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let path = clean(&raw, limits)?;
    let name = path.file_name().map(OsStr::as_bytes).unwrap_or_default();
    let attributes = attributes(entry)?;
    let at = |error: io::Error| entry_error(&path, error);

    if let Some(hidden) = name.strip_prefix(b".wh.") {
        let parent = path.parent().unwrap_or(Path::new(""));
        return match hidden {
            b".wh..opq" => tree.opaque(parent).map_err(at),
            // Other marks of aufs, which overlayfs has no use for.
            _ if hidden.starts_with(b".wh.") => Ok(()),
            b"" | b"." | b".." => Err(UnpackError::Invalid(format!("the entry {path:?} hides no file"))),
            hidden => tree.whiteout(&parent.join(OsStr::from_bytes(hidden))).map_err(at),
        };
    }
    match kind {
        EntryType::Directory => tree.directory(&path, &attributes).map_err(at),
        // Archives from before POSIX.
        EntryType::Regular if raw.ends_with(b"/") => tree.directory(&path, &attributes).map_err(at),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => regular(entry, tree, gauge, &path, &attributes),
        EntryType::Symlink => {
            let target = link_target(entry, &path)?;
            tree.symlink(&path, &target, &attributes).map_err(at)
        }
        EntryType::Link => {
            let target = clean(link_target(entry, &path)?.as_os_str().as_bytes(), limits)?;
            tree.hard_link(&path, &target).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    UnpackError::Invalid(format!("the entry {path:?} is a hard link to {target:?}, which is not in the layer"))
                }
                _ => at(error),
            })
        }
        _ => {
            tracing::debug!(?path, ?kind, "an entry that is no file, directory or link was left out");
            Ok(())
        }
    }
}

fn regular<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    tree: &mut Tree,
    gauge: &Gauge,
    path: &Path,
    attributes: &Attributes,
) -> Result<(), UnpackError> {
    use std::io::Write as _;

    let at = |error: io::Error| entry_error(path, error);
    let mut file = tree.file(path).map_err(at)?;
    let mut buffer = vec![0; COPY_BYTES.min(usize::try_from(entry.size()).unwrap_or(COPY_BYTES)).max(8)];
    let mut summing = Summing::new();
    loop {
        // Whole buffers, so that the first one has the file's first bytes together.
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match entry.read(rest).map_err(broken)? {
                0 => break,
                count => filled += count,
            }
        }
        let chunk = buffer.get(..filled).unwrap_or_default();
        if chunk.is_empty() {
            break;
        }
        // The holes of a sparse file are no bytes of the archive, but are some of the disk.
        gauge.wrote(chunk.len() as u64).map_err(broken)?;
        summing.update(chunk);
        file.write_all(chunk).map_err(at)?;
    }
    tree.complete(&file, attributes, summing).map_err(at)
}

fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Attributes, UnpackError> {
    let xattrs = xattr::of(entry);
    let header = entry.header();
    // An empty number is 0, as GNU tar and Go's archive/tar read it.
    let is_blank = |field: &[u8]| field.iter().all(|byte| matches!(byte, 0 | b' '));
    let fields = header.as_old();
    // All bits set means to the kernel that the owner is not to be changed.
    let id = |field: &[u8], value: io::Result<u64>| match value {
        _ if is_blank(field) => Some(0),
        value => value.ok().and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX),
    };
    let mode = if is_blank(&fields.mode) { Ok(0) } else { header.mode() };
    let (Some(uid), Some(gid), Ok(mode)) = (id(&fields.uid, header.uid()), id(&fields.gid, header.gid()), mode) else {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        return Err(UnpackError::Invalid(format!("the entry {path:?} has no usable owner or mode")));
    };
    let mtime = header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0);
    Ok(Attributes { uid, gid, mode, mtime, xattrs })
}

fn link_target<R: Read>(entry: &tar::Entry<'_, R>, path: &Path) -> Result<PathBuf, UnpackError> {
    match entry.link_name_bytes() {
        Some(target) if !target.is_empty() && !target.contains(&0) => Ok(PathBuf::from(OsStr::from_bytes(&target))),
        _ => Err(UnpackError::Invalid(format!("the entry {path:?} is a link to nothing"))),
    }
}

/// A name of the archive as a path below the layer: without leading slashes and dots, never with `..`.
fn clean(raw: &[u8], limits: &Limits) -> Result<PathBuf, UnpackError> {
    let shown = || String::from_utf8_lossy(raw.get(..200).unwrap_or(raw)).into_owned();
    if raw.len() > limits.path_bytes {
        return Err(too_large(&format!("the length of the path {:?}", shown()), limits.path_bytes as u64, "max_path_bytes"));
    }
    let mut path = PathBuf::new();
    let mut depth = 0;
    for component in raw.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(UnpackError::Invalid(format!("the entry {:?} leads out of its directory with ..", shown()))),
            component if component.contains(&0) => {
                return Err(UnpackError::Invalid(format!("the entry {:?} has a NUL in its name", shown())));
            }
            component => {
                path.push(OsStr::from_bytes(component));
                depth += 1;
            }
        }
    }
    if depth > limits.depth {
        return Err(too_large(&format!("the depth of the path {:?}", shown()), limits.depth as u64, "depth"));
    }
    Ok(path)
}

fn too_large(what: &str, limit: u64, option: &'static str) -> UnpackError {
    UnpackError::TooLarge { what: what.to_owned(), limit, option }
}

fn broken(error: io::Error) -> UnpackError {
    UnpackError::Invalid(format!("the archive is broken: {error}"))
}

/// Tells the disk's failures from the archive's.
fn entry_error(path: &Path, error: io::Error) -> UnpackError {
    const ARCHIVE: [Errno; 9] = [
        Errno::NOTDIR,
        Errno::LOOP,
        Errno::NAMETOOLONG,
        Errno::EXIST,
        Errno::NOENT,
        Errno::INVAL,
        Errno::ISDIR,
        Errno::XDEV,
        Errno::MLINK,
    ];
    match Errno::from_io_error(&error) {
        Some(errno) if ARCHIVE.contains(&errno) => UnpackError::Invalid(format!("the entry {path:?} cannot be made: {error}")),
        _ => UnpackError::Disk(DiskError::new("unpack", path, error)),
    }
}

#[cfg(test)]
mod tests;
