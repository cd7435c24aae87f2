//! What std does not offer on WASI, or not in one call: status of a path with its inode and links, symbolic links, times
//! of a path, and waiting for several descriptors at once. The same calls exist on Linux, where the unit tests run.
#![allow(unsafe_code, reason = "calls into the C library; every block says why it is sound")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, RawFd};
use std::time::Duration;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A character device.
    Character,
    /// A block device.
    Block,
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// What the host does not name.
    Unknown,
}

/// The status of a path. Owner and permissions are missing: WASI does not tell them.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Device.
    pub device: u64,
    /// Inode.
    pub inode: u64,
    /// Hard links.
    pub links: u64,
    /// Last access: seconds and nanoseconds since 1970.
    pub accessed: (i64, u32),
    /// Last modification.
    pub modified: (i64, u32),
    /// Last change of the status.
    pub changed: (i64, u32),
}

impl Status {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }
}

fn c_path(path: &str) -> io::Result<CString> {
    CString::new(path).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The status of the path itself, or of what it leads to.
pub fn status(path: &str, follow: bool) -> io::Result<Status> {
    let name = c_path(path)?;
    let mut buffer = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `name` ends with a zero byte and `buffer` has room for the structure.
    let code = unsafe {
        match follow {
            true => libc::stat(name.as_ptr(), buffer.as_mut_ptr()),
            false => libc::lstat(name.as_ptr(), buffer.as_mut_ptr()),
        }
    };
    check(code)?;
    // SAFETY: the call succeeded and so filled the structure.
    Ok(convert(&unsafe { buffer.assume_init() }))
}

/// The status of an open descriptor.
pub fn descriptor_status(fd: RawFd) -> io::Result<Status> {
    let mut buffer = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `buffer` has room for the structure; a closed descriptor is an error.
    check(unsafe { libc::fstat(fd, buffer.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and so filled the structure.
    Ok(convert(&unsafe { buffer.assume_init() }))
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between WASI and Linux")]
fn convert(stat: &libc::stat) -> Status {
    let kind = match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Kind::File,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Link,
        libc::S_IFCHR => Kind::Character,
        libc::S_IFBLK => Kind::Block,
        libc::S_IFSOCK => Kind::Socket,
        libc::S_IFIFO => Kind::Pipe,
        _ => Kind::Unknown,
    };
    #[cfg(target_os = "wasi")]
    let times = [stat.st_atim, stat.st_mtim, stat.st_ctim].map(|time| (time.tv_sec as i64, time.tv_nsec as u32));
    #[cfg(not(target_os = "wasi"))]
    let times = [
        (stat.st_atime as i64, stat.st_atime_nsec as u32),
        (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
    ];
    let [accessed, modified, changed] = times;
    Status {
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        device: stat.st_dev as u64,
        inode: stat.st_ino as u64,
        links: stat.st_nlink as u64,
        accessed,
        modified,
        changed,
    }
}

/// Makes a symbolic link at `path` that leads to `target`.
pub fn symlink(target: &str, path: &str) -> io::Result<()> {
    let (target, path) = (c_path(target)?, c_path(path)?);
    // SAFETY: both strings end with a zero byte.
    check(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) })
}

/// Sets the times of access and modification (seconds, nanoseconds); `None` is now.
pub fn set_times(path: &str, accessed: Option<(i64, u32)>, modified: Option<(i64, u32)>, follow: bool) -> io::Result<()> {
    let name = c_path(path)?;
    let convert = |time: Option<(i64, u32)>| {
        let (seconds, nanoseconds) = time.unwrap_or_else(now);
        libc::timespec { tv_sec: seconds as _, tv_nsec: nanoseconds as _ }
    };
    let times = [convert(accessed), convert(modified)];
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    // SAFETY: the name ends with a zero byte; the array has the two entries that the call reads.
    check(unsafe { libc::utimensat(libc::AT_FDCWD, name.as_ptr(), times.as_ptr(), flags) })
}

/// Seconds and nanoseconds since 1970.
pub fn now() -> (i64, u32) {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (elapsed.as_secs() as i64, elapsed.subsec_nanos())
}

/// Waits until one of the descriptors is ready or the time is over, and says for each whether it is ready.
/// `true` beside a descriptor asks for writing. Without a time it waits for as long as it takes.
pub fn poll(descriptors: &[(RawFd, bool)], wait: Option<Duration>) -> Vec<bool> {
    let mut list: Vec<libc::pollfd> = descriptors
        .iter()
        .map(|&(fd, write)| libc::pollfd { fd, events: if write { libc::POLLOUT } else { libc::POLLIN }, revents: 0 })
        .collect();
    // Rounded up: waking a fraction of a millisecond early would spin.
    let milliseconds = match wait {
        None => -1,
        Some(time) => i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
    };
    if list.is_empty() {
        if let Some(time) = wait {
            std::thread::sleep(time);
        }
        return Vec::new();
    }
    // SAFETY: the pointer and the length are those of one vector, which lives through the call.
    let code = unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, milliseconds) };
    if code < 0 {
        // What cannot be waited for is called ready; reading it tells the error.
        return vec![true; list.len()];
    }
    list.iter().map(|entry| entry.revents != 0).collect()
}

/// The descriptor that the process was started with, as a file.
pub fn inherited(fd: RawFd) -> File {
    // SAFETY: called once for each of the descriptors that a process begins with or is given, which nobody else owns.
    unsafe { File::from_raw_fd(fd) }
}

/// Takes a connection of a listening socket that the process was given.
pub fn accept(listener: RawFd) -> io::Result<File> {
    #[cfg(target_os = "wasi")]
    {
        #[link(wasm_import_module = "wasi_snapshot_preview1")]
        unsafe extern "C" {
            fn sock_accept(fd: i32, flags: i32, out: *mut i32) -> i32;
        }
        let mut connection = 0;
        // SAFETY: the function of WASI preview 1 with this type; it writes one number, for which there is room.
        match unsafe { sock_accept(listener, 0, &mut connection) } {
            0 => Ok(inherited(connection)),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
    #[cfg(not(target_os = "wasi"))]
    {
        // SAFETY: null pointers say that the peer's address is not wanted.
        let connection = unsafe { libc::accept(listener, std::ptr::null_mut(), std::ptr::null_mut()) };
        if connection < 0 { Err(io::Error::last_os_error()) } else { Ok(inherited(connection)) }
    }
}

/// The words for an error, as people know them from a shell.
pub fn words(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(libc::ENOENT) => "No such file or directory",
        Some(libc::EACCES) => "Permission denied",
        Some(libc::EPERM) => "Operation not permitted",
        #[cfg(target_os = "wasi")]
        Some(76) => "Operation not permitted",
        Some(libc::EROFS) => "Read-only file system",
        Some(libc::EEXIST) => "File exists",
        Some(libc::ENOTDIR) => "Not a directory",
        Some(libc::EISDIR) => "Is a directory",
        Some(libc::ENOTEMPTY) => "Directory not empty",
        Some(libc::ELOOP) => "Too many levels of symbolic links",
        Some(libc::EINVAL) => "Invalid argument",
        Some(libc::ENOSPC) => "No space left on device",
        Some(libc::EDQUOT) => "Quota exceeded",
        Some(libc::EFBIG) => "File too large",
        Some(libc::EBADF) => "Bad file descriptor",
        Some(libc::EXDEV) => "Cross-device link",
        Some(libc::EBUSY) => "Resource busy",
        Some(libc::EIO) => "I/O error",
        Some(libc::EMFILE) => "Too many open files",
        Some(libc::EMLINK) => "Too many links",
        Some(libc::ENAMETOOLONG) => "File name too long",
        Some(libc::ENXIO) => "No such device or address",
        Some(libc::ENODEV) => "No such device",
        Some(libc::ENOSYS) => "Function not implemented",
        Some(libc::ENOTSUP) => "Not supported",
        Some(libc::EPIPE) => "Broken pipe",
        Some(libc::ESPIPE) => "Illegal seek",
        Some(libc::ETXTBSY) => "Text file busy",
        _ => return error.to_string(),
    };
    text.to_string()
}
