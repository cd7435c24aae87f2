//! The functions with Rust's values in and out, and how a check says what it found.

use crate::abi::*;

/// `Err`: what was found in the place of what was expected.
pub type Check = Result<(), String>;

/// Fails a check unless something is so.
#[macro_export]
macro_rules! so {
    ($condition:expr) => {
        if !$condition {
            return Err(format!("not so in line {}: {}", line!(), stringify!($condition)));
        }
    };
    ($condition:expr, $value:expr) => {
        if !$condition {
            return Err(format!("not so in line {}: {}; {:?}", line!(), stringify!($condition), $value));
        }
    };
}

/// Fails a check unless a call ends with this errno, or one of these.
#[macro_export]
macro_rules! fails {
    ($call:expr, $($errno:expr),+) => {{
        let found: Result<_, u16> = $call;
        match found {
            Err(errno) if [$($errno),+].contains(&errno) => {}
            Err(errno) => return Err(format!("line {}: {} is errno {errno}, not {}", line!(), stringify!($call), stringify!($($errno),+))),
            Ok(_) => return Err(format!("line {}: {} succeeds instead of {}", line!(), stringify!($call), stringify!($($errno),+))),
        }
    }};
}

/// The value of a call that succeeds.
#[macro_export]
macro_rules! ok {
    ($call:expr) => {{
        let found: Result<_, u16> = $call;
        match found {
            Ok(value) => value,
            Err(errno) => return Err(format!("line {}: {} is errno {errno}", line!(), stringify!($call))),
        }
    }};
}

pub type Call<T> = Result<T, Errno>;

fn result<T>(errno: Errno, value: T) -> Call<T> {
    if errno == 0 { Ok(value) } else { Err(errno) }
}

/// Calls a function with a place for its result.
fn filled<T: Default>(call: impl FnOnce(*mut T) -> Errno) -> Call<T> {
    let mut value = T::default();
    let errno = call(&mut value);
    result(errno, value)
}

fn bytes(from: &[u8]) -> Buffer {
    Buffer { start: from.as_ptr().cast_mut(), length: from.len() }
}

/// Texts of argv or of the environment.
pub fn texts(
    sizes: unsafe extern "C" fn(*mut usize, *mut usize) -> Errno,
    get: unsafe extern "C" fn(*mut *mut u8, *mut u8) -> Errno,
) -> Call<Vec<String>> {
    let (mut count, mut length) = (0, 0);
    // SAFETY: both are places for a number.
    result(unsafe { sizes(&mut count, &mut length) }, ())?;
    let mut starts = vec![std::ptr::null_mut(); count];
    let mut buffer = vec![0; length];
    // SAFETY: both are as large as the host has said.
    result(unsafe { get(starts.as_mut_ptr(), buffer.as_mut_ptr()) }, ())?;
    let base = buffer.as_ptr() as usize;
    Ok(starts
        .iter()
        .map(|start| {
            let text = &buffer[*start as usize - base..];
            let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            String::from_utf8_lossy(&text[..end]).into_owned()
        })
        .collect())
}

macro_rules! plain {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        $(pub fn $name($($argument: $type),*) -> Call<()> {
            // SAFETY: numbers alone.
            result(unsafe { raw::$name($($argument),*) }, ())
        })*
    };
}

plain! {
    fd_advise(fd: Fd, offset: u64, length: u64, advice: u8);
    fd_allocate(fd: Fd, offset: u64, length: u64);
    fd_close(fd: Fd);
    fd_datasync(fd: Fd);
    fd_sync(fd: Fd);
    fd_fdstat_set_flags(fd: Fd, flags: u16);
    fd_fdstat_set_rights(fd: Fd, base: u64, inheriting: u64);
    fd_filestat_set_size(fd: Fd, size: u64);
    fd_filestat_set_times(fd: Fd, accessed: u64, modified: u64, flags: u16);
    fd_renumber(from: Fd, to: Fd);
    sched_yield();
    proc_raise(signal: u8);
    sock_shutdown(fd: Fd, how: u8);
}

macro_rules! filling {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(pub fn $name($($argument: $type),*) -> Call<$result> {
            // SAFETY: the place is of the type that the function fills.
            filled(|place| unsafe { raw::$name($($argument,)* place) })
        })*
    };
}

filling! {
    clock_res_get(clock: u32) -> u64;
    clock_time_get(clock: u32, precision: u64) -> u64;
    fd_fdstat_get(fd: Fd) -> Fdstat;
    fd_filestat_get(fd: Fd) -> Filestat;
    fd_prestat_get(fd: Fd) -> Prestat;
    fd_seek(fd: Fd, offset: i64, whence: u8) -> u64;
    fd_tell(fd: Fd) -> u64;
    sock_accept(fd: Fd, flags: u16) -> Fd;
}

pub fn fd_prestat_dir_name(fd: Fd, length: usize) -> Call<String> {
    let mut name = vec![0; length];
    // SAFETY: the place has that length.
    let errno = unsafe { raw::fd_prestat_dir_name(fd, name.as_mut_ptr(), length) };
    result(errno, String::from_utf8_lossy(&name).into_owned())
}

pub fn write(fd: Fd, text: &[u8]) -> Call<usize> {
    // SAFETY: one buffer that outlives the call, as below.
    filled(|place| unsafe { raw::fd_write(fd, &bytes(text), 1, place) })
}

pub fn write_parts(fd: Fd, parts: &[&[u8]]) -> Call<usize> {
    let parts: Vec<Buffer> = parts.iter().map(|part| bytes(part)).collect();
    filled(|place| unsafe { raw::fd_write(fd, parts.as_ptr(), parts.len(), place) })
}

pub fn pwrite(fd: Fd, text: &[u8], offset: u64) -> Call<usize> {
    filled(|place| unsafe { raw::fd_pwrite(fd, &bytes(text), 1, offset, place) })
}

pub fn read(fd: Fd, length: usize) -> Call<Vec<u8>> {
    read_with(length, |buffer, place| unsafe { raw::fd_read(fd, buffer, 1, place) })
}

pub fn pread(fd: Fd, length: usize, offset: u64) -> Call<Vec<u8>> {
    read_with(length, |buffer, place| unsafe { raw::fd_pread(fd, buffer, 1, offset, place) })
}

pub fn receive(fd: Fd, length: usize) -> Call<Vec<u8>> {
    let mut told = 0;
    read_with(length, |buffer, place| unsafe { raw::sock_recv(fd, buffer, 1, 0, place, &mut told) })
}

pub fn send(fd: Fd, text: &[u8]) -> Call<usize> {
    filled(|place| unsafe { raw::sock_send(fd, &bytes(text), 1, 0, place) })
}

fn read_with(length: usize, call: impl FnOnce(*const Buffer, *mut usize) -> Errno) -> Call<Vec<u8>> {
    let mut text = vec![0; length];
    let buffer = Buffer { start: text.as_mut_ptr(), length };
    let read = filled(|place| call(&buffer, place))?;
    text.truncate(read);
    Ok(text)
}

/// Two reads' worth of buffers in one call.
pub fn read_parts(fd: Fd, first: usize, second: usize) -> Call<(Vec<u8>, Vec<u8>, usize)> {
    let (mut one, mut two) = (vec![0; first], vec![0; second]);
    let parts = [Buffer { start: one.as_mut_ptr(), length: first }, Buffer { start: two.as_mut_ptr(), length: second }];
    let read = filled(|place| unsafe { raw::fd_read(fd, parts.as_ptr(), 2, place) })?;
    Ok((one, two, read))
}

pub fn readdir(fd: Fd, length: usize, cookie: u64) -> Call<Vec<u8>> {
    let mut buffer = vec![0; length];
    let used = filled(|place| unsafe { raw::fd_readdir(fd, buffer.as_mut_ptr(), length, cookie, place) })?;
    buffer.truncate(used);
    Ok(buffer)
}

macro_rules! of_a_path {
    ($($name:ident => $function:ident;)*) => {
        $(pub fn $name(fd: Fd, path: &str) -> Call<()> {
            // SAFETY: a text that outlives the call.
            result(unsafe { raw::$function(fd, path.as_ptr(), path.len()) }, ())
        })*
    };
}

of_a_path! {
    mkdir => path_create_directory;
    rmdir => path_remove_directory;
    unlink => path_unlink_file;
}

pub fn stat(fd: Fd, lookup: u32, path: &str) -> Call<Filestat> {
    filled(|place| unsafe { raw::path_filestat_get(fd, lookup, path.as_ptr(), path.len(), place) })
}

pub fn set_times(fd: Fd, lookup: u32, path: &str, accessed: u64, modified: u64, flags: u16) -> Call<()> {
    result(unsafe { raw::path_filestat_set_times(fd, lookup, path.as_ptr(), path.len(), accessed, modified, flags) }, ())
}

pub fn link(from: Fd, lookup: u32, old: &str, to: Fd, new: &str) -> Call<()> {
    result(unsafe { raw::path_link(from, lookup, old.as_ptr(), old.len(), to, new.as_ptr(), new.len()) }, ())
}

pub fn rename(from: Fd, old: &str, to: Fd, new: &str) -> Call<()> {
    result(unsafe { raw::path_rename(from, old.as_ptr(), old.len(), to, new.as_ptr(), new.len()) }, ())
}

pub fn symlink(text: &str, fd: Fd, path: &str) -> Call<()> {
    result(unsafe { raw::path_symlink(text.as_ptr(), text.len(), fd, path.as_ptr(), path.len()) }, ())
}

pub fn readlink(fd: Fd, path: &str, length: usize) -> Call<String> {
    let mut buffer = vec![0; length];
    let used = filled(|place| unsafe { raw::path_readlink(fd, path.as_ptr(), path.len(), buffer.as_mut_ptr(), length, place) })?;
    Ok(String::from_utf8_lossy(&buffer[..used.min(length)]).into_owned())
}

/// Opens without following a link at the end.
pub fn open(fd: Fd, path: &str, how: u16, rights: u64, flags: u16) -> Call<Fd> {
    open_with(fd, 0, path.as_bytes(), how, rights, flags)
}

pub fn open_with(fd: Fd, lookup: u32, path: &[u8], how: u16, rights: u64, flags: u16) -> Call<Fd> {
    filled(|place| unsafe { raw::path_open(fd, lookup, path.as_ptr(), path.len(), how, rights, ALL, flags, place) })
}

pub fn open_dir(fd: Fd, path: &str) -> Call<Fd> {
    open(fd, path, O_DIRECTORY, ALL & !WRITE, 0)
}

pub fn poll(wanted: &[Subscription]) -> Call<Vec<Event>> {
    let mut events = vec![Event::default(); wanted.len()];
    let happened = filled(|place| unsafe { raw::poll_oneoff(wanted.as_ptr(), events.as_mut_ptr(), wanted.len(), place) })?;
    events.truncate(happened);
    Ok(events)
}

pub fn random(length: usize) -> Call<Vec<u8>> {
    let mut buffer = vec![0; length];
    result(unsafe { raw::random_get(buffer.as_mut_ptr(), length) }, ())?;
    Ok(buffer)
}
