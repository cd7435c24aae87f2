//! WASI 0.1 and its predecessor, as containers need it: wasmtime's implementation, corrected where it differs from what
//! programs in a container know.
//!
//! - `proc_exit` takes any code. wasmtime makes a trap of 126 and above; Unix takes the low 8 bits.
//! - Absolute symbolic links work. wasmtime follows links only below the directory that it was given and takes one that
//!   begins with `/` for an attempt to escape. Here that directory is the root of the process, so `/` is where it points
//!   to: the path is resolved by the kernel and the call is made again.
//! - A read-only file system is `EROFS`, and a rename across file systems `EXDEV`. wasmtime knows neither and says `EIO`.
//!   The reason is looked up after the call has failed, so calls that succeed pay nothing.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use wasmtime::{AsContextMut, Caller, Extern, Linker};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p0::{self, wasi_unstable};
use wasmtime_wasi::p1::{self, WasiP1Ctx, wasi_snapshot_preview1};
use wiggle::GuestMemory;

// Error numbers of both versions, from typenames.witx.
const EIO: i32 = 29;
const EPERM: i32 = 63;
const EROFS: i32 = 69;
const EXDEV: i32 = 75;

/// Descriptor of the preopened root, the first after the streams.
const ROOT: i32 = 3;

/// Flag of a lookup: a symbolic link at the end of the path is followed.
const FOLLOW: i32 = 1;

/// Flag of `path_open`: the file must be a directory.
const DIRECTORY: i32 = 2;

/// Most directories whose paths are remembered; of others it is not known why a call failed.
const DIRECTORIES: usize = 1024;

/// Longest path, as in Linux.
const PATH_BYTES: usize = 4096;

/// Longest result of a call that is made again: a `filestat`.
const RESULT_BYTES: usize = 64;

/// State of a store that runs a core module.
pub(crate) struct ModuleState {
    wasi: WasiP1Ctx,
    // Paths of the directories that the guest has opened.
    directories: HashMap<i32, PathBuf>,
}

impl ModuleState {
    pub(crate) fn new(wasi: WasiP1Ctx) -> Self {
        ModuleState { wasi, directories: HashMap::new() }
    }

    /// Absolute path of `path` below the directory `descriptor`.
    fn absolute(&self, descriptor: i32, path: &str) -> Option<PathBuf> {
        let directory = match descriptor {
            ROOT => Path::new("/"),
            other => self.directories.get(&other)?,
        };
        // Not joined as a path: one that begins with a slash is below the directory all the same.
        (path.len() <= PATH_BYTES).then(|| directory.join(path.trim_start_matches('/')))
    }

    fn remember(&mut self, descriptor: i32, directory: Option<PathBuf>) {
        match directory {
            Some(path) if self.directories.len() < DIRECTORIES => drop(self.directories.insert(descriptor, path)),
            _ => drop(self.directories.remove(&descriptor)),
        }
    }
}

/// Links everything.
pub(super) fn link(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    p1::add_to_linker_async(linker, |state| &mut state.wasi)?;
    p0::add_to_linker_async(linker, |state| &mut state.wasi)?;
    linker.allow_shadowing(true);
    for module in ["wasi_snapshot_preview1", "wasi_unstable"] {
        linker.func_wrap(module, "proc_exit", |_: Caller<'_, ModuleState>, code: i32| -> wasmtime::Result<()> {
            Err(I32Exit(code & 0xff).into())
        })?;
    }
    corrected::<Preview1>(linker)?;
    corrected::<Preview0>(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A path in the guest's memory, below a directory.
#[derive(Clone, Copy)]
struct Place {
    directory: i32,
    pointer: i32,
    length: i32,
}

impl Place {
    fn read(self, memory: &[u8]) -> Option<&str> {
        let start = usize::try_from(self.pointer.cast_unsigned()).ok()?;
        let length = usize::try_from(self.length.cast_unsigned()).ok()?;
        std::str::from_utf8(memory.get(start..start.checked_add(length)?)?).ok()
    }
}

/// Resolves `path` as the kernel would for this process, symbolic links and all; the last one only if `follow`.
/// `None`: there is nothing to resolve.
fn resolve(path: &Path, follow: bool) -> Option<String> {
    let whole = if follow { std::fs::canonicalize(path).ok() } else { None };
    let resolved = match whole {
        Some(resolved) => resolved,
        // The last part may be about to be made.
        None => std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?),
    };
    if resolved == path {
        return None;
    }
    let below = resolved.strip_prefix("/").ok()?.to_str()?;
    Some(if below.is_empty() { ".".to_owned() } else { below.to_owned() })
}

/// Why a call that would change something at `places` has failed with `EIO`.
fn explain(state: &ModuleState, memory: &[u8], places: &[Place]) -> i32 {
    let mut device = None;
    let mut error = EIO;
    for place in places {
        let Some(path) = place.read(memory).and_then(|path| state.absolute(place.directory, path)) else { continue };
        // What is there, or else the directory that it would be in.
        let there = [Some(path.as_path()), path.parent()].into_iter().flatten().find(|path| path.exists());
        let Some(there) = there else { continue };
        if rustix::fs::statvfs(there).is_ok_and(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY)) {
            return EROFS;
        }
        let here = path.parent().and_then(|parent| parent.metadata().ok()).map(|status| status.dev());
        if device.is_some_and(|device| Some(device) != here) {
            error = EXDEV;
        }
        device = here;
    }
    error
}

/// The guest's memory and state.
macro_rules! parts {
    ($caller:ident, $version:ident) => {{
        let Some(Extern::Memory(memory)) = $caller.get_export("memory") else {
            wasmtime::bail!("missing required memory export")
        };
        let fuel = $caller.as_context_mut().hostcall_fuel();
        let (bytes, state) = memory.data_and_store_mut(&mut $caller);
        $version::set_fuel(&mut state.wasi, fuel);
        (bytes, state)
    }};
}

/// One version of WASI: the functions that are corrected, as wasmtime has them.
macro_rules! version {
    ($version:ident, $module:ident, $trait:ident) => {
        struct $version;
        impl Version for $version {
            const MODULE: &str = stringify!($module);
            fn set_fuel(wasi: &mut WasiP1Ctx, fuel: usize) {
                $module::$trait::set_hostcall_fuel(wasi, fuel);
            }
        }
    };
}
