//! Layers: finished directories under `layers/<name>/`, with `fs/` for overlayfs and `layer.json` about it.
//!
//! A layer of an image is named after its diff-id, which is checked while it is unpacked; so images share layers, and
//! none can put its files under another's name. The compressed blob is not kept: its digest is checked on the way, and
//! on a small disk it would be the larger half.
//!
//! A layer that is here is looked at before a pull takes it. Two summaries were written down when it was made: one of
//! what the kernel says of each file, above all when it was changed last, which is compared with a walk through the
//! tree that reads no file; and one of the content. Where the first differs, as after a copy of the store to another
//! disk, the second decides, and the first is written anew. So a file that was changed, cut, removed or added is
//! noticed. Bytes that a disk gives back wrong without anybody having written them are not seen by the first; they are
//! when a wasm file is compiled, and then the next pull reads the whole layer ([`crate::CodeError::Damaged`]).
//!
//! A damaged layer is replaced in one step. Running containers still have the old tree mounted, so that goes to
//! `aside/`, and from there when none holds the image.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::artifact;
use crate::config::Limits;
use crate::digest::Digest;
use crate::disk;
use crate::error::DiskError;
use crate::ingest::{Ingest, TempPath};
use crate::unpack::{self, Known, Survey, UnpackError};

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
    /// Of each file's inode, size and time of change. Empty in records from before there were summaries.
    #[serde(default)]
    stamps: String,
    /// Of each file's attributes and content.
    #[serde(default)]
    content: String,
}

/// What a look at a layer gave.
pub(crate) enum Check {
    Whole,
    /// The files are others with the same content.
    Stamped(Layer),
    Damaged(String),
}

/// The directories `layers/` and `aside/`.
#[derive(Debug, Clone)]
pub(crate) struct Layers {
    directory: PathBuf,
    aside: PathBuf,
    ingest: Ingest,
}

impl Layers {
    pub(crate) fn new(directory: PathBuf, aside: PathBuf, ingest: Ingest) -> Layers {
        Layers { directory, aside, ingest }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What was replaced: `<name>.<number>`.
    pub(crate) fn aside(&self) -> &Path {
        &self.aside
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
        read(&self.directory.join(name))
    }

    /// What was replaced of this name.
    pub(crate) fn aside_of(&self, name: &str) -> Vec<String> {
        let mut entries = disk::names(&self.aside).unwrap_or_default();
        entries.retain(|entry| entry.split('.').next() == Some(name));
        entries
    }

    /// Bytes and inodes of what was replaced, as far as its record can be read.
    pub(crate) fn aside_usage(&self, entry: &str) -> (u64, u64) {
        read(&self.aside.join(entry)).map_or((0, 0), |layer| (layer.bytes, layer.inodes))
    }

    /// Whether a layer is what was made; `closely`: every file is read.
    pub(crate) fn check(&self, name: &str, layer: &Layer, closely: bool) -> Check {
        let path = self.fs(name);
        let stamps = unpack::stamps(&path);
        if !closely && matches!(&stamps, Ok(stamps) if *stamps == layer.stamps) {
            return Check::Whole;
        }
        let survey = match unpack::survey(&path, &Known::default()) {
            Ok(survey) => survey,
            Err(error) => return Check::Damaged(error.to_string()),
        };
        if survey.content != layer.content {
            return Check::Damaged("its files are not those that were unpacked".to_owned());
        }
        if survey.stamps == layer.stamps {
            return Check::Whole;
        }
        let stamped = Layer { stamps: survey.stamps, ..layer.clone() };
        match self.write_again(name, &stamped.stamps) {
            Ok(()) => Check::Stamped(stamped),
            Err(error) => {
                tracing::warn!(%error, "a layer is looked at closely again by the next pull");
                Check::Whole
            }
        }
    }

    /// The sizes in memory have the directory's own added, those on the disk have not.
    fn write_again(&self, name: &str, stamps: &str) -> Result<(), DiskError> {
        let path = self.directory.join(name).join(RECORD);
        let mut record = read_record(&path)?;
        stamps.clone_into(&mut record.stamps);
        write_record(&self.ingest, &path, &record)
    }

    /// Unpacks a layer's archive and gives it its name, where `verified` says that the archive was the right one.
    pub(crate) fn install_archive(
        &self,
        name: &str,
        archive: impl Read,
        diff_id: &Digest,
        limits: &Limits,
        cancelled: &AtomicBool,
        verified: impl FnOnce() -> bool,
    ) -> Result<Layer, UnpackError> {
        let temp = self.begin().map_err(UnpackError::Disk)?;
        let survey = unpack::unpack(archive, &temp.path().join("fs"), diff_id, limits, cancelled)?;
        if !verified() {
            return Err(UnpackError::Cancelled);
        }
        self.finish(name, temp, survey).map_err(UnpackError::Disk)
    }

    /// Makes the layer of a bare artifact: one file, which is already checked. It is renamed into the layer.
    pub(crate) fn install_module(&self, name: &str, file_name: &str, module: &Path, digest: &Digest) -> Result<Layer, DiskError> {
        let temp = self.begin()?;
        let fs_path = temp.path().join("fs");
        let path = fs_path.join(file_name);
        let failed = |error: std::io::Error| DiskError::new("write", &path, error);
        disk::rename(module, &path)?;
        let file = File::open(&path).map_err(failed)?;
        let mut start = Vec::new();
        (&file).take(artifact::START as u64).read_to_end(&mut start).map_err(failed)?;
        // Executable for all, as what a container runs is; the guest's user need not own it.
        file.set_permissions(fs::Permissions::from_mode(0o755)).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        disk::sync_dir(&fs_path)?;
        let mut known = Known::default();
        known.digest(&file, &start, digest).map_err(failed)?;
        let survey = unpack::survey(&fs_path, &known).map_err(|error| DiskError::new("read", &fs_path, error))?;
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
        let layer = Layer {
            version: VERSION,
            bytes: survey.bytes,
            inodes: survey.inodes,
            wasm: survey.wasm,
            opaque: survey.opaque,
            stamps: survey.stamps,
            content: survey.content,
        };
        write_record(&self.ingest, &temp.path().join(RECORD), &layer)?;
        let path = self.directory.join(name);
        match rustix::fs::renameat_with(CWD, temp.path(), CWD, &path, RenameFlags::EXCHANGE) {
            // What was there may be mounted.
            Ok(()) => self.put_aside(name, temp.path())?,
            Err(Errno::NOENT) => disk::rename(temp.path(), &path)?,
            // Not every file system can exchange.
            Err(_) => {
                if path.exists() {
                    self.put_aside(name, &path)?;
                }
                disk::rename(temp.path(), &path)?;
            }
        }
        temp.keep();
        disk::sync_dir(&self.directory)?;
        self.read(name)
    }

    fn put_aside(&self, name: &str, from: &Path) -> Result<(), DiskError> {
        let free = (0u64..).map(|number| self.aside.join(format!("{name}.{number}"))).find(|path| !path.exists());
        free.map_or(Ok(()), |path| disk::rename(from, &path))
    }
}

fn read(directory: &Path) -> Result<Layer, DiskError> {
    let path = directory.join(RECORD);
    let failed = |error: std::io::Error| DiskError::new("read", &path, error);
    let mut layer = read_record(&path)?;
    if layer.version != VERSION {
        return Err(failed(std::io::Error::other(format!("version {} is not known", layer.version))));
    }
    fs::metadata(directory.join("fs")).map_err(failed)?;
    let (bytes, inodes) = disk::flat_usage(directory).map_err(failed)?;
    layer.bytes += bytes;
    layer.inodes += inodes;
    Ok(layer)
}

fn read_record(path: &Path) -> Result<Layer, DiskError> {
    let failed = |error: std::io::Error| DiskError::new("read", path, error);
    serde_json::from_slice(&fs::read(path).map_err(failed)?).map_err(|error| failed(error.into()))
}

fn write_record(ingest: &Ingest, path: &Path, layer: &Layer) -> Result<(), DiskError> {
    let bytes = serde_json::to_vec(layer).map_err(|error| DiskError::new("write", path, error))?;
    disk::write_file(ingest, path, &bytes)
}
