//! A part of an image as a volume (`mount.image` of the CRI): found and checked here, mounted read-only by who starts
//! the container.
//!
//! The kernel follows links when it mounts, and of the node's own tree if it is let; so what is given out is the path
//! without links, found in the layers as overlayfs will show them.

use std::path::{Component, Path, PathBuf};

use crate::error::LookupError;
use crate::files::{self, FileKind};
use crate::image::Image;

/// What is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageView {
    /// On this node: directories as overlayfs takes them, top first, or the one file. Never empty; a single one can be bound
    /// instead.
    pub places: Vec<PathBuf>,
    /// Where the view begins in the merged tree: absolute there, without links; `/` for all of it.
    pub path: PathBuf,
    /// What lies there: [`FileKind::Directory`], or a regular file's kind.
    pub kind: FileKind,
}

/// Resolves a sub path.
pub(crate) fn view(lower_dirs: &[PathBuf], image: &Image, sub_path: &str) -> Result<ImageView, LookupError> {
    let path = Path::new(sub_path);
    let refused = |reason| Err(LookupError::SubPath { path: path.to_owned(), reason });
    if sub_path.contains('\0') {
        return refused("it has a zero byte");
    }
    if path.is_absolute() {
        return refused("it is absolute; write it relative to the image's root");
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return refused("it has a .. in it");
    }
    let located = files::locate(lower_dirs, path)?;
    if !located.metadata.is_dir() && !located.metadata.is_file() {
        return refused("it leads to something that is neither a directory nor a regular file");
    }
    let kind = files::kind(&located, || image.wasm_at(&located.path).map(|file| file.digest.clone()))?;
    let below = located.path.strip_prefix("/").unwrap_or(&located.path);
    let places: Vec<PathBuf> = match kind {
        FileKind::Directory => {
            located.visible.iter().filter_map(|&layer| lower_dirs.get(layer)).map(|layer| layer.join(below)).collect()
        }
        _ => vec![located.host],
    };
    Ok(ImageView { places, path: located.path, kind })
}
