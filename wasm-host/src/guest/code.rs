//! Compiled code, mapped from the descriptor that the daemon opened in its cache.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::http::Service;
use super::prepared::PrepareError;
use crate::engine::Tools;
use crate::protocol::{CodeKind, GuestSpec};

/// Code that can be run.
pub enum Code {
    /// A core module.
    Module(Module),
    /// A component that is a command.
    Component(Component),
    /// A component that answers HTTP requests.
    Service(Box<Service>),
}

/// The code cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The descriptor cannot be read.
    #[error("cannot read the compiled code")]
    Read(#[source] io::Error),
    /// The file holds something else.
    #[error("the file is not compiled code")]
    NotCode,
    /// Compiled by another version, for other settings, for another processor, or as another kind of code.
    #[error("the compiled code does not fit this engine, compile it again: {0}")]
    Mismatch(String),
    /// The engine of services cannot be built.
    #[error(transparent)]
    Service(#[from] PrepareError),
    /// Its profiler cannot be set up.
    #[error("cannot write the guest's profile: {0}")]
    Profile(String),
    /// The spec names no kind of code.
    #[error("the guest's spec names no kind of code")]
    NoKind,
}

/// Maps the compiled code behind `descriptor`, which must come from the daemon's own cache: it is executed as it is.
///
/// wasmtime maps a component by path only, so this wants to see `/proc`, and should be called before the process enters
/// the container's root. Where there is no `/proc` the code is copied, and costs its size in memory.
///
/// # Errors
/// See [`LoadError`].
pub fn load(engine: &Engine, spec: &GuestSpec, descriptor: OwnedFd) -> Result<Code, LoadError> {
    let file = File::from(descriptor);
    let mut magic = [0; 4];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) if magic == *b"\x7fELF" => {}
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(LoadError::Read(error)),
        _ => return Err(LoadError::NotCode),
    }
    let mismatch = |error: wasmtime::Error| LoadError::Mismatch(format!("{error:#}"));
    match spec.kind() {
        CodeKind::ModuleCommand => {
            // SAFETY: the file is from the cache that only root writes, where files are never changed once named.
            unsafe { Module::deserialize_open_file(engine, file) }.map(Code::Module).map_err(mismatch)
        }
        CodeKind::ComponentCommand => component(engine, &file)?.map(Code::Component).map_err(mismatch),
        CodeKind::ComponentHttp => {
            let mut service = Service::new(&spec.http.clone().unwrap_or_default(), &Tools::default())?;
            let loaded = match component(service.engine(), &file)? {
                Ok(loaded) => loaded,
                Err(error) => {
                    // It may be larger than the places of the pool; if it is not that, the first error is the one to tell.
                    service = Service::without_pool(&Tools::default())?;
                    component(service.engine(), &file)?.map_err(|_| mismatch(error))?
                }
            };
            service.component = Some(loaded);
            Ok(Code::Service(Box::new(service)))
        }
        CodeKind::CodeUnspecified | CodeKind::Init => Err(LoadError::NoKind),
    }
}

fn component(engine: &Engine, file: &File) -> Result<wasmtime::Result<Component>, LoadError> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    if File::open(&path).is_ok() {
        // SAFETY: as for modules.
        return Ok(unsafe { Component::deserialize_file(engine, &path) });
    }
    let length = file.metadata().map_err(LoadError::Read)?.len();
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| LoadError::NotCode)?];
    file.read_exact_at(&mut bytes, 0).map_err(LoadError::Read)?;
    // SAFETY: as for modules.
    Ok(unsafe { Component::deserialize(engine, &bytes) })
}
