//! WASI 0.1 and its predecessor, as containers need it: wasmtime's implementation, corrected where it differs from what
//! programs in a container know.
//!
//! - `proc_exit` takes any code. wasmtime makes a trap of 126 and above; Unix takes the low 8 bits.
//! - Absolute symbolic links work, wherever they stand in a path, and can be read. wasmtime follows links only below the
//!   directory that it was given and takes one that begins with `/` for an attempt to escape. Here that directory is the
//!   root of the process, so `/` is where it points to: the path is resolved by the kernel and the call is made again. Paths
//!   that climb above their directory by their own text stay refused, and so does making an absolute link.
//! - A read-only file system is `EROFS`, a rename across mounts `EXDEV`, and too many open files `EMFILE`. wasmtime knows none
//!   of them and says `EIO`. The reason is looked up after the call has failed, so calls that succeed pay nothing.
//! - A path that ends with a slash is of a directory: `path_remove_directory` takes it, where wasmtime says `EINVAL`, and
//!   `path_filestat_get` of a file says `ENOTDIR`, where wasmtime overlooks the slash.
//! - `fd_sync` of a directory writes it to the disk, as databases do after they have made a file. wasmtime says `EBADF`.

mod calls;
mod sockets;

use wasmtime::{Caller, Linker};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p0::{self, wasi_unstable};
use wasmtime_wasi::p1::{self, wasi_snapshot_preview1};
use wiggle::GuestMemory;

pub(crate) use self::calls::ModuleState;
use self::calls::{Place, TEXT, ends_with_slash, is_directory, now, opened, parts, read_link, with_paths, without_slashes};
pub(super) use self::sockets::{Sockets, link as link_sockets};
use super::errno::{EBADF, ENOTDIR, EPERM};

/// Flag of a lookup: a symbolic link at the end of the path is followed.
const FOLLOW: i32 = 1;

/// Flag of `path_open`: the file must be a directory.
const DIRECTORY: i32 = 2;

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
                    let error =
                        with_paths(&mut guest, [place], lookup & FOLLOW != 0, (result, 4), |wasi, memory, [at], result| {
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
                    let slash = ends_with_slash(&mut guest, place)?;
                    let lookup = if slash { lookup | FOLLOW } else { lookup };
                    let follow = lookup & FOLLOW != 0;
                    let error = with_paths(&mut guest, [place], follow, (result, $filestat), |wasi, memory, [at], result| {
                        now($wasi::path_filestat_get(wasi, memory, at.directory, lookup, at.pointer, at.length, result))
                    })?;
                    if error == 0 && slash && !is_directory(&mut guest, result)? { Ok(ENOTDIR) } else { Ok(error) }
                },
            )?;
            linker.func_wrap(
                module,
                "path_filestat_set_times",
                |mut guest: Guest<'_>, directory: i32, lookup: i32, pointer: i32, length: i32, a: i64, m: i64, flags: i32| {
                    let place = Place { directory, pointer, length };
                    with_paths(&mut guest, [place], lookup & FOLLOW != 0, (0, 0), |wasi, memory, [at], _| {
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
                    with_paths(&mut guest, [place], false, (0, 0), |wasi, memory, [at], _| {
                        now($wasi::path_create_directory(wasi, memory, at.directory, at.pointer, at.length))
                    })
                },
            )?;
            linker.func_wrap(
                module,
                "path_remove_directory",
                |mut guest: Guest<'_>, directory: i32, pointer: i32, length: i32| {
                    let place = without_slashes(&mut guest, Place { directory, pointer, length })?;
                    with_paths(&mut guest, [place], false, (0, 0), |wasi, memory, [at], _| {
                        now($wasi::path_remove_directory(wasi, memory, at.directory, at.pointer, at.length))
                    })
                },
            )?;
            linker.func_wrap(module, "path_unlink_file", |mut guest: Guest<'_>, directory: i32, pointer: i32, length: i32| {
                let place = Place { directory, pointer, length };
                with_paths(&mut guest, [place], false, (0, 0), |wasi, memory, [at], _| {
                    now($wasi::path_unlink_file(wasi, memory, at.directory, at.pointer, at.length))
                })
            })?;
            linker.func_wrap(
                module,
                "path_rename",
                |mut guest: Guest<'_>, from: i32, from_pointer: i32, from_length: i32, to: i32, pointer: i32, length: i32| {
                    let source = Place { directory: from, pointer: from_pointer, length: from_length };
                    let target = Place { directory: to, pointer, length };
                    with_paths(&mut guest, [source, target], false, (0, 0), |wasi, memory, [from, to], _| {
                        let Place { directory, pointer, length } = from;
                        now($wasi::path_rename(wasi, memory, directory, pointer, length, to.directory, to.pointer, to.length))
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
                    with_paths(&mut guest, [source, target], false, (0, 0), |wasi, memory, [from, to], _| {
                        let Place { directory, pointer, length } = from;
                        let Place { directory: other, pointer: at, length: bytes } = to;
                        now($wasi::path_link(wasi, memory, directory, lookup, pointer, length, other, at, bytes))
                    })
                },
            )?;
            linker.func_wrap(
                module,
                "path_symlink",
                |mut guest: Guest<'_>, text: i32, text_length: i32, directory: i32, pointer: i32, length: i32| {
                    let text = Place { directory: TEXT, pointer: text, length: text_length };
                    let place = Place { directory, pointer, length };
                    with_paths(&mut guest, [text, place], false, (0, 0), |wasi, memory, [text, at], _| {
                        let Place { directory, pointer, length } = at;
                        now($wasi::path_symlink(wasi, memory, text.pointer, text.length, directory, pointer, length))
                    })
                },
            )?;
            linker.func_wrap(
                module,
                "path_readlink",
                |mut guest: Guest<'_>, directory: i32, pointer: i32, length: i32, buffer: i32, size: i32, result: i32| {
                    let (memory, state) = parts(&mut guest)?;
                    let directory = match state.directory(directory) {
                        Ok(directory) => directory,
                        Err(error) => return Ok(error),
                    };
                    let (wasi, memory) = (&mut state.wasi, &mut GuestMemory::Unshared(memory));
                    let error = now($wasi::path_readlink(wasi, memory, directory, pointer, length, buffer, size, result))?;
                    if error != EPERM {
                        return Ok(error);
                    }
                    read_link(&mut guest, Place { directory, pointer, length }, (buffer, size), result)
                },
            )?;
            linker.func_wrap(module, "fd_close", |mut guest: Guest<'_>, fd: i32| {
                let (memory, state) = parts(&mut guest)?;
                state.remember(fd, None);
                now($wasi::fd_close(&mut state.wasi, &mut GuestMemory::Unshared(memory), fd))
            })?;
            linker.func_wrap(module, "fd_sync", |mut guest: Guest<'_>, fd: i32| {
                let (memory, state) = parts(&mut guest)?;
                let error = now($wasi::fd_sync(&mut state.wasi, &mut GuestMemory::Unshared(memory), fd))?;
                Ok(if error == EBADF { state.sync_directory(fd) } else { error })
            })?;
            linker.func_wrap(module, "fd_renumber", |mut guest: Guest<'_>, from: i32, to: i32| {
                let (memory, state) = parts(&mut guest)?;
                let error = now($wasi::fd_renumber(&mut state.wasi, &mut GuestMemory::Unshared(memory), from, to))?;
                if error == 0 {
                    state.renumber(from, to);
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
