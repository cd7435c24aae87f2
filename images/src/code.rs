//! Compiled code: `compiled/<engine fingerprint>/<sha256 of the wasm>.cwasm`, with a `.json` beside it.
//!
//! It is made by the [`Compiler`] in another process and read by guests, never by us. Whoever maps it runs it, so a
//! file is given out only if its digest is the one that was written down when it was made. That is checked once per
//! file and process; after that, that the file is the same one.

mod rejected;

use std::collections::HashMap;
use std::fs::{self, File};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::counts::Counts;
use crate::digest::Digest;
use crate::disk;
use crate::error::{CodeError, CompileError, DiskError};
use crate::flight::Flights;
use crate::ingest::Ingest;
use crate::stamp::Stamp;
use crate::store::Pins;
use rejected::Rejected;

/// Turns wasm files into machine code, in another process.
pub trait Compiler: Send + Sync + 'static {
    /// Names the engine, its settings and the CPU: code made under one is never run under another. A file name.
    fn fingerprint(&self) -> String;

    /// Compiles the file `wasm` into the new file `output`. When the future is dropped, the process is to end.
    fn compile(&self, wasm: PathBuf, output: PathBuf) -> Pin<Box<dyn Future<Output = Result<CodeReport, CompileError>> + Send>>;
}

/// What the compiler found out about a wasm file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeReport {
    /// `module` or `component`.
    pub kind: String,
    /// `command`, `http`, `reactor` or `library`.
    pub world: String,
    /// `p0`, `p1`, `p2`, `p3` or `none`.
    pub wasi: String,
    /// Names of what it imports.
    #[serde(default)]
    pub imports: Vec<String>,
}

/// Compiled code that is on the disk and whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    /// The file to map.
    pub path: PathBuf,
    /// What it is.
    pub report: CodeReport,
}

/// The file `.json` beside the code.
#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    size: u64,
    sha256: Digest,
    report: CodeReport,
}

const VERSION: u32 = 1;

pub(crate) struct CodeCache(Arc<Inner>);

struct Inner {
    directory: PathBuf,
    ingest: Ingest,
    compiler: Arc<dyn Compiler>,
    at_once: Semaphore,
    checked: Mutex<HashMap<Digest, Stamp>>,
    rejected: Mutex<Rejected>,
    counts: Arc<Counts>,
}

/// The flights are apart from what they work on, so that no flight owns itself.
pub(crate) type CodeFlights = Flights<Digest, Result<Code, CodeError>>;

impl CodeCache {
    /// `compiled` holds one directory for each engine; those of other engines are removed.
    pub(crate) fn open(
        compiled: &Path,
        ingest: Ingest,
        compiler: Arc<dyn Compiler>,
        at_once: usize,
        counts: Arc<Counts>,
    ) -> Result<CodeCache, DiskError> {
        let fingerprint = compiler.fingerprint();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
        let usable = fingerprint.bytes().all(plain) && !fingerprint.starts_with('.') && (1..=200).contains(&fingerprint.len());
        let name = if usable { fingerprint } else { Digest::of(fingerprint.as_bytes()).hex().to_owned() };
        let directory = compiled.join(&name);
        disk::make_dir(&directory)?;
        for other in disk::names(compiled)?.iter().filter(|other| **other != name) {
            tracing::info!(engine = other, "removing code of another engine");
            disk::remove(&compiled.join(other))?;
        }
        let at_once = Semaphore::new(at_once.max(1));
        Ok(CodeCache(Arc::new(Inner {
            directory,
            ingest,
            compiler,
            at_once,
            checked: Mutex::default(),
            rejected: Mutex::default(),
            counts,
        })))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// What is written down about code that seems to be there; the code itself is not looked at.
    pub(crate) fn report(&self, digest: &Digest) -> Option<CodeReport> {
        let (record, _) = self.0.recorded(digest)?;
        Some(record.report)
    }

    /// Why a file does not compile, if that is known.
    pub(crate) fn rejected(&self, digest: &Digest) -> Option<String> {
        self.0.rejected(digest)
    }

    /// The files of one wasm file's code.
    pub(crate) fn files(&self, digest: &Digest) -> [PathBuf; 2] {
        [self.0.path(digest, "json"), self.0.path(digest, "cwasm")]
    }

    /// Removes what belongs to none of these wasm files.
    pub(crate) fn retain(&self, wanted: impl Fn(&str) -> bool) -> Result<(), DiskError> {
        for name in disk::names(&self.0.directory)? {
            if !wanted(name.split('.').next().unwrap_or_default()) {
                disk::remove(&self.0.directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Code for a wasm file, if it is there and whole.
    pub(crate) async fn cached(&self, digest: Digest) -> Result<Option<Code>, CodeError> {
        let inner = self.0.clone();
        let code = blocking(move || Ok(inner.cached(&digest))).await?;
        if code.is_some() {
            Counts::add(&self.0.counts.code_hits, 1);
        }
        Ok(code)
    }

    /// Code for a wasm file, from the cache or made now from `source`. The pins outlive the work, so that code which
    /// comes after its caller went away is taken away with them.
    pub(crate) async fn get(
        &self,
        flights: &CodeFlights,
        digest: Digest,
        source: PathBuf,
        pins: Arc<Pins>,
    ) -> Result<Code, CodeError> {
        let inner = self.0.clone();
        let key = digest.clone();
        flights.run(key, || inner.get(digest, source, pins).boxed()).await.0
    }
}

impl Inner {
    fn path(&self, digest: &Digest, suffix: &str) -> PathBuf {
        self.directory.join(format!("{}.{suffix}", digest.hex()))
    }

    async fn get(self: Arc<Inner>, digest: Digest, source: PathBuf, pins: Arc<Pins>) -> Result<Code, CodeError> {
        if let Some(code) = CodeCache(self.clone()).cached(digest.clone()).await? {
            return Ok(code);
        }
        Counts::add(&self.counts.code_misses, 1);
        let failed = |reason| CodeError::Compile { path: source.display().to_string(), reason };
        if let Some(words) = self.rejected(&digest) {
            return Err(failed(CompileError::Rejected(words)));
        }
        let (key, path) = (digest.clone(), source.clone());
        blocking(move || check_source(&key, &path)).await?;
        let Ok(_turn) = self.at_once.acquire().await else {
            return Err(CodeError::Io(DiskError::new("compile", source, std::io::Error::other("the store is closing"))));
        };
        let output = self.ingest.name(".cwasm");
        let begun = std::time::Instant::now();
        let report = self.compiler.compile(source.clone(), output.path().to_owned()).await;
        let report = report.map_err(|reason| {
            self.rejected.lock().unwrap_or_else(PoisonError::into_inner).note(&digest, &reason);
            failed(reason)
        })?;
        tracing::info!(%digest, kind = report.kind, world = report.world, ms = begun.elapsed().as_millis() as u64, "compiled");
        let inner = self.clone();
        blocking(move || {
            // Where it was renamed, its temporary name is free and nothing is removed.
            let stored = inner.store(&digest, output.path(), report).map_err(CodeError::Io);
            drop(pins);
            stored
        })
        .await
    }

    fn rejected(&self, digest: &Digest) -> Option<String> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner).get(digest).map(str::to_owned)
    }

    /// What is written down, if there is code of that length.
    fn recorded(&self, digest: &Digest) -> Option<(Record, Stamp)> {
        let record: Record = serde_json::from_slice(&fs::read(self.path(digest, "json")).ok()?).ok()?;
        let stamp = stamp(&self.path(digest, "cwasm"))?;
        (record.version == VERSION && record.size == stamp.size).then_some((record, stamp))
    }

    /// What the cache has, if it is whole.
    fn cached(&self, digest: &Digest) -> Option<Code> {
        let (record, stamp) = self.recorded(digest)?;
        let path = self.path(digest, "cwasm");
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner).get(digest) == Some(&stamp);
        if !checked {
            if file_digest(&path).ok()? != record.sha256 {
                tracing::warn!(path = %path.display(), "compiled code is damaged and is made again");
                return None;
            }
            self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), stamp);
        }
        Some(Code { path, report: record.report })
    }

    fn store(&self, digest: &Digest, output: &Path, report: CodeReport) -> Result<Code, DiskError> {
        let failed = |error: std::io::Error| DiskError::new("read", output, error);
        let file = File::open(output).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        let sha256 = file_digest(output).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let path = self.path(digest, "cwasm");
        disk::rename(output, &path)?;
        let record = self.path(digest, "json");
        let bytes = serde_json::to_vec(&Record { version: VERSION, size, sha256, report: report.clone() });
        disk::write_file(&self.ingest, &record, &bytes.map_err(|error| DiskError::new("write", &record, error))?)?;
        if let Some(stamp) = stamp(&path) {
            self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(digest.clone(), stamp);
        }
        Ok(Code { path, report })
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(Stamp::of(&metadata))
}

/// The wasm file is what was pulled: code under its name is given to everybody who has that file.
fn check_source(digest: &Digest, path: &Path) -> Result<(), CodeError> {
    let actual = file_digest(path).map_err(|error| CodeError::Io(DiskError::new("read", path, error)))?;
    if actual == *digest { Ok(()) } else { Err(CodeError::Damaged { digest: digest.to_string(), path: path.to_owned() }) }
}

fn file_digest(path: &Path) -> std::io::Result<Digest> {
    let mut hasher = Sha256::new();
    std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(Digest::finish(hasher))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, CodeError> + Send + 'static) -> Result<T, CodeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(CodeError::Io(DiskError::new("use", "the code cache", std::io::Error::other(error)))),
    }
}
