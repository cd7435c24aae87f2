//! `wasi_snapshot_preview1` as its witx declares it: types, numbers and functions, with nothing between.

pub type Fd = u32;
/// A result: 0 or an errno.
pub type Errno = u16;

pub const BADF: Errno = 8;
pub const EXIST: Errno = 20;
pub const ILSEQ: Errno = 25;
pub const INVAL: Errno = 28;
pub const ISDIR: Errno = 31;
pub const LOOP: Errno = 32;
pub const NAMETOOLONG: Errno = 37;
pub const NOENT: Errno = 44;
pub const NOTDIR: Errno = 54;
pub const NOTEMPTY: Errno = 55;
pub const NOTSOCK: Errno = 57;
pub const NOTSUP: Errno = 58;
pub const PERM: Errno = 63;
pub const SPIPE: Errno = 70;
pub const NOTCAPABLE: Errno = 76;

pub const DIRECTORY: u8 = 3;
pub const REGULAR_FILE: u8 = 4;
pub const SYMBOLIC_LINK: u8 = 7;

pub const CREAT: u16 = 1;
pub const O_DIRECTORY: u16 = 2;
pub const EXCL: u16 = 4;
pub const TRUNC: u16 = 8;

pub const APPEND: u16 = 1;
pub const NONBLOCK: u16 = 4;

pub const READ: u64 = 1 << 1;
pub const WRITE: u64 = 1 << 6;
/// Every right that the witx names.
pub const ALL: u64 = (1 << 30) - 1;

pub const FOLLOW: u32 = 1;

pub const REALTIME: u32 = 0;
pub const MONOTONIC: u32 = 1;
pub const PROCESS_CPUTIME: u32 = 2;
pub const THREAD_CPUTIME: u32 = 3;

pub const ATIM: u16 = 1;
pub const ATIM_NOW: u16 = 2;
pub const MTIM: u16 = 4;
pub const MTIM_NOW: u16 = 8;

pub const SET: u8 = 0;
pub const CUR: u8 = 1;
pub const END: u8 = 2;

#[repr(C)]
pub struct Buffer {
    pub start: *mut u8,
    pub length: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Filestat {
    pub device: u64,
    pub inode: u64,
    pub kind: u8,
    pub links: u64,
    pub size: u64,
    pub accessed: u64,
    pub modified: u64,
    pub changed: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fdstat {
    pub kind: u8,
    pub flags: u16,
    pub rights: u64,
    pub inheriting: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Prestat {
    pub tag: u8,
    pub name_length: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Subscription {
    pub user: u64,
    /// 0 a clock, 1 reading, 2 writing.
    pub tag: u8,
    /// The clock, or the descriptor.
    pub subject: u64,
    pub timeout: u64,
    pub precision: u64,
    /// 1: the timeout is a point in time.
    pub flags: u16,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    pub user: u64,
    pub error: Errno,
    pub kind: u8,
    pub bytes: u64,
    pub flags: u16,
}

/// The functions.
pub mod raw {
    use super::*;

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub fn args_get(argv: *mut *mut u8, buffer: *mut u8) -> Errno;
        pub fn args_sizes_get(count: *mut usize, bytes: *mut usize) -> Errno;
        pub fn environ_get(environ: *mut *mut u8, buffer: *mut u8) -> Errno;
        pub fn environ_sizes_get(count: *mut usize, bytes: *mut usize) -> Errno;
        pub fn clock_res_get(clock: u32, resolution: *mut u64) -> Errno;
        pub fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> Errno;
        pub fn fd_advise(fd: Fd, offset: u64, length: u64, advice: u8) -> Errno;
        pub fn fd_allocate(fd: Fd, offset: u64, length: u64) -> Errno;
        pub fn fd_close(fd: Fd) -> Errno;
        pub fn fd_datasync(fd: Fd) -> Errno;
        pub fn fd_fdstat_get(fd: Fd, stat: *mut Fdstat) -> Errno;
        pub fn fd_fdstat_set_flags(fd: Fd, flags: u16) -> Errno;
        pub fn fd_fdstat_set_rights(fd: Fd, base: u64, inheriting: u64) -> Errno;
        pub fn fd_filestat_get(fd: Fd, stat: *mut Filestat) -> Errno;
        pub fn fd_filestat_set_size(fd: Fd, size: u64) -> Errno;
        pub fn fd_filestat_set_times(fd: Fd, accessed: u64, modified: u64, flags: u16) -> Errno;
        pub fn fd_pread(fd: Fd, buffers: *const Buffer, count: usize, offset: u64, bytes: *mut usize) -> Errno;
        pub fn fd_prestat_get(fd: Fd, stat: *mut Prestat) -> Errno;
        pub fn fd_prestat_dir_name(fd: Fd, path: *mut u8, length: usize) -> Errno;
        pub fn fd_pwrite(fd: Fd, buffers: *const Buffer, count: usize, offset: u64, bytes: *mut usize) -> Errno;
        pub fn fd_read(fd: Fd, buffers: *const Buffer, count: usize, bytes: *mut usize) -> Errno;
        pub fn fd_readdir(fd: Fd, buffer: *mut u8, length: usize, cookie: u64, used: *mut usize) -> Errno;
        pub fn fd_renumber(from: Fd, to: Fd) -> Errno;
        pub fn fd_seek(fd: Fd, offset: i64, whence: u8, position: *mut u64) -> Errno;
        pub fn fd_sync(fd: Fd) -> Errno;
        pub fn fd_tell(fd: Fd, position: *mut u64) -> Errno;
        pub fn fd_write(fd: Fd, buffers: *const Buffer, count: usize, bytes: *mut usize) -> Errno;
        pub fn path_create_directory(fd: Fd, path: *const u8, length: usize) -> Errno;
        pub fn path_filestat_get(fd: Fd, lookup: u32, path: *const u8, length: usize, stat: *mut Filestat) -> Errno;
        pub fn path_filestat_set_times(
            fd: Fd,
            lookup: u32,
            path: *const u8,
            length: usize,
            accessed: u64,
            modified: u64,
            flags: u16,
        ) -> Errno;
        pub fn path_link(
            from: Fd,
            lookup: u32,
            old: *const u8,
            old_length: usize,
            to: Fd,
            new: *const u8,
            new_length: usize,
        ) -> Errno;
        pub fn path_open(
            fd: Fd,
            lookup: u32,
            path: *const u8,
            length: usize,
            open: u16,
            base: u64,
            inheriting: u64,
            flags: u16,
            opened: *mut Fd,
        ) -> Errno;
        pub fn path_readlink(fd: Fd, path: *const u8, length: usize, buffer: *mut u8, size: usize, used: *mut usize) -> Errno;
        pub fn path_remove_directory(fd: Fd, path: *const u8, length: usize) -> Errno;
        pub fn path_rename(from: Fd, old: *const u8, old_length: usize, to: Fd, new: *const u8, new_length: usize) -> Errno;
        pub fn path_symlink(old: *const u8, old_length: usize, fd: Fd, new: *const u8, new_length: usize) -> Errno;
        pub fn path_unlink_file(fd: Fd, path: *const u8, length: usize) -> Errno;
        pub fn poll_oneoff(wanted: *const Subscription, events: *mut Event, count: usize, happened: *mut usize) -> Errno;
        pub fn proc_exit(code: u32) -> !;
        pub fn proc_raise(signal: u8) -> Errno;
        pub fn sched_yield() -> Errno;
        pub fn random_get(buffer: *mut u8, length: usize) -> Errno;
        pub fn sock_accept(fd: Fd, flags: u16, accepted: *mut Fd) -> Errno;
        pub fn sock_recv(fd: Fd, buffers: *const Buffer, count: usize, flags: u16, bytes: *mut usize, told: *mut u16) -> Errno;
        pub fn sock_send(fd: Fd, buffers: *const Buffer, count: usize, flags: u16, bytes: *mut usize) -> Errno;
        pub fn sock_shutdown(fd: Fd, how: u8) -> Errno;
    }
}
