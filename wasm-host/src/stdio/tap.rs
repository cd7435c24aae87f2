//! A copy of the guest's output for who is attached to it: two pipes whose other ends the daemon reads.
//!
//! The guest does not depend on it. Bytes are not dropped while somebody reads, so a slow reader slows the guest down; but
//! one that takes nothing at all for a while loses the tap, and a reader that has gone has lost it at once.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::cri_log::LogStream;
use super::raw;

/// How long the guest waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pipes.
#[derive(Debug)]
pub(super) struct Tap {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Tap {
    /// The writing ends, in the order of the message. They must not block, which is a property of the pipe and not ours to
    /// believe: it is set here.
    pub(super) fn new([stdout, stderr]: [OwnedFd; 2]) -> Option<Self> {
        for pipe in [&stdout, &stderr] {
            let flags = rustix::fs::fcntl_getfl(pipe).ok()?;
            rustix::fs::fcntl_setfl(pipe, flags | rustix::fs::OFlags::NONBLOCK).ok()?;
        }
        Some(Tap { stdout, stderr })
    }

    /// `false`: nobody listens any more, and the tap is to be closed.
    pub(super) fn write(&self, stream: LogStream, mut bytes: &[u8]) -> bool {
        let pipe = match stream {
            LogStream::Stdout => &self.stdout,
            LogStream::Stderr => &self.stderr,
        };
        while !bytes.is_empty() {
            match rustix::io::write(pipe, bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if raw::wait_until(pipe, PollFlags::OUT, Instant::now() + PATIENCE) => {}
                Err(_) => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    fn tap() -> (Tap, OwnedFd, OwnedFd) {
        let (out, out_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (err, err_end) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        (Tap::new([out_end, err_end]).unwrap(), out, err)
    }

    #[test]
    fn each_stream_has_its_pipe() {
        let (tap, out, err) = tap();
        assert!(tap.write(LogStream::Stdout, b"one") && tap.write(LogStream::Stderr, b"two"));
        let mut buffer = [0; 8];
        assert_eq!((rustix::io::read(&out, &mut buffer), &buffer[..3]), (Ok(3), &b"one"[..]));
        assert_eq!((rustix::io::read(&err, &mut buffer), &buffer[..3]), (Ok(3), &b"two"[..]));
    }

    #[test]
    fn a_reader_that_reads_gets_every_byte() {
        let (tap, out, _err) = tap();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::fs::File::from(out), &mut bytes).unwrap();
            bytes
        });
        let bytes: Vec<u8> = (0..1_000_000u32).map(|number| number.to_le_bytes()[0]).collect();
        assert!(tap.write(LogStream::Stdout, &bytes));
        drop(tap);
        assert_eq!(reader.join().unwrap(), bytes);
    }

    #[test]
    fn a_reader_that_has_gone_or_takes_nothing_loses_the_tap() {
        let (tap, out, _err) = tap();
        assert!(!tap.write(LogStream::Stdout, &vec![0; 1 << 20]), "it is full and nobody reads");
        drop(out);
        assert!(!tap.write(LogStream::Stdout, b"x"));
    }
}
