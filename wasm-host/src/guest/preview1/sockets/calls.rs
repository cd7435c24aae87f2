//! The functions of WASI 0.1 that take descriptors, for a guest that has sockets.

use rustix::net::RecvFlags;
use wasmtime::{Caller, Linker, bail};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as wasi;
use wiggle::GuestMemory;

use super::table::{Entry, Table};
use super::{SNAPSHOT, abi, poll};
use crate::guest::errno::{EBADF, EINVAL, ENODEV, ENOTDIR, ENOTSOCK, ENOTSUP, ESPIPE, SUCCESS};
use crate::guest::preview1::calls::{ModuleState, now, parts, write};

type Guest<'a> = Caller<'a, ModuleState>;

/// Tag of a `prestat` that is no directory. There is none in the specification; who looks for directories passes it over, as wasi-libc
/// and Go do, where an error would end their search.
const NO_DIRECTORY: u8 = 1;

/// Puts the functions in place of those of files alone.
pub(in crate::guest) fn link(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    link_files(linker)?;
    link_both(linker)?;
    link_sockets(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Functions that are wasmtime's, by its own numbers, and refused for a socket with the error that Linux has for it.
macro_rules! of_files {
    ($linker:ident, $finish:path: $($name:ident($($argument:ident: $kind:ty),*) else $refusal:expr;)*) => {$(
        $linker.func_wrap(SNAPSHOT, stringify!($name), |mut guest: Guest<'_>, fd: i32 $(, $argument: $kind)*| {
            let (memory, state) = parts(&mut guest)?;
            match table(&mut state.table)?.file(fd, $refusal) {
                Ok(file) => $finish(wasi::$name(&mut state.wasi, &mut GuestMemory::Unshared(memory), file $(, $argument)*)),
                Err(error) => Ok(error),
            }
        })?;
    )*};
}

fn link_files(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    of_files! { linker, now:
        fd_advise(offset: i64, length: i64, advice: i32) else ESPIPE;
        fd_datasync() else EINVAL;
        fd_filestat_set_size(size: i64) else EINVAL;
        fd_filestat_set_times(accessed: i64, modified: i64, flags: i32) else ENOTSUP;
        fd_pread(vectors: i32, count: i32, offset: i64, result: i32) else ESPIPE;
        fd_pwrite(vectors: i32, count: i32, offset: i64, result: i32) else ESPIPE;
        fd_readdir(buffer: i32, length: i32, cookie: i64, result: i32) else ENOTDIR;
        fd_seek(offset: i64, whence: i32, result: i32) else ESPIPE;
        fd_sync() else EINVAL;
    }
    // wasmtime makes no futures of these.
    of_files! { linker, std::convert::identity:
        fd_allocate(offset: i64, length: i64) else ENODEV;
        fd_fdstat_set_rights(base: i64, inheriting: i64) else ENOTSUP;
        fd_prestat_dir_name(path: i32, length: i32) else ENOTDIR;
        fd_tell(result: i32) else ESPIPE;
    }
    Ok(())
}

/// The guest's descriptors. Functions here are linked for guests that have the table.
fn table(table: &mut Option<Box<Table>>) -> wasmtime::Result<&mut Table> {
    match table {
        Some(table) => Ok(table),
        None => bail!("a guest without sockets calls one of their functions"),
    }
}

/// Writes a result, or returns the error.
fn told(memory: &mut [u8], result: i32, outcome: Result<impl AsRef<[u8]>, i32>) -> wasmtime::Result<i32> {
    match outcome {
        Ok(bytes) => write(memory, result, bytes.as_ref()).map(|()| SUCCESS),
        Err(error) => Ok(error),
    }
}

fn counted(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes()
}

/// Functions of sockets and files.
fn link_both(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    linker.func_wrap(SNAPSHOT, "fd_close", |mut guest: Guest<'_>, fd: i32| {
        let (_, state) = parts(&mut guest)?;
        let closed = table(&mut state.table)?.remove(fd);
        closed.map_or(Ok(EBADF), |entry| close(state, entry))
    })?;
    linker.func_wrap(SNAPSHOT, "fd_renumber", |mut guest: Guest<'_>, from: i32, to: i32| {
        let (_, state) = parts(&mut guest)?;
        match table(&mut state.table)?.renumber(from, to) {
            Ok(replaced) => replaced.map_or(Ok(SUCCESS), |entry| close(state, entry)),
            Err(error) => Ok(error),
        }
    })?;
    linker.func_wrap(SNAPSHOT, "fd_fdstat_get", |mut guest: Guest<'_>, fd: i32, result: i32| {
        let (memory, state) = parts(&mut guest)?;
        let table = table(&mut state.table)?;
        if let Some(socket) = table.socket(fd) {
            return told(memory, result, socket.status());
        }
        match table.file(fd, ENOTSOCK) {
            Ok(file) => now(wasi::fd_fdstat_get(&mut state.wasi, &mut GuestMemory::Unshared(memory), file, result)),
            Err(error) => Ok(error),
        }
    })?;
    linker.func_wrap(SNAPSHOT, "fd_fdstat_set_flags", |mut guest: Guest<'_>, fd: i32, flags: i32| {
        let (memory, state) = parts(&mut guest)?;
        let table = table(&mut state.table)?;
        if let Some(socket) = table.socket(fd) {
            return Ok(socket.set_flags(flags).err().unwrap_or(SUCCESS));
        }
        match table.file(fd, ENOTSOCK) {
            Ok(file) => wasi::fd_fdstat_set_flags(&mut state.wasi, &mut GuestMemory::Unshared(memory), file, flags),
            Err(error) => Ok(error),
        }
    })?;
    linker.func_wrap(SNAPSHOT, "fd_filestat_get", |mut guest: Guest<'_>, fd: i32, result: i32| {
        let (memory, state) = parts(&mut guest)?;
        match table(&mut state.table)?.get(fd) {
            Some(Entry::Socket(socket)) => told(memory, result, socket.file_status()),
            Some(Entry::File(file)) => {
                now(wasi::fd_filestat_get(&mut state.wasi, &mut GuestMemory::Unshared(memory), *file, result))
            }
            None => Ok(EBADF),
        }
    })?;
    linker.func_wrap(SNAPSHOT, "fd_prestat_get", |mut guest: Guest<'_>, fd: i32, result: i32| {
        let (memory, state) = parts(&mut guest)?;
        match table(&mut state.table)?.get(fd) {
            Some(Entry::Socket(socket)) if socket.listens() => write(memory, result, &[NO_DIRECTORY]).map(|()| SUCCESS),
            Some(Entry::File(file)) => wasi::fd_prestat_get(&mut state.wasi, &mut GuestMemory::Unshared(memory), *file, result),
            _ => Ok(EBADF),
        }
    })?;
    linker.func_wrap_async(SNAPSHOT, "fd_read", |mut guest: Guest<'_>, (fd, vectors, count, result): (i32, i32, i32, i32)| {
        Box::new(async move {
            let (memory, state) = parts(&mut guest)?;
            match table(&mut state.table)?.get(fd) {
                Some(Entry::Socket(socket)) => {
                    let vectors = abi::vectors(memory, vectors, count)?;
                    let received = socket.receive(memory, &vectors, RecvFlags::empty());
                    told(memory, result, received.map(counted))
                }
                Some(Entry::File(file)) => {
                    let (wasi, memory) = (&mut state.wasi, &mut GuestMemory::Unshared(memory));
                    wasi::fd_read(wasi, memory, *file, vectors, count, result).await
                }
                None => Ok(EBADF),
            }
        })
    })?;
    linker.func_wrap_async(
        SNAPSHOT,
        "fd_write",
        |mut guest: Guest<'_>, (fd, vectors, count, result): (i32, i32, i32, i32)| {
            Box::new(async move {
                let (memory, state) = parts(&mut guest)?;
                match table(&mut state.table)?.get(fd) {
                    Some(Entry::Socket(socket)) => {
                        let sent = socket.send(memory, &abi::vectors(memory, vectors, count)?);
                        told(memory, result, sent.map(counted))
                    }
                    Some(Entry::File(file)) => {
                        let (wasi, memory) = (&mut state.wasi, &mut GuestMemory::Unshared(memory));
                        wasi::fd_write(wasi, memory, *file, vectors, count, result).await
                    }
                    None => Ok(EBADF),
                }
            })
        },
    )?;
    linker.func_wrap_async(
        SNAPSHOT,
        "poll_oneoff",
        |mut guest: Guest<'_>, (subscriptions, events, count, result): (i32, i32, i32, i32)| {
            Box::new(async move {
                let (memory, state) = parts(&mut guest)?;
                let length = usize::try_from(count.cast_unsigned())?;
                if length == 0 {
                    // There is nothing to wait for: wasmtime's answer, and wasi-libc's.
                    return Ok(EINVAL);
                }
                let subscriptions = abi::range(memory, subscriptions, length.saturating_mul(abi::SUBSCRIPTION_BYTES))?;
                let room = abi::range(memory, events, length.saturating_mul(abi::EVENT_BYTES))?;
                let table = table(&mut state.table)?;
                let records = memory.get(subscriptions).unwrap_or_default();
                let found = match poll::poll(&mut state.wasi, table, records).await? {
                    Ok(found) => found,
                    Err(error) => return Ok(error),
                };
                let places = memory.get_mut(room).unwrap_or_default().as_chunks_mut().0;
                for (place, event) in places.iter_mut().zip(&found) {
                    *place = *event;
                }
                told(memory, result, Ok(counted(found.len())))
            })
        },
    )?;
    Ok(())
}

/// Closes what has lost its number.
fn close(state: &mut ModuleState, entry: Entry) -> wasmtime::Result<i32> {
    match entry {
        // The descriptor is closed with it.
        Entry::Socket(_) => Ok(SUCCESS),
        Entry::File(file) => {
            state.remember(file, None);
            now(wasi::fd_close(&mut state.wasi, &mut GuestMemory::Unshared(&mut []), file))
        }
    }
}

/// Functions of sockets alone.
fn link_sockets(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    linker.func_wrap(SNAPSHOT, "sock_accept", |mut guest: Guest<'_>, fd: i32, flags: i32, result: i32| {
        let (memory, state) = parts(&mut guest)?;
        let table = table(&mut state.table)?;
        // Before there is a connection that could be lost.
        abi::range(memory, result, 4)?;
        let accepted = match table.get(fd) {
            Some(Entry::Socket(socket)) => socket.accept(flags),
            other => Err(not_a_socket(other)),
        };
        told(memory, result, accepted.map(|connection| table.insert(Entry::Socket(connection)).to_le_bytes()))
    })?;
    linker.func_wrap(
        SNAPSHOT,
        "sock_recv",
        |mut guest: Guest<'_>, fd: i32, vectors: i32, count: i32, flags: i32, result: i32, told_flags: i32| {
            let (memory, state) = parts(&mut guest)?;
            if flags & !(abi::PEEK | abi::WAITALL) != 0 {
                return Ok(EINVAL);
            }
            let mut wanted = RecvFlags::empty();
            wanted.set(RecvFlags::PEEK, flags & abi::PEEK != 0);
            wanted.set(RecvFlags::WAITALL, flags & abi::WAITALL != 0);
            let received = match table(&mut state.table)?.get(fd) {
                Some(Entry::Socket(socket)) => {
                    let vectors = abi::vectors(memory, vectors, count)?;
                    socket.receive(memory, &vectors, wanted)
                }
                other => Err(not_a_socket(other)),
            };
            if received.is_ok() {
                // A stream has no messages that could be cut off.
                write(memory, told_flags, &[0; 2])?;
            }
            told(memory, result, received.map(counted))
        },
    )?;
    linker.func_wrap(
        SNAPSHOT,
        "sock_send",
        |mut guest: Guest<'_>, fd: i32, vectors: i32, count: i32, flags: i32, result: i32| {
            let (memory, state) = parts(&mut guest)?;
            let sent = match table(&mut state.table)?.get(fd) {
                // The specification has none yet.
                _ if flags != 0 => Err(EINVAL),
                Some(Entry::Socket(socket)) => socket.send(memory, &abi::vectors(memory, vectors, count)?),
                other => Err(not_a_socket(other)),
            };
            told(memory, result, sent.map(counted))
        },
    )?;
    linker.func_wrap(SNAPSHOT, "sock_shutdown", |mut guest: Guest<'_>, fd: i32, how: i32| {
        let (_, state) = parts(&mut guest)?;
        let ended = match table(&mut state.table)?.get(fd) {
            Some(Entry::Socket(socket)) => socket.shut_down(how),
            other => Err(not_a_socket(other)),
        };
        wasmtime::error::Ok(ended.err().unwrap_or(SUCCESS))
    })?;
    Ok(())
}

fn not_a_socket(entry: Option<&Entry>) -> i32 {
    if entry.is_some() { ENOTSOCK } else { EBADF }
}
