//! Opening the files of the two stores, and setting aside what does not open.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError};

use super::backend::UnsyncedFile;
use super::error_chain::chain;
use super::records::StoreError;

/// Bytes of page cache for each of the two stores. Every record is in memory as an object already, so there is nothing to cache.
const CACHE_BYTES: usize = 1024 * 1024;

/// Opens a store or makes it; one that does not open is renamed and named in the log. `synced`: a commit waits for the disk.
pub(super) fn open_or_set_aside(path: &Path, synced: bool) -> Result<Database, StoreError> {
    let source = match open(path, synced) {
        Ok(database) => return Ok(database),
        Err(error @ (StoreError::InUse { .. } | StoreError::File { .. })) => return Err(error),
        Err(error) => error,
    };
    let aside = aside_path(path);
    tracing::error!(
        path = %path.display(),
        aside = %aside.display(),
        error = chain(&source),
        "a store of records does not open and is set aside"
    );
    std::fs::rename(path, &aside).map_err(|source| StoreError::File { path: path.to_owned(), source })?;
    open(path, synced)
}

fn aside_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".bad-{}", wasm_host::protocol::now()));
    PathBuf::from(name)
}

fn open(path: &Path, synced: bool) -> Result<Database, StoreError> {
    let file_error = |source| StoreError::File { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(file_error)?;
    }
    // Records hold the environment of containers, and that holds secrets.
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(file_error)?;
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    let database = if synced {
        builder.create_file(file)
    } else {
        UnsyncedFile::new(file).and_then(|backend| builder.create_with_backend(backend))
    };
    database.map_err(|source| match source {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        source => StoreError::Open { path: path.to_owned(), source: Box::new(source) },
    })
}
