//! Files that are whole or absent: written beside, synced, renamed, and the directory synced.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use crate::error::DiskError;
use crate::ingest::Ingest;

/// Makes a directory and those above it, for root alone: images may hold secrets.
pub(crate) fn make_dir(path: &Path) -> Result<(), DiskError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| DiskError::new("make", path, error))
}

/// After this, the names in a directory survive a power cut.
pub(crate) fn sync_dir(path: &Path) -> Result<(), DiskError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| DiskError::new("sync", path, error))
}

/// Writes a file so that at no moment its name leads to half of it.
pub(crate) fn write_file(ingest: &Ingest, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let mut temp = ingest.file()?;
    let written = temp.file.write_all(bytes).and_then(|()| temp.file.sync_all());
    written.map_err(|error| DiskError::new("write", temp.path(), error))?;
    rename(temp.path(), path)?;
    temp.keep();
    path.parent().map_or(Ok(()), sync_dir)
}

pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    fs::rename(from, to).map_err(|error| DiskError::new("rename to", to, error))
}

/// Removes a file, or a directory with what is in it; that it is not there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), DiskError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DiskError::new("remove", path, error)),
        _ => Ok(()),
    }
}

/// The names in a directory that are UTF-8, as all of ours are; none where it is not there.
pub(crate) fn names(path: &Path) -> Result<Vec<String>, DiskError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DiskError::new("list", path, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| DiskError::new("list", path, error))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Bytes on the disk and inodes of a directory's own files and of the directory; not of directories in it.
pub(crate) fn flat_usage(path: &Path) -> io::Result<(u64, u64)> {
    let own = fs::metadata(path)?;
    let (mut bytes, mut inodes) = (own.blocks() * 512, 1);
    for entry in fs::read_dir(path)? {
        // A file that went away meanwhile uses nothing.
        if let Ok(metadata) = entry?.metadata()
            && metadata.is_file()
        {
            bytes += metadata.blocks() * 512;
            inodes += 1;
        }
    }
    Ok((bytes, inodes))
}
