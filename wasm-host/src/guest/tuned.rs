//! Guests of people who tune: with an engine of their own, which writes for profilers or keeps what a trap leaves.
//!
//! The supervisor's engine does neither, so that other guests pay nothing. Their code is the same, from the same cache; it is copied,
//! since perf gives names to code in anonymous memory alone. The engine is made in the jail: whatever it writes, it writes as the
//! guest, into the guest's files.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use wasmtime::component::Component;
use wasmtime::{Module, ProfilingStrategy};

use super::code::{Code, LoadError};
use super::http::Service;
use super::prepared::Prepared;
use crate::engine::{self, Tools};
use crate::protocol::{CodeKind, GuestSpec, Profile};

/// Whether a guest needs an engine of its own.
pub fn is_tuned(spec: &GuestSpec) -> bool {
    tools(spec) != Tools::default()
}

fn tools(spec: &GuestSpec) -> Tools {
    let profiler = match spec.profile() {
        Profile::Perf => Some(ProfilingStrategy::PerfMap),
        Profile::Jitdump => Some(ProfilingStrategy::JitDump),
        Profile::Off | Profile::Guest => None,
    };
    Tools { profiler, core_dumps: !spec.core_dump_dir.is_empty() }
}

/// Makes the engine and loads the code, in a process that is in its container already. The engine of a service comes with its code.
///
/// # Errors
/// As of [`load`](super::load); and the files of the profile cannot be made.
pub fn load_tuned(spec: &GuestSpec, descriptor: OwnedFd) -> Result<(Option<Prepared>, Code), LoadError> {
    let file = File::from(descriptor);
    let length = file.metadata().map_err(LoadError::Read)?.len();
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| LoadError::NotCode)?];
    file.read_exact_at(&mut bytes, 0).map_err(LoadError::Read)?;
    if !bytes.starts_with(b"\x7fELF") {
        return Err(LoadError::NotCode);
    }
    let mismatch = |error: wasmtime::Error| LoadError::Mismatch(format!("{error:#}"));
    let tools = tools(spec);
    if spec.kind() == CodeKind::ComponentHttp {
        let mut service = Service::new(&spec.http.clone().unwrap_or_default(), &tools)?;
        // SAFETY: the bytes are of a file of the cache that only root writes, and are compiled for this engine, or refused.
        let loaded = unsafe { Component::deserialize(service.engine(), &bytes) };
        service.component = Some(match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                service = Service::without_pool(&tools)?;
                // SAFETY: likewise.
                unsafe { Component::deserialize(service.engine(), &bytes) }.map_err(|_| mismatch(error))?
            }
        });
        return Ok((None, Code::Service(Box::new(service))));
    }
    let prepared = Prepared::new(engine::command_with(&tools).map_err(|error| LoadError::Profile(error.to_string()))?)?;
    let code = match spec.kind() {
        // SAFETY: likewise.
        CodeKind::ModuleCommand => unsafe { Module::deserialize(prepared.engine(), &bytes) }.map(Code::Module),
        // SAFETY: likewise.
        CodeKind::ComponentCommand => unsafe { Component::deserialize(prepared.engine(), &bytes) }.map(Code::Component),
        CodeKind::ComponentHttp | CodeKind::CodeUnspecified | CodeKind::Init => return Err(LoadError::NoKind),
    };
    Ok((Some(prepared), code.map_err(mismatch)?))
}
