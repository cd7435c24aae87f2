//! Opening a store that may have been left at any moment: what is whole is taken, what is nobody's is removed, and what
//! is broken is set aside and named.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::idle::Aside;
use super::records::{Record, Records};
use super::{Entry, State, Store};
use crate::code::{CodeCache, Compiler};
use crate::config::Config;
use crate::counts::Counts;
use crate::disk;
use crate::error::{DiskError, OpenError};
use crate::ingest::Ingest;
use crate::layer::{Layer, Layers};
use crate::partial::Partials;

/// Opens or makes the store; blocks.
pub(crate) fn open(config: &Config, compiler: Arc<dyn Compiler>) -> Result<Store, OpenError> {
    let root = &config.root;
    disk::make_dir(root)?;
    let lock = lock(root)?;
    let ingest = Ingest::open(root.join("ingest"))?;
    let blobs = root.join("blobs/sha256");
    let partials = Partials::open(root.join("partial"), config.keep_partials, config.unfinished_bytes)?;
    let layers = Layers::new(root.join("layers"), root.join("aside"), ingest.clone());
    for directory in [&blobs, layers.directory(), layers.aside()] {
        disk::make_dir(directory)?;
    }
    let empty = root.join("empty");
    std::fs::create_dir_all(&empty).map_err(|error| DiskError::new("make", &empty, error))?;
    let (counts, at_once) = (Arc::new(Counts::default()), config.max_parallel_compiles);
    let code = CodeCache::open(&root.join("compiled"), ingest.clone(), compiler, at_once, counts.clone())?;
    let records = Records::open(root.join("records"), ingest.clone())?;

    let mut known: HashMap<String, Arc<Layer>> = HashMap::new();
    let mut broken: HashMap<String, String> = HashMap::new();
    for name in disk::names(layers.directory())? {
        match layers.read(&name) {
            Ok(layer) => drop(known.insert(name, Arc::new(layer))),
            Err(error) => drop(broken.insert(name, error.to_string())),
        }
    }
    let loaded = records.load(|record| {
        let missing = record.image.layers.iter().find(|name| !known.contains_key(*name));
        match missing {
            None => Ok(()),
            Some(name) => Err(broken.get(name).cloned().unwrap_or_else(|| format!("its layer {name} is not there"))),
        }
    })?;
    discard_orphans(&loaded.records, &layers, &blobs, &code)?;
    known.retain(|name, _| loaded.records.iter().any(|record| record.image.layers.contains(name)));

    let aside = disk::names(layers.aside())?.into_iter().map(|entry| {
        let (bytes, inodes) = layers.aside_usage(&entry);
        Aside { entry, bytes, inodes }
    });
    let mut state = State { layers: known, aside: aside.collect(), ..State::default() };
    for record in loaded.records {
        let image = Arc::new(record.image.clone());
        let entry = Entry { record: Arc::new(record), image, holds: 0 };
        state.images.insert(entry.image.id.clone(), entry);
    }
    let names: BTreeMap<String, String> =
        loaded.names.into_iter().filter(|(_, id)| state.images.get(id).is_some_and(|entry| !entry.record.removed)).collect();
    state.set_names(names);
    Ok(Store {
        root: root.clone(),
        ingest,
        partials,
        layers,
        code,
        counts,
        set_aside: loaded.set_aside,
        blobs,
        empty,
        records,
        keep_idle: config.keep_layers,
        unfinished_bytes: config.unfinished_bytes,
        state: Mutex::new(state),
        changes: Mutex::new(()),
        _lock: lock,
    })
}

/// Held as long as the file is open, so a kill releases it.
fn lock(root: &Path) -> Result<File, OpenError> {
    let path = root.join("lock");
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(|error| DiskError::new("open", &path, error))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(OpenError::Locked { path: root.to_owned() }),
        Err(error) => Err(DiskError::new("lock", &path, error).into()),
    }
}

/// Layers, blobs and code that no record knows: pulls that did not come to their end.
fn discard_orphans(records: &[Record], layers: &Layers, blobs: &Path, code: &CodeCache) -> Result<(), DiskError> {
    for name in disk::names(layers.directory())? {
        if !records.iter().any(|record| record.image.layers.contains(&name)) {
            disk::remove(&layers.directory().join(name))?;
        }
    }
    for name in disk::names(blobs)? {
        if !records.iter().any(|record| record.blobs.iter().any(|digest| digest.hex() == name)) {
            disk::remove(&blobs.join(name))?;
        }
    }
    code.retain(|hex| {
        records.iter().any(|record| record.image.wasm.iter().any(|file| file.digest.strip_prefix("sha256:") == Some(hex)))
    })
}
