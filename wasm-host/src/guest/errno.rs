//! Error numbers of WASI 0.1 and its predecessor, from typenames.witx.

use rustix::io::Errno;

pub(super) const SUCCESS: i32 = 0;
pub(super) const EACCES: i32 = 2;
pub(super) const EAGAIN: i32 = 6;
pub(super) const EBADF: i32 = 8;
pub(super) const EFAULT: i32 = 21;
pub(super) const EINVAL: i32 = 28;
pub(super) const EIO: i32 = 29;
pub(super) const ELOOP: i32 = 32;
pub(super) const EMFILE: i32 = 33;
pub(super) const ENODEV: i32 = 43;
pub(super) const ENOENT: i32 = 44;
pub(super) const ENOTCONN: i32 = 53;
pub(super) const ENOTDIR: i32 = 54;
pub(super) const ENOTSOCK: i32 = 57;
pub(super) const ENOTSUP: i32 = 58;
pub(super) const ENOTTY: i32 = 59;
pub(super) const EPERM: i32 = 63;
pub(super) const EROFS: i32 = 69;
pub(super) const ESPIPE: i32 = 70;
pub(super) const EXDEV: i32 = 75;

/// The number of what a call of a socket may fail with.
pub(super) fn of_socket(error: Errno) -> i32 {
    match error {
        Errno::ACCESS => EACCES,
        Errno::AGAIN => EAGAIN,
        Errno::BADF => EBADF,
        Errno::CONNABORTED => 13,
        Errno::CONNREFUSED => 14,
        Errno::CONNRESET => 15,
        Errno::FAULT => EFAULT,
        Errno::HOSTUNREACH => 23,
        Errno::INTR => 27,
        Errno::INVAL => EINVAL,
        Errno::MFILE => EMFILE,
        Errno::NETDOWN => 38,
        Errno::NETUNREACH => 40,
        Errno::NFILE => 41,
        Errno::NOBUFS => 42,
        Errno::NOMEM => 48,
        Errno::NOTCONN => ENOTCONN,
        Errno::NOTSOCK => ENOTSOCK,
        Errno::OPNOTSUPP => ENOTSUP,
        Errno::PERM => EPERM,
        Errno::PIPE => 64,
        Errno::PROTO => 65,
        Errno::TIMEDOUT => 73,
        _ => EIO,
    }
}
