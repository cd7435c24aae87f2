//! Records on the disk: one JSON file per image, and one for all tags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Item;
use crate::digest::Digest;
use crate::disk;
use crate::error::DiskError;
use crate::image::Image;
use crate::ingest::Ingest;

const VERSION: u32 = 1;
const NAMES: &str = "names.json";

/// An image as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) version: u32,
    /// Invisible; kept for the containers that use it.
    pub(super) removed: bool,
    /// Its manifest, index and configuration.
    pub(super) blobs: Vec<Digest>,
    pub(super) image: Image,
}

impl Record {
    pub(super) fn new(image: Image, blobs: Vec<Digest>) -> Record {
        Record { version: VERSION, removed: false, blobs, image }
    }

    /// Keeps what was known of the same image.
    pub(super) fn merge(&mut self, old: &Record) {
        self.blobs.extend(old.blobs.iter().cloned());
        self.blobs.sort();
        self.blobs.dedup();
        self.image.pulled_at = old.image.pulled_at;
        // One that was removed comes back under the name that it was pulled by now, and no other.
        if !old.removed {
            self.image.repo_digests.extend(old.image.repo_digests.iter().cloned());
            self.image.repo_digests.sort();
            self.image.repo_digests.dedup();
        }
    }

    /// What the image uses on the disk.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> + use<> {
        let layers = self.image.layers.iter().cloned().map(Item::Layer);
        let blobs = self.blobs.iter().cloned().map(Item::Blob);
        let code = self.image.wasm.iter().filter_map(|file| Digest::parse(&file.digest).ok()).map(Item::Code);
        layers.chain(blobs).chain(code).collect::<Vec<_>>().into_iter()
    }

    pub(super) fn uses(&self, item: &Item) -> bool {
        match item {
            Item::Layer(name) => self.image.layers.contains(name),
            Item::Blob(digest) => self.blobs.contains(digest),
            Item::Code(digest) => self.image.wasm.iter().any(|file| file.digest == digest.as_str()),
        }
    }
}

/// The directory `records/`.
pub(super) struct Records {
    directory: PathBuf,
    ingest: Ingest,
}

/// What was found when the store was opened.
pub(super) struct Loaded {
    pub(super) records: Vec<Record>,
    pub(super) names: BTreeMap<String, String>,
    pub(super) set_aside: Vec<PathBuf>,
}

impl Records {
    pub(super) fn open(directory: PathBuf, ingest: Ingest) -> Result<Records, DiskError> {
        disk::make_dir(&directory)?;
        Ok(Records { directory, ingest })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{}.json", id.strip_prefix("sha256:").unwrap_or(id)))
    }

    pub(super) fn write(&self, record: &Record) -> Result<(), DiskError> {
        self.save(&self.path(&record.image.id), record)
    }

    pub(super) fn write_names(&self, names: &BTreeMap<String, String>) -> Result<(), DiskError> {
        self.save(&self.directory.join(NAMES), names)
    }

    fn save(&self, path: &Path, value: &impl Serialize) -> Result<(), DiskError> {
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| DiskError::new("write", path, error))?;
        disk::write_file(&self.ingest, path, &bytes)
    }

    pub(super) fn forget(&self, id: &str) -> Result<(), DiskError> {
        disk::remove(&self.path(id))
    }

    /// Reads everything. `check` says in a clause what a record lacks; a record that is broken is set aside.
    pub(super) fn load(&self, check: impl Fn(&Record) -> Result<(), String>) -> Result<Loaded, DiskError> {
        let mut loaded = Loaded { records: Vec::new(), names: BTreeMap::new(), set_aside: Vec::new() };
        for name in disk::names(&self.directory)? {
            let path = self.directory.join(&name);
            let Some(hex) = name.strip_suffix(".json") else { continue };
            if name == NAMES {
                match read(&path) {
                    Ok(names) => loaded.names = names,
                    Err(reason) => loaded.set_aside.push(set_aside(&path, &reason)?),
                }
                continue;
            }
            match read_record(&path, hex) {
                Err(reason) => loaded.set_aside.push(set_aside(&path, &reason)?),
                Ok(record) => match check(&record) {
                    Ok(()) => loaded.records.push(record),
                    // The rest of an image that was being removed.
                    Err(_) if record.removed => disk::remove(&path)?,
                    Err(reason) => loaded.set_aside.push(set_aside(&path, &reason)?),
                },
            }
        }
        Ok(loaded)
    }
}

fn read_record(path: &Path, hex: &str) -> Result<Record, String> {
    let record: Record = read(path)?;
    if record.version != VERSION {
        return Err(format!("version {} is not known", record.version));
    }
    if record.image.id != format!("sha256:{hex}") {
        return Err("it is about another image".to_owned());
    }
    Ok(record)
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn set_aside(path: &Path, reason: &str) -> Result<PathBuf, DiskError> {
    let aside = path.with_extension("broken");
    tracing::warn!(record = %path.display(), kept_as = %aside.display(), reason, "a broken image record is set aside; pull the image again");
    disk::rename(path, &aside)?;
    Ok(aside)
}
