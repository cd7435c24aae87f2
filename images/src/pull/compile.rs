//! Code for the wasm files of an image that is being pulled: which are compiled, and which failure is the pull's.
//!
//! The file that the image runs must compile: the module of an artifact; of an image what its entrypoint (or its cmd,
//! where it has none) leads to. If it does not, the pull fails, so that the pod's events say why. The other files of an
//! image need not: web assets and tests are shipped beside programs, and nobody may ever run them here. What of these
//! does not compile is logged, and is an error for who starts it. In numbers:
//!
//! | the entrypoint leads to | the pull fails when |
//! |---|---|
//! | a wasm file | that file does not compile |
//! | another file, such as a native program | never for code |
//! | nothing that is there, there is none, or an artifact has several | no file compiles, where all were tried |
//!
//! At most `max_compiled` different files are compiled, the entrypoint's first, then by path; the others when they are
//! first used. Of an image that was here before the pull only the entrypoint's is made sure of: the others had their
//! turn, and those that did not compile would cost it again at each pull. A disk that fails or is full, and a file that
//! is not what was pulled, fail the pull whoever's file it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::Pull;
use crate::api::Inner;
use crate::config::CompileMode;
use crate::digest::Digest;
use crate::error::{CodeError, PullError};
use crate::files;
use crate::image::{ArtifactKind, Image, WasmFile, search_path};
use crate::store::Item;

/// What an image runs.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    /// A wasm file, by its path without links.
    Wasm(PathBuf),
    /// A file of another kind.
    Other,
    /// That cannot be told.
    Unknown,
}

impl Pull {
    /// Compiles what is to be compiled at pull, each content once.
    pub(super) async fn compile(&self, image: &Image, is_new: bool) -> Result<(), PullError> {
        if self.inner.config.compile == CompileMode::AtFirstStart || image.wasm.is_empty() {
            return Ok(());
        }
        let (inner, seen) = (self.inner.clone(), image.clone());
        let entry = tokio::task::spawn_blocking(move || entry(&inner, &seen)).await.unwrap_or(Entry::Unknown);
        let required = match &entry {
            Entry::Wasm(path) => image.wasm_at(path),
            Entry::Other | Entry::Unknown => None,
        };
        let mut files: Vec<&WasmFile> = required.into_iter().collect();
        if is_new {
            for file in &image.wasm {
                if !files.iter().any(|other| other.digest == file.digest) {
                    files.push(file);
                }
            }
        }
        let all = files.len();
        files.truncate(self.inner.config.max_compiled);
        let must = |file: &WasmFile| required.is_some_and(|required| required.digest == file.digest);
        let compiled = try_join_all(files.iter().map(|file| self.compile_one(image, file, must(file)))).await?;
        let first_failure = compiled.iter().find_map(|failure| failure.clone());
        let none_compiled = compiled.iter().all(Option::is_some) && compiled.len() == all;
        match first_failure {
            Some(failure) if entry == Entry::Unknown && none_compiled => Err(failure),
            _ => Ok(()),
        }
    }

    /// Compiles a file. That it does not compile is an error if it must, and is told if it need not.
    async fn compile_one(&self, image: &Image, file: &WasmFile, must: bool) -> Result<Option<PullError>, PullError> {
        let unknown = || self.code_failed(file, CodeError::Unknown { digest: file.digest.clone() });
        let digest = Digest::parse(&file.digest).map_err(|_| unknown())?;
        let host = self.inner.host_path(image, &file.path).ok_or_else(unknown)?;
        self.pins.add(Item::Code(digest.clone()));
        let _shown = self.tracker.compiling(&file.path);
        match self.inner.store.code.get(&self.inner.code_flights, digest, host, self.pins.clone()).await {
            Ok(_) => Ok(None),
            Err(error @ CodeError::Compile { .. }) if !must => {
                let failure = self.code_failed(file, error);
                tracing::info!(%failure, "a wasm file of the image does not compile; only starting it will fail");
                Ok(Some(failure))
            }
            Err(error) => Err(self.code_failed(file, error)),
        }
    }

    fn code_failed(&self, file: &WasmFile, error: CodeError) -> PullError {
        let reference = self.text();
        if let CodeError::Damaged { .. } = &error {
            self.inner.store.suspect(&file.digest);
        }
        match error {
            CodeError::Compile { reason, .. } => PullError::Compile { reference, path: file.path.display().to_string(), reason },
            CodeError::Io(io) => PullError::Io { reference, io },
            other => self.invalid(other.to_string()),
        }
    }
}

/// What the image runs where its container says nothing else, found as a container finds it.
fn entry(inner: &Arc<Inner>, image: &Image) -> Entry {
    if let ArtifactKind::Artifact { module } = &image.kind {
        return module.clone().map_or(Entry::Unknown, Entry::Wasm);
    }
    let config = &image.config;
    let Some(name) = config.entrypoint.first().or(config.cmd.first()).filter(|name| !name.is_empty()) else {
        return Entry::Unknown;
    };
    let layers = inner.store.lower_dirs(image);
    let working_dir = Path::new("/").join(&config.working_dir);
    let found = |path: &Path| match files::locate(&layers, &working_dir.join(path)) {
        Ok(located) if located.metadata.is_dir() => None,
        Ok(located) if image.wasm_at(&located.path).is_some() => Some(Entry::Wasm(located.path)),
        Ok(_) => Some(Entry::Other),
        Err(_) => None,
    };
    if name.contains('/') {
        return found(Path::new(name)).unwrap_or(Entry::Unknown);
    }
    search_path(&config.env).split(':').find_map(|directory| found(&Path::new(directory).join(name))).unwrap_or(Entry::Unknown)
}
