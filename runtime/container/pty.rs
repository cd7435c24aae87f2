//! Pseudo terminals: a guest's three streams at one end, whoever serves it at the other.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// Where the kernel gives them out.
pub const MULTIPLEXER: &str = "/dev/ptmx";

/// The two ends of a pseudo terminal.
#[derive(Debug)]
pub struct Pty {
    /// For who shows and types.
    pub master: OwnedFd,
    /// For the guest.
    pub guest: OwnedFd,
}

impl Pty {
    /// Opens a new one. Neither end is the caller's controlling terminal.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::open(MULTIPLEXER, flags, Mode::empty())?;
        let locked: libc::c_int = 0;
        // SAFETY: the call reads one number, which lives until it returns.
        if unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, std::ptr::from_ref(&locked)) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: the call takes a number and returns a new descriptor. It needs no path, so it works whatever is mounted at /dev/pts.
        let guest = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
        if guest < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Ok(Self { master, guest: unsafe { OwnedFd::from_raw_fd(guest) } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_at_one_end_is_a_line_at_the_other() {
        let pty = Pty::open().unwrap();
        assert!(rustix::termios::isatty(&pty.guest));
        rustix::io::write(&pty.master, b"hallo\x7fo\r").unwrap();
        let mut line = [0; 16];
        let length = rustix::io::read(&pty.guest, &mut line).unwrap();
        assert_eq!(&line[..length], b"hallo\n");
    }
}
