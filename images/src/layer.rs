//! Layers: finished directories under `layers/<name>/`, with `fs/` for overlayfs and `layer.json` about it.
//!
//! A layer of an image is named after its diff-id, which is checked while it is unpacked; so images share layers, and
//! none can put its files under another's name. The compressed blob is not kept: its digest is checked on the way, and
//! on a small disk it would be the larger half.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::artifact;
use crate::config::Limits;
use crate::digest::Digest;
use crate::disk;
use crate::error::DiskError;
use crate::ingest::{Ingest, TempFile, TempPath};
use crate::unpack::{self, Survey, UnpackError};

const VERSION: u32 = 1;
const RECORD: &str = "layer.json";

/// What is known about a layer on the disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Layer {
    version: u32,
    /// On the disk, of `fs/` and all in it.
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    /// By path below `fs/`.
    pub(crate) wasm: Vec<(String, Digest)>,
    /// Hides every layer below it.
    pub(crate) opaque: bool,
}

/// The directory `layers/`.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    directory: PathBuf,
    ingest: Ingest,
}

impl Layers {
    pub(crate) fn new(directory: PathBuf, ingest: Ingest) -> Layers {
        Layers { directory, ingest }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What overlayfs takes.
    pub(crate) fn fs(&self, name: &str) -> PathBuf {
        self.directory.join(name).join("fs")
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.directory.join(name).join(RECORD).exists() && self.fs(name).exists()
    }

    /// Reads the record of a finished layer; the sizes are then those of its whole directory.
    pub(crate) fn read(&self, name: &str) -> Result<Layer, DiskError> {
        let directory = self.directory.join(name);
        let path = directory.join(RECORD);
        let failed = |error: std::io::Error| DiskError::new("read", &path, error);
        let mut layer: Layer = serde_json::from_slice(&fs::read(&path).map_err(failed)?).map_err(|error| failed(error.into()))?;
        if layer.version != VERSION {
            return Err(failed(std::io::Error::other(format!("version {} is not known", layer.version))));
        }
        fs::metadata(directory.join("fs")).map_err(failed)?;
        let (bytes, inodes) = disk::flat_usage(&directory).map_err(failed)?;
        layer.bytes += bytes;
        layer.inodes += inodes;
        Ok(layer)
    }

    /// Unpacks a layer's archive and gives it its name.
    pub(crate) fn install_archive(
        &self,
        name: &str,
        archive: File,
        diff_id: &Digest,
        limits: &Limits,
        cancelled: &AtomicBool,
    ) -> Result<Layer, UnpackError> {
        let temp = self.begin().map_err(UnpackError::Disk)?;
        let survey = unpack::unpack(archive, &temp.path().join("fs"), diff_id, limits, cancelled)?;
        self.finish(name, temp, survey).map_err(UnpackError::Disk)
    }

    /// Makes the layer of a bare artifact: one file, which is already checked.
    pub(crate) fn install_module(
        &self,
        name: &str,
        file_name: &str,
        mut module: TempFile,
        digest: &Digest,
    ) -> Result<Layer, DiskError> {
        let temp = self.begin()?;
        let fs_path = temp.path().join("fs");
        let path = fs_path.join(file_name);
        let failed = |error: std::io::Error| DiskError::new("write", &path, error);
        let mut start = Vec::with_capacity(4);
        module.file.rewind().map_err(failed)?;
        (&module.file).take(4).read_to_end(&mut start).map_err(failed)?;
        // Executable for all, as what a container runs is; the guest's user need not own it.
        module.file.set_permissions(fs::Permissions::from_mode(0o755)).map_err(failed)?;
        module.file.sync_all().map_err(failed)?;
        disk::rename(module.path(), &path)?;
        module.keep();
        disk::sync_dir(&fs_path)?;
        let mut survey = unpack::measure(&fs_path).map_err(|error| DiskError::new("read", &fs_path, error))?;
        if artifact::is_wasm(&start) {
            survey.wasm.push((file_name.to_owned(), digest.clone()));
        }
        self.finish(name, temp, survey)
    }

    fn begin(&self) -> Result<TempPath, DiskError> {
        let temp = self.ingest.directory()?;
        let path = temp.path().join("fs");
        let made = fs::create_dir(&path).and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
        made.map_err(|error| DiskError::new("make", &path, error))?;
        Ok(temp)
    }

    fn finish(&self, name: &str, temp: TempPath, survey: Survey) -> Result<Layer, DiskError> {
        let layer =
            Layer { version: VERSION, bytes: survey.bytes, inodes: survey.inodes, wasm: survey.wasm, opaque: survey.opaque };
        let record = temp.path().join(RECORD);
        let bytes = serde_json::to_vec(&layer).map_err(|error| DiskError::new("write", &record, error))?;
        disk::write_file(&self.ingest, &record, &bytes)?;
        let path = self.directory.join(name);
        // What is there under this name is not in use, or its record could not be read.
        disk::remove(&path)?;
        disk::rename(temp.path(), &path)?;
        temp.keep();
        disk::sync_dir(&self.directory)?;
        self.read(name)
    }
}
