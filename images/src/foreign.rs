//! Code for wasm files that no image brought: what lies in volumes, and what containers have written.
//!
//! Such a file may change at any moment, and code under a digest is given to everybody who has a file of that digest. So
//! what is compiled is a copy of ours that has the digest. A file that was looked at before and has not changed since is
//! not read again.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::api::{Images, Inner};
use crate::code::Code;
use crate::digest::Digest;
use crate::error::{CodeError, DiskError};
use crate::files::FileKind;
use crate::stamp::Stamp;
use crate::store::{Item, Pins};

/// Largest such file, in bytes. The largest programs that are shipped as wasm have 75 MB.
const MAX_BYTES: u64 = 512 << 20;

/// Files that are remembered, and whose code is kept while they are; the oldest is forgotten first.
const FILES: usize = 256;

/// The files that were looked at, oldest first.
#[derive(Default)]
pub(crate) struct Foreign(Mutex<VecDeque<Known>>);

struct Known {
    stamp: Stamp,
    digest: Digest,
    /// Keep its code, once there is any.
    pins: Option<Arc<Pins>>,
}

impl Foreign {
    fn digest(&self, stamp: &Stamp) -> Option<Digest> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|file| file.stamp == *stamp).map(|file| file.digest.clone())
    }

    fn remember(&self, stamp: Stamp, digest: Digest) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = if known.len() >= FILES { known.pop_front() } else { None };
        known.push_back(Known { stamp, digest, pins: None });
        drop(known);
        // Its pins may delete code, which takes other locks.
        drop(forgotten);
    }

    fn keep(&self, digest: &Digest, pins: &Arc<Pins>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for file in known.iter_mut().filter(|file| file.digest == *digest && file.pins.is_none()) {
            file.pins = Some(pins.clone());
        }
    }
}

impl Images {
    /// What an open file is, by its first bytes. Blocks, for a wasm file that was not looked at before as long as reading it
    /// takes.
    ///
    /// # Errors
    /// The file cannot be read, or is wasm and larger than 512 MiB.
    pub fn examine(&self, file: &File) -> io::Result<FileKind> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Ok(FileKind::Directory);
        }
        if !metadata.is_file() {
            return Ok(FileKind::Other);
        }
        let mut start = Vec::with_capacity(8);
        ReadAt { file, offset: 0 }.take(8).read_to_end(&mut start)?;
        Ok(match FileKind::but_wasm(&start) {
            Some(kind) => kind,
            None => FileKind::Wasm { digest: self.digest(file, &metadata)?.to_string() },
        })
    }

    fn digest(&self, file: &File, metadata: &Metadata) -> io::Result<Digest> {
        let stamp = Stamp::of(metadata);
        if let Some(digest) = self.inner().foreign.digest(&stamp) {
            return Ok(digest);
        }
        if metadata.len() > MAX_BYTES {
            let text = format!("the file has {} bytes, more than the {MAX_BYTES} that are compiled", metadata.len());
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let mut hasher = Sha256::new();
        io::copy(&mut ReadAt { file, offset: 0 }.take(MAX_BYTES), &mut hasher)?;
        let digest = Digest::finish(hasher);
        // It may have been written to meanwhile.
        if Stamp::of(&file.metadata()?) == stamp {
            self.inner().foreign.remember(stamp, digest.clone());
        }
        Ok(digest)
    }

    /// Code for an open wasm file of the digest that [`Images::examine`] told: from the cache, else compiled now.
    ///
    /// # Errors
    /// As [`Images::code`]; [`CodeError::Damaged`] where the file has changed meanwhile.
    pub async fn code_of_file(&self, wasm_digest: &str, file: File, path: &Path) -> Result<Code, CodeError> {
        let inner = self.inner().clone();
        if inner.store.with_wasm(wasm_digest).is_some() {
            return self.code(wasm_digest).await;
        }
        let digest = Digest::parse(wasm_digest).map_err(|_| CodeError::Unknown { digest: wasm_digest.to_owned() })?;
        let pins = Pins::new(&inner.store);
        pins.add(Item::Code(digest.clone()));
        let pins = Arc::new(pins);
        let code = match inner.store.code.cached(digest.clone()).await? {
            Some(code) => code,
            None => compile(&inner, &digest, file, path, &pins).await?,
        };
        inner.foreign.keep(&digest, &pins);
        Ok(code)
    }
}

async fn compile(inner: &Arc<Inner>, digest: &Digest, file: File, path: &Path, pins: &Arc<Pins>) -> Result<Code, CodeError> {
    let (store, path) = (inner.store.clone(), path.to_owned());
    let copied = tokio::task::spawn_blocking(move || {
        let mut copy = store.ingest.file()?;
        io::copy(&mut ReadAt { file: &file, offset: 0 }.take(MAX_BYTES), &mut copy.file)
            .map_err(|error| DiskError::new("copy", &path, error))?;
        Ok::<_, DiskError>(copy)
    });
    let copied = copied.await.map_err(|error| DiskError::new("copy", "a wasm file", io::Error::other(error)));
    let copy = copied.and_then(|copy| copy).map_err(CodeError::Io)?;
    inner.store.code.get(&inner.code_flights, digest.clone(), copy.path().to_owned(), pins.clone()).await
}

/// Reads a file from its beginning, whatever its descriptor's position is: others may share that.
struct ReadAt<'a> {
    file: &'a File,
    offset: u64,
}

impl io::Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}
