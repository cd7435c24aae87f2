//! Calls of a module that take paths: made, made again where a link leads elsewhere, and their errors explained.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;

use rustix::fs::CWD;
use wasmtime::{Caller, Extern, bail};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1};
use wasmtime_wasi::runtime::poll_noop;
use wiggle::GuestMemory;

use super::sockets::{Entry, Sockets, Table};
use crate::guest::commands::CALL_BYTES;
use crate::guest::errno::{EBADF, EIO, ENOTDIR, EPERM};
use crate::guest::growth::Growth;
use crate::guest::lookup;
use crate::guest::paths;

/// Descriptor of the preopened root, the first after the streams.
const ROOT: i32 = 3;

/// Stands for a directory where text is no path. A descriptor of this number, which a guest can ask for, is not remembered.
pub(super) const TEXT: i32 = -1;

/// Most directories whose paths are remembered; of others it is not known why a call failed.
const DIRECTORIES: usize = 1024;

/// Longest path, as in Linux.
const PATH_BYTES: usize = 4096;

/// Longest result of a call that is made again: a `filestat`.
const RESULT_BYTES: usize = 64;

/// State of a store that runs a core module.
pub(crate) struct ModuleState {
    pub(super) wasi: WasiP1Ctx,
    // Paths of the directories that the guest has opened.
    directories: HashMap<i32, PathBuf>,
    /// Descriptors of a guest that has sockets. They have other numbers than wasmtime knows them by: all that is here but the
    /// table itself goes by wasmtime's. `None`: the numbers are the same.
    pub(super) table: Option<Box<Table>>,
    pub(crate) growth: Growth,
}

impl ModuleState {
    pub(crate) fn new(wasi: WasiP1Ctx, growth: Growth) -> Self {
        ModuleState { wasi, directories: HashMap::from([(ROOT, PathBuf::from("/"))]), table: None, growth }
    }

    /// The number by which wasmtime knows what the guest names as a directory.
    ///
    /// # Errors
    /// The number of why it is none.
    pub(super) fn directory(&self, directory: i32) -> Result<i32, i32> {
        match &self.table {
            Some(table) if directory != TEXT => table.file(directory, ENOTDIR),
            _ => Ok(directory),
        }
    }

    /// Gives the guest sockets; [`Prepared`](crate::guest::Prepared)'s functions no longer fit it then, those of [`sockets::link`](super::sockets::link) do.
    pub(in crate::guest) fn with(mut self, sockets: Sockets) -> Self {
        self.table = Some(sockets.into_table());
        self
    }

    /// Absolute path of `path` below the directory `descriptor`.
    fn absolute(&self, descriptor: i32, path: &str) -> Option<PathBuf> {
        let directory = self.directories.get(&descriptor)?;
        // Not joined as a path: one that begins with a slash is below the directory all the same.
        (path.len() <= PATH_BYTES).then(|| directory.join(path.trim_start_matches('/')))
    }

    /// Whether the guest still has the root open under its number, to resolve paths from.
    fn has_root(&self) -> bool {
        self.directories.get(&ROOT).is_some_and(|path| path.as_os_str() == "/")
    }

    pub(super) fn remember(&mut self, descriptor: i32, directory: Option<PathBuf>) {
        match directory {
            Some(path) if descriptor != TEXT && self.directories.len() < DIRECTORIES => {
                drop(self.directories.insert(descriptor, path))
            }
            _ => drop(self.directories.remove(&descriptor)),
        }
    }

    /// Writes a directory to its disk.
    pub(super) fn sync_directory(&self, descriptor: i32) -> i32 {
        self.directories.get(&descriptor).map_or(EBADF, |path| paths::sync_directory(path))
    }

    pub(super) fn renumber(&mut self, from: i32, to: i32) {
        let path = self.directories.remove(&from);
        self.remember(to, path);
    }
}

/// A path in the guest's memory, below a directory.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) directory: i32,
    pub(super) pointer: i32,
    pub(super) length: i32,
}

impl Place {
    fn read(self, memory: &[u8]) -> Option<&str> {
        let start = usize::try_from(self.pointer.cast_unsigned()).ok()?;
        let length = usize::try_from(self.length.cast_unsigned()).ok()?;
        std::str::from_utf8(memory.get(start..start.checked_add(length)?)?).ok()
    }
}

/// Why a call that would change something at `places` has failed with `EIO`.
fn explain(state: &ModuleState, memory: &[u8], places: &[Place], follow: bool) -> i32 {
    let paths: Vec<_> = places.iter().filter_map(|place| state.absolute(place.directory, place.read(memory)?)).collect();
    let places = paths.iter().filter_map(|path| Some((CWD, path.to_str()?)));
    lookup::explain(places, follow).map_or(EIO, paths::reason)
}

/// Paths with a memory of their own, and that memory.
type Resolved<const N: usize> = ([Place; N], Vec<u8>);

/// `places` resolved by the kernel, in a memory of their own that begins with room for a result. `None`: they lead nowhere
/// else than wasmtime has looked. The last names are followed if they are symbolic links and `follow`.
///
/// # Errors
/// The number of why a path leads nowhere.
fn resolve<const N: usize>(
    state: &ModuleState,
    memory: &[u8],
    places: [Place; N],
    follow: bool,
) -> Result<Option<Resolved<N>>, i32> {
    let mut resolved = places;
    let mut changed = false;
    let mut scratch = vec![0; RESULT_BYTES];
    for place in &mut resolved {
        let Some(path) = place.read(memory) else { return Ok(None) };
        // What has no directory is text that the call takes besides its paths.
        let mut to = (place.directory, path.to_owned());
        if let Some(absolute) = state.absolute(place.directory, path) {
            if !lookup::is_below(path) {
                return Ok(None);
            }
            if let Some(below) = paths::resolve(&absolute, follow)? {
                changed = true;
                to = (ROOT, below);
            }
        }
        if to.1.len() > PATH_BYTES {
            return Ok(None);
        }
        let (Ok(pointer), Ok(length)) = (i32::try_from(scratch.len()), i32::try_from(to.1.len())) else { return Ok(None) };
        *place = Place { directory: to.0, pointer, length };
        scratch.extend_from_slice(to.1.as_bytes());
    }
    Ok(changed.then_some((resolved, scratch)))
}

/// The guest's memory and state.
pub(super) fn parts<'a>(caller: &'a mut Caller<'_, ModuleState>) -> wasmtime::Result<(&'a mut [u8], &'a mut ModuleState)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { bail!("missing required memory export") };
    let (bytes, state) = memory.data_and_store_mut(caller);
    wasi_snapshot_preview1::WasiSnapshotPreview1::set_hostcall_fuel(&mut state.wasi, CALL_BYTES);
    Ok((bytes, state))
}

/// The result of a call. File operations block this thread (see `wasi::context`), so they are never pending.
pub(super) fn now<T>(call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    poll_noop(pin!(call)).unwrap_or_else(|| bail!("a file operation did not complete"))
}

/// A call that takes paths: made again where wasmtime took a link for an escape, and its `EIO` explained.
///
/// `follow`: it follows a symbolic link at the end of a path. `result` is where it writes its result, and how many bytes;
/// `call` gets the places of the paths and of the result.
pub(super) fn with_paths<const N: usize>(
    caller: &mut Caller<'_, ModuleState>,
    places: [Place; N],
    follow: bool,
    result: (i32, usize),
    call: impl Fn(&mut WasiP1Ctx, &mut GuestMemory<'_>, [Place; N], i32) -> wasmtime::Result<i32>,
) -> wasmtime::Result<i32> {
    let (memory, state) = parts(caller)?;
    let mut places = places;
    for place in &mut places {
        match state.directory(place.directory) {
            Ok(directory) => place.directory = directory,
            Err(error) => return Ok(error),
        }
    }
    let (pointer, size) = result;
    let mut error = call(&mut state.wasi, &mut GuestMemory::Unshared(memory), places, pointer)?;
    if error == EPERM && state.has_root() {
        match resolve(state, memory, places, follow) {
            Ok(None) => {}
            Err(reason) => error = reason,
            Ok(Some((places, mut scratch))) => {
                error = call(&mut state.wasi, &mut GuestMemory::Unshared(&mut scratch), places, 0)?;
                if error == 0
                    && let Some(result) = scratch.get(..size)
                {
                    write(memory, pointer, result)?;
                }
            }
        }
    }
    Ok(if error == EIO { explain(state, memory, &places, follow) } else { error })
}

/// Writes into the guest's memory.
pub(super) fn write(memory: &mut [u8], pointer: i32, bytes: &[u8]) -> wasmtime::Result<()> {
    let start = usize::try_from(pointer.cast_unsigned())?;
    match start.checked_add(bytes.len()).and_then(|end| memory.get_mut(start..end)) {
        Some(target) => target.copy_from_slice(bytes),
        None => bail!("out of bounds memory access"),
    }
    Ok(())
}

/// A `path_readlink` that wasmtime has refused: the kernel reads the link.
pub(super) fn read_link(
    caller: &mut Caller<'_, ModuleState>,
    place: Place,
    buffer: (i32, i32),
    result: i32,
) -> wasmtime::Result<i32> {
    let (memory, state) = parts(caller)?;
    let path = place.read(memory).filter(|path| lookup::is_below(path) && state.has_root());
    let Some(path) = path.and_then(|path| state.absolute(place.directory, path)) else { return Ok(EPERM) };
    let mut target = match paths::read_link(&path) {
        Ok(target) => target,
        Err(reason) => return Ok(reason),
    };
    target.truncate(usize::try_from(buffer.1.cast_unsigned())?);
    write(memory, buffer.0, &target)?;
    write(memory, result, &u32::try_from(target.len())?.to_le_bytes())?;
    Ok(0)
}

/// Whether a path can only be of a directory.
pub(super) fn ends_with_slash(caller: &mut Caller<'_, ModuleState>, place: Place) -> wasmtime::Result<bool> {
    let (memory, _) = parts(caller)?;
    Ok(place.read(memory).is_some_and(|path| path.ends_with('/')))
}

/// The path without slashes at its end.
pub(super) fn without_slashes(caller: &mut Caller<'_, ModuleState>, place: Place) -> wasmtime::Result<Place> {
    let (memory, _) = parts(caller)?;
    Ok(match place.read(memory).map(paths::without_slashes) {
        Some(path) => Place { length: i32::try_from(path.len())?, ..place },
        None => place,
    })
}

/// Whether the `filestat` at `result` is of a directory. Its type is at the same place in both versions.
pub(super) fn is_directory(caller: &mut Caller<'_, ModuleState>, result: i32) -> wasmtime::Result<bool> {
    const TYPE_AT: usize = 16;
    const DIRECTORY: u8 = 3;
    let (memory, _) = parts(caller)?;
    let at = usize::try_from(result.cast_unsigned())?.checked_add(TYPE_AT);
    Ok(at.and_then(|at| memory.get(at)) == Some(&DIRECTORY))
}

/// After a successful `path_open`: remembers the path if it is of a directory, and gives the descriptor the number that the guest
/// knows it by.
pub(super) fn opened(
    caller: &mut Caller<'_, ModuleState>,
    place: Place,
    is_directory: bool,
    result: i32,
) -> wasmtime::Result<()> {
    let (memory, state) = parts(caller)?;
    let start = usize::try_from(result.cast_unsigned())?;
    let Some(bytes) = memory.get(start..).and_then(|rest| rest.first_chunk()) else { return Ok(()) };
    let number = i32::from_le_bytes(*bytes);
    let path = if is_directory {
        let directory = state.directory(place.directory).ok();
        place.read(memory).and_then(|path| state.absolute(directory?, path))
    } else {
        None
    };
    state.remember(number, path);
    if let Some(table) = &mut state.table {
        write(memory, result, &table.insert(Entry::File(number)).to_le_bytes())?;
    }
    Ok(())
}
