//! The few system calls under the streams.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Writes all of `slices`, whatever the descriptor's mode: it waits where a non-blocking one is full.
///
/// # Errors
/// The number of bytes that were written before the first one that could not be.
pub(super) fn write_all(fd: impl AsFd, slices: &mut [IoSlice<'_>]) -> Result<(), usize> {
    write_all_or(fd, slices).map_err(|(written, _)| written)
}

/// As [`write_all`], with the error.
pub(super) fn write_all_or(fd: impl AsFd, mut slices: &mut [IoSlice<'_>]) -> Result<(), (usize, Errno)> {
    let fd = fd.as_fd();
    let mut written = 0;
    while slices.iter().any(|slice| !slice.is_empty()) {
        match rustix::io::writev(fd, slices) {
            Ok(0) => return Err((written, Errno::IO)),
            Ok(count) => {
                written += count;
                IoSlice::advance_slices(&mut slices, count);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(fd, PollFlags::OUT).map_err(|error| (written, error))?,
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// Waits until `fd` is ready for `flags`, or has failed.
fn wait(fd: BorrowedFd<'_>, flags: PollFlags) -> Result<(), Errno> {
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits until `fd` is ready for `flags` or has failed: `true`; or until `deadline`: `false`.
pub(super) fn wait_until(fd: impl AsFd, flags: PollFlags, deadline: Instant) -> bool {
    let fd = fd.as_fd();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = rustix::time::Timespec::try_from(left) else { return false };
        match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// What `fd` is ready for now.
pub(super) fn ready_now(fd: impl AsFd, flags: PollFlags) -> PollFlags {
    let fd = fd.as_fd();
    let mut fds = [PollFd::from_borrowed_fd(fd, flags)];
    let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match poll(&mut fds, Some(&now)) {
            Err(Errno::INTR) => {}
            Err(_) => return PollFlags::ERR,
            Ok(_) => break,
        }
    }
    let [fd] = fds;
    fd.revents()
}
