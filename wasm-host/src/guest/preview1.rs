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
use std::path::PathBuf;
use std::pin::pin;

use wasmtime::{Caller, Extern, Linker, bail};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p0::{self, wasi_unstable};
use wasmtime_wasi::p1::{self, WasiP1Ctx, wasi_snapshot_preview1};
use wasmtime_wasi::runtime::poll_noop;
use wiggle::GuestMemory;

use super::commands::CALL_BYTES;
use super::paths::{self, EIO, EPERM};

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
        ModuleState { wasi, directories: HashMap::from([(ROOT, PathBuf::from("/"))]) }
    }

    /// Absolute path of `path` below the directory `descriptor`.
    fn absolute(&self, descriptor: i32, path: &str) -> Option<PathBuf> {
        let directory = self.directories.get(&descriptor)?;
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

/// Links both versions.
pub(super) fn link(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    p1::add_to_linker_async(linker, |state| &mut state.wasi)?;
    p0::add_to_linker_async(linker, |state| &mut state.wasi)?;
    linker.allow_shadowing(true);
    link_snapshot(linker)?;
    link_unstable(linker)?;
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

/// Why a call that would change something at `places` has failed with `EIO`.
fn explain(state: &ModuleState, memory: &[u8], places: &[Place]) -> i32 {
    let absolute = |place: &Place| state.absolute(place.directory, place.read(memory)?);
    paths::explain(places.iter().filter_map(absolute))
}

/// The guest's memory and state.
fn parts<'a>(caller: &'a mut Caller<'_, ModuleState>) -> wasmtime::Result<(&'a mut [u8], &'a mut ModuleState)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { bail!("missing required memory export") };
    let (bytes, state) = memory.data_and_store_mut(caller);
    wasi_snapshot_preview1::WasiSnapshotPreview1::set_hostcall_fuel(&mut state.wasi, CALL_BYTES);
    Ok((bytes, state))
}

/// The result of a call. File operations block this thread (see `wasi::context`), so they are never pending.
fn now<T>(call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    poll_noop(pin!(call)).unwrap_or_else(|| bail!("a file operation did not complete"))
}

/// A call that takes one path: made again where wasmtime took a link for an escape, and its `EIO` explained.
///
/// `result` is where the call writes its result, and how many bytes; `call` gets the place of the path and of the result.
fn with_path(
    caller: &mut Caller<'_, ModuleState>,
    place: Place,
    follow: bool,
    result: (i32, usize),
    call: impl Fn(&mut WasiP1Ctx, &mut GuestMemory<'_>, Place, i32) -> wasmtime::Result<i32>,
) -> wasmtime::Result<i32> {
    let (memory, state) = parts(caller)?;
    let (pointer, size) = result;
    let mut error = call(&mut state.wasi, &mut GuestMemory::Unshared(memory), place, pointer)?;
    if error == EPERM && state.directories.get(&ROOT).is_some_and(|path| path.as_os_str() == "/") {
        let path = place.read(memory).and_then(|path| state.absolute(place.directory, path));
        match path.map(|path| paths::resolve(&path, follow)) {
            None | Some(Ok(None)) => {}
            Some(Err(reason)) => error = reason,
            Some(Ok(Some(path))) => {
                // A memory of its own for this call: room for the result, then the path.
                let mut scratch = [vec![0; RESULT_BYTES], path.clone().into_bytes()].concat();
                let length = i32::try_from(path.len())?;
                let place = Place { directory: ROOT, pointer: i32::try_from(RESULT_BYTES)?, length };
                error = call(&mut state.wasi, &mut GuestMemory::Unshared(&mut scratch), place, 0)?;
                if error == 0 && size > 0 {
                    let start = usize::try_from(pointer.cast_unsigned())?;
                    let target = start.checked_add(size).and_then(|end| memory.get_mut(start..end));
                    match (target, scratch.get(..size)) {
                        (Some(target), Some(result)) => target.copy_from_slice(result),
                        _ => bail!("out of bounds memory access"),
                    }
                }
            }
        }
    }
    Ok(if error == EIO { explain(state, memory, &[place]) } else { error })
}

/// A call that takes two paths: its `EIO` is explained.
fn with_paths(
    caller: &mut Caller<'_, ModuleState>,
    places: &[Place],
    call: impl Fn(&mut WasiP1Ctx, &mut GuestMemory<'_>) -> wasmtime::Result<i32>,
) -> wasmtime::Result<i32> {
    let (memory, state) = parts(caller)?;
    let error = call(&mut state.wasi, &mut GuestMemory::Unshared(memory))?;
    Ok(if error == EIO { explain(state, memory, places) } else { error })
}

/// After a successful `path_open`: remembers the path if it is of a directory.
fn opened(caller: &mut Caller<'_, ModuleState>, place: Place, is_directory: bool, result: i32) -> wasmtime::Result<()> {
    let (memory, state) = parts(caller)?;
    let start = usize::try_from(result.cast_unsigned())?;
    let Some(bytes) = memory.get(start..).and_then(|rest| rest.first_chunk()) else { return Ok(()) };
    let path = if is_directory { place.read(memory).and_then(|path| state.absolute(place.directory, path)) } else { None };
    state.remember(i32::from_le_bytes(*bytes), path);
    Ok(())
}

/// The corrected functions of one version. Both have the same, but for the size of a `filestat`.
macro_rules! corrected {
    ($link:ident, $wasi:ident, $filestat:literal) => {
        fn $link(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
            type Guest<'a> = Caller<'a, ModuleState>;
            let module = stringify!($wasi);
            linker.func_wrap(
                module,
                "path_open",
                |mut guest: Guest<'_>,
                 directory: i32,
                 lookup: i32,
                 pointer: i32,
                 length: i32,
                 flags: i32,
                 rights: i64,
                 inheriting: i64,
                 mode: i32,
                 result: i32| {
                    let place = Place { directory, pointer, length };
                    let error = with_path(&mut guest, place, lookup & FOLLOW != 0, (result, 4), |wasi, memory, at, result| {
                        let Place { directory, pointer, length } = at;
                        now($wasi::path_open(
                            wasi, memory, directory, lookup, pointer, length, flags, rights, inheriting, mode, result,
                        ))
                    })?;
                    if error == 0 {
                        opened(&mut guest, place, flags & DIRECTORY != 0, result)?;
                    }
                    Ok(error)
                },
            )?;
            linker.func_wrap(
                module,
                "path_filestat_get",
                |mut guest: Guest<'_>, directory: i32, lookup: i32, pointer: i32, length: i32, result: i32| {
                    let place = Place { directory, pointer, length };
                    with_path(&mut guest, place, lookup & FOLLOW != 0, (result, $filestat), |wasi, memory, at, result| {
                        now($wasi::path_filestat_get(wasi, memory, at.directory, lookup, at.pointer, at.length, result))
                    })
                },
            )?;
            linker.func_wrap(
                module,
                "path_filestat_set_times",
                |mut guest: Guest<'_>, directory: i32, lookup: i32, pointer: i32, length: i32, a: i64, m: i64, flags: i32| {
                    let place = Place { directory, pointer, length };
                    with_path(&mut guest, place, lookup & FOLLOW != 0, (0, 0), |wasi, memory, at, _| {
                        let Place { directory, pointer, length } = at;
                        now($wasi::path_filestat_set_times(wasi, memory, directory, lookup, pointer, length, a, m, flags))
                    })
                },
            )?;
            linker.func_wrap(
                module,
                "path_create_directory",
                |mut guest: Guest<'_>, directory: i32, pointer: i32, length: i32| {
                    let place = Place { directory, pointer, length };
                    with_path(&mut guest, place, false, (0, 0), |wasi, memory, at, _| {
                        now($wasi::path_create_directory(wasi, memory, at.directory, at.pointer, at.length))
                    })
                },
            )?;
            linker.func_wrap(
                module,
                "path_remove_directory",
                |mut guest: Guest<'_>, directory: i32, pointer: i32, length: i32| {
                    let place = Place { directory, pointer, length };
                    with_path(&mut guest, place, false, (0, 0), |wasi, memory, at, _| {
                        now($wasi::path_remove_directory(wasi, memory, at.directory, at.pointer, at.length))
                    })
                },
            )?;
            linker.func_wrap(module, "path_unlink_file", |mut guest: Guest<'_>, directory: i32, pointer: i32, length: i32| {
                let place = Place { directory, pointer, length };
                with_path(&mut guest, place, false, (0, 0), |wasi, memory, at, _| {
                    now($wasi::path_unlink_file(wasi, memory, at.directory, at.pointer, at.length))
                })
            })?;
            linker.func_wrap(
                module,
                "path_rename",
                |mut guest: Guest<'_>, from: i32, from_pointer: i32, from_length: i32, to: i32, pointer: i32, length: i32| {
                    let source = Place { directory: from, pointer: from_pointer, length: from_length };
                    let target = Place { directory: to, pointer, length };
                    with_paths(&mut guest, &[source, target], |wasi, memory| {
                        now($wasi::path_rename(wasi, memory, from, from_pointer, from_length, to, pointer, length))
                    })
                },
            )?;
            linker.func_wrap(
                module,
                "path_link",
                |mut guest: Guest<'_>,
                 from: i32,
                 lookup: i32,
                 from_pointer: i32,
                 from_length: i32,
                 to: i32,
                 pointer: i32,
                 length: i32| {
                    let source = Place { directory: from, pointer: from_pointer, length: from_length };
                    let target = Place { directory: to, pointer, length };
                    with_paths(&mut guest, &[source, target], |wasi, memory| {
                        now($wasi::path_link(wasi, memory, from, lookup, from_pointer, from_length, to, pointer, length))
                    })
                },
            )?;
            linker.func_wrap(
                module,
                "path_symlink",
                |mut guest: Guest<'_>, text: i32, text_length: i32, directory: i32, pointer: i32, length: i32| {
                    with_paths(&mut guest, &[Place { directory, pointer, length }], |wasi, memory| {
                        now($wasi::path_symlink(wasi, memory, text, text_length, directory, pointer, length))
                    })
                },
            )?;
            linker.func_wrap(module, "fd_close", |mut guest: Guest<'_>, fd: i32| {
                let (memory, state) = parts(&mut guest)?;
                state.remember(fd, None);
                now($wasi::fd_close(&mut state.wasi, &mut GuestMemory::Unshared(memory), fd))
            })?;
            linker.func_wrap(module, "fd_renumber", |mut guest: Guest<'_>, from: i32, to: i32| {
                let (memory, state) = parts(&mut guest)?;
                let error = now($wasi::fd_renumber(&mut state.wasi, &mut GuestMemory::Unshared(memory), from, to))?;
                if error == 0 {
                    let path = state.directories.remove(&from);
                    state.remember(to, path);
                }
                Ok(error)
            })?;
            linker.func_wrap(module, "proc_exit", |_: Guest<'_>, code: i32| -> wasmtime::Result<()> {
                Err(I32Exit(code & 0xff).into())
            })?;
            Ok(())
        }
    };
}
corrected!(link_snapshot, wasi_snapshot_preview1, 64);
corrected!(link_unstable, wasi_unstable, 56);
