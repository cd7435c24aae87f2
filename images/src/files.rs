//! Files in an image, seen as overlayfs will show them, without mounting anything.
//!
//! The walk keeps, for the directory it is in, the layers that still show through there: upper ones first, down to the
//! first that is opaque or hidden. Links are followed inside the image, so nothing of the node is ever looked at.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use crate::artifact::{Start, is_named_text};
use crate::error::{DiskError, LookupError};
use crate::unpack::OPAQUE;

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// Where a path of an image leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The absolute path in the image, without links.
    pub path: PathBuf,
    /// What lies there.
    pub kind: FileKind,
}

/// What a file is, by its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    /// A wasm module or component; as text only where the file is named `.wat`.
    Wasm {
        /// `sha256:…`, for [`crate::Images::code`].
        digest: String,
    },
    /// A native executable, which is not for this runtime.
    Elf,
    /// Code that an engine has compiled from wasm. Never run, whoever made it: it would be as trusted as this program.
    Precompiled,
    /// It begins with `#!`.
    Script,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

impl FileKind {
    /// What a regular file's first bytes tell; `None`: a wasm binary.
    pub(crate) fn but_wasm(start: &[u8]) -> Option<FileKind> {
        match Start::of(start) {
            Start::Wasm => None,
            Start::Elf => Some(FileKind::Elf),
            Start::Precompiled => Some(FileKind::Precompiled),
            Start::Script => Some(FileKind::Script),
            Start::Text | Start::Other => Some(FileKind::Other),
        }
    }
}

/// A path resolved to where it lies on this node.
#[derive(Debug)]
pub(crate) struct Located {
    /// Absolute, in the image.
    pub(crate) path: PathBuf,
    /// On this node.
    pub(crate) host: PathBuf,
    /// Index into the layers, 0 is the top.
    pub(crate) layer: usize,
    /// Of a directory: all layers that show through there, top first.
    pub(crate) visible: Vec<usize>,
    pub(crate) metadata: Metadata,
}

/// A directory that the walk is in.
struct Level {
    name: OsString,
    visible: Vec<usize>,
}

/// Resolves `path` in the merged view of `layers`, top first. The last component is followed if it is a link.
pub(crate) fn locate(layers: &[PathBuf], path: &Path) -> Result<Located, LookupError> {
    let mut levels: Vec<Level> = Vec::new();
    let mut pending: VecDeque<OsString> = components(path).collect();
    let mut links = 0;
    while let Some(name) = pending.pop_front() {
        if name == ".." {
            levels.pop();
            continue;
        }
        let (visible, metadata) = step(layers, &levels, &name)?.ok_or_else(|| LookupError::NotFound { path: path.to_owned() })?;
        let top = visible.first().copied().unwrap_or(0);
        if metadata.is_dir() {
            levels.push(Level { name, visible });
        } else if metadata.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(LookupError::Loop { path: path.to_owned() });
            }
            let host = host_path(layers, &levels, top, Some(&name));
            let target = std::fs::read_link(&host).map_err(|error| DiskError::new("read", &host, error))?;
            if target.is_absolute() {
                levels.clear();
            }
            for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                pending.push_front(component);
            }
        } else if pending.is_empty() {
            let host = host_path(layers, &levels, top, Some(&name));
            let path = image_path(&levels).join(&name);
            return Ok(Located { path, host, layer: top, visible: Vec::new(), metadata });
        } else {
            return Err(LookupError::NotADirectory { path: path.to_owned() });
        }
    }
    let visible = levels.last().map_or_else(|| (0..layers.len()).collect(), |level| level.visible.clone());
    let layer = visible.first().copied().unwrap_or(0);
    let host = host_path(layers, &levels, layer, None);
    let metadata = std::fs::symlink_metadata(&host).map_err(|error| DiskError::new("read", &host, error))?;
    Ok(Located { path: image_path(&levels), host, layer, visible, metadata })
}

/// One name in the directory that the walk is in: the layers that have it, one unless it is a directory, and what the
/// topmost of them has.
fn step(layers: &[PathBuf], levels: &[Level], name: &OsStr) -> Result<Option<(Vec<usize>, Metadata)>, LookupError> {
    let all: Vec<usize>;
    let visible = match levels.last() {
        Some(level) => &level.visible,
        None => {
            all = (0..layers.len()).collect();
            &all
        }
    };
    let mut found: Option<(Vec<usize>, Metadata)> = None;
    for &layer in visible {
        let host = host_path(layers, levels, layer, Some(name));
        let metadata = match std::fs::symlink_metadata(&host) {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            // A name that is too long for the file system is in no image.
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => return Ok(None),
            Err(error) => return Err(DiskError::new("read", &host, error).into()),
        };
        let whiteout = metadata.file_type().is_char_device() && metadata.rdev() == 0;
        if whiteout || (found.is_some() && !metadata.is_dir()) {
            break;
        }
        let (is_dir, opaque) = (metadata.is_dir(), metadata.is_dir() && is_opaque(&host));
        match &mut found {
            Some((layers, _)) => layers.push(layer),
            None => found = Some((vec![layer], metadata)),
        }
        if !is_dir || opaque {
            break;
        }
    }
    Ok(found)
}

fn is_opaque(directory: &Path) -> bool {
    let mut value = [0u8; 1];
    matches!(rustix::fs::lgetxattr(directory, OPAQUE, &mut value), Ok(1) if value == *b"y")
}

fn components(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn host_path(layers: &[PathBuf], levels: &[Level], layer: usize, name: Option<&OsStr>) -> PathBuf {
    let mut path = layers.get(layer).cloned().unwrap_or_default();
    path.extend(levels.iter().map(|level| &level.name));
    path.extend(name);
    path
}

fn image_path(levels: &[Level]) -> PathBuf {
    let mut path = PathBuf::from("/");
    path.extend(levels.iter().map(|level| &level.name));
    path
}

/// What the file is; `digest` is asked where it is wasm.
pub(crate) fn kind(located: &Located, digest: impl FnOnce() -> Option<String>) -> Result<FileKind, LookupError> {
    if located.metadata.is_dir() {
        return Ok(FileKind::Directory);
    }
    if !located.metadata.is_file() {
        return Ok(FileKind::Other);
    }
    let start = read_start(located, &located.path, 8)?;
    // Text was looked at as a whole when the layer was unpacked.
    let kind = FileKind::but_wasm(&start).filter(|_| !is_named_text(&located.path));
    Ok(kind.unwrap_or_else(|| digest().map_or(FileKind::Other, |digest| FileKind::Wasm { digest })))
}

/// The first bytes of a regular file, at most `length`.
pub(crate) fn read_start(located: &Located, path: &Path, length: u64) -> Result<Vec<u8>, LookupError> {
    if !located.metadata.is_file() {
        return Err(LookupError::NotAFile { path: path.to_owned() });
    }
    let mut start = Vec::new();
    let read = File::open(&located.host).and_then(|file| file.take(length).read_to_end(&mut start));
    read.map_err(|error| DiskError::new("read", &located.host, error))?;
    Ok(start)
}

/// The content of a regular file of at most `cap` bytes.
pub(crate) fn read(located: &Located, path: &Path, cap: u64) -> Result<Vec<u8>, LookupError> {
    if !located.metadata.is_file() {
        return Err(LookupError::NotAFile { path: path.to_owned() });
    }
    if located.metadata.len() > cap {
        return Err(LookupError::TooLarge { path: path.to_owned(), cap });
    }
    Ok(std::fs::read(&located.host).map_err(|error| DiskError::new("read", &located.host, error))?)
}
