//! The directory for what is not finished: everything here is nobody's, and is removed when the store opens. What a
//! later try can go on from lies in `partial/`.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk;
use crate::error::DiskError;

/// Gives out names under `ingest/`; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Ingest {
    directory: Arc<Path>,
    /// One process has the store open and begins with an empty directory, so counting is enough.
    next: Arc<AtomicU64>,
}

/// A file that is removed when this is dropped, unless it was kept.
#[derive(Debug)]
pub(crate) struct TempFile {
    pub(crate) file: File,
    path: TempPath,
}

/// A name, of a file or a directory, whose content is removed when this is dropped, unless it was kept.
#[derive(Debug)]
pub(crate) struct TempPath {
    path: PathBuf,
    kept: bool,
}

impl Ingest {
    /// Clears the directory of what earlier processes left.
    pub(crate) fn open(directory: PathBuf) -> Result<Ingest, DiskError> {
        disk::make_dir(&directory)?;
        let left = disk::names(&directory)?;
        for name in &left {
            disk::remove(&directory.join(name))?;
        }
        if !left.is_empty() {
            tracing::info!(count = left.len(), "removed what interrupted pulls had left");
        }
        Ok(Ingest { directory: directory.into(), next: Arc::new(AtomicU64::new(0)) })
    }

    /// A name that is free.
    pub(crate) fn name(&self, suffix: &str) -> TempPath {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        TempPath { path: self.directory.join(format!("{number}{suffix}")), kept: false }
    }

    pub(crate) fn file(&self) -> Result<TempFile, DiskError> {
        let path = self.name("");
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path.path);
        let file = file.map_err(|error| DiskError::new("make", &path.path, error))?;
        Ok(TempFile { file, path })
    }

    pub(crate) fn directory(&self) -> Result<TempPath, DiskError> {
        let path = self.name("");
        let made = fs::DirBuilder::new().mode(0o700).create(&path.path);
        made.map_err(|error| DiskError::new("make", &path.path, error))?;
        Ok(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }
}

impl TempFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path.path
    }

    pub(crate) fn keep(self) {
        self.path.keep();
    }
}

impl TempPath {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It has been renamed away.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Err(error) = disk::remove(&self.path) {
            tracing::warn!(%error, "a temporary file stays until the store is opened again");
        }
    }
}
