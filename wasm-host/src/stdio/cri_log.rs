//! Writer of the CRI log file, in the guest's own process.
//!
//! `2026-11-21T08:00:00.123456789Z stdout F text`, one line each, as the kubelet reads them: `F` ends a line, `P` is a
//! part of a line that was too long, or that the guest never ended. The complete lines of one write of the guest go out
//! with one system call; what follows its last newline waits in a buffer for the rest.
//!
//! Who is attached to the guest gets the same bytes through a [`Tap`], as they come and without waiting for the end of a line.
//!
//! The guest never feels the log: what cannot be written (disk full) is dropped and counted, and the count is logged
//! when there is room again.
//!
//! The writer's state is guarded by one atomic number rather than a mutex, because the handler of SIGTERM must be able to
//! look at it; see [`CriLog::terminate`].

use std::cell::UnsafeCell;
use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::control::Order;
use super::tap::Tap;
use super::timestamp::{self, Clock};
use super::{control, raw, terminate};
use crate::protocol::Resize;

/// Longest text of one log line, in bytes; what containerd uses. The kubelet joins parts again.
pub const MAX_TEXT_BYTES: usize = 16 << 10;

/// Pieces of one write(2), 16 bytes of stack each. A usual line takes two.
const BATCH_SLICES: usize = 96;

/// Pieces that a line may take: an end for a torn line, header, two of text, newline.
const LINE_SLICES: usize = 5;

/// Most bytes that are kept for the first who attaches to a terminal: some screens of text.
const SHOWN_BYTES: usize = 16 << 10;

/// Which of the two streams a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error, and what the guest process itself has to say.
    Stderr,
}

// States of the writer.
const IDLE: u32 = 0;
const WRITING: u32 = 1;
// SIGTERM came while somebody wrote: the writer ends the process when it is done.
const WRITING_THEN_END: u32 = 2;
// The handler of SIGTERM has it, for good.
const ENDING: u32 = 3;

/// The log of one guest.
pub struct CriLog {
    state: AtomicU32,
    writer: UnsafeCell<Writer>,
}

// SAFETY: `writer` is only touched by who moved `state` from IDLE to WRITING or ENDING, and that is one at a time.
unsafe impl Sync for CriLog {}

struct Writer {
    // Absent: the container has no log, and its output is for who is attached.
    file: Option<OwnedFd>,
    control: Option<OwnedFd>,
    tap: Option<Tap>,
    // The terminal whose size the daemon may change.
    terminal: Option<Arc<OwnedFd>>,
    // What was written to it until somebody was attached for the first time: else a shell's prompt would never be seen.
    shown: Vec<u8>,
    keeps_shown: bool,
    clock: Clock,
    // The beginnings of unfinished lines, at most MAX_TEXT_BYTES each.
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    lost: u64,
    // The file ends in the middle of a line.
    torn: bool,
}

impl CriLog {
    /// A writer into `file`, opened for append. `control` is the guest's datagram socket, `terminal` the daemon's side of its
    /// terminal if it has one.
    pub fn new(file: Option<OwnedFd>, control: Option<OwnedFd>, terminal: Option<Arc<OwnedFd>>) -> Self {
        let (stdout, stderr) = (Vec::new(), Vec::new());
        let (shown, keeps_shown) = (Vec::new(), terminal.is_some());
        let clock = Clock::new();
        let writer =
            Writer { file, control, tap: None, terminal, shown, keeps_shown, clock, stdout, stderr, lost: 0, torn: false };
        CriLog { state: AtomicU32::new(IDLE), writer: UnsafeCell::new(writer) }
    }

    /// Does what the daemon has asked for on the control socket. Every write does it first.
    pub(super) fn follow_orders(&self) {
        self.with(Writer::follow_orders);
    }

    /// Takes what the guest wrote, and writes the lines that are complete.
    pub fn write(&self, stream: LogStream, bytes: &[u8]) {
        self.with(|writer| writer.write(stream, bytes));
    }

    /// Writes the unfinished lines as parts.
    pub fn finish(&self) {
        self.with(Writer::finish);
    }

    fn with(&self, action: impl FnOnce(&mut Writer)) {
        while self.state.compare_exchange_weak(IDLE, WRITING, Ordering::Acquire, Ordering::Relaxed).is_err() {
            // Another thread writes its line, or the process is about to end. Neither takes long.
            std::thread::yield_now();
        }
        // SAFETY: the exchange above succeeded, so nobody else touches the writer until the state changes below.
        action(unsafe { &mut *self.writer.get() });
        if self.state.compare_exchange(WRITING, IDLE, Ordering::Release, Ordering::Relaxed).is_err() {
            // WRITING_THEN_END. SIGTERM has its default action again since its handler ran.
            // SAFETY: the state is not IDLE, so the writer is still ours.
            unsafe { &mut *self.writer.get() }.finish();
            terminate::end();
        }
    }

    /// Called by the handler of SIGTERM, on any thread, at any moment. True: the log is complete and the process may end.
    /// False: somebody is writing, will complete the log and end the process then.
    pub(super) fn terminate(&self) -> bool {
        loop {
            if self.state.compare_exchange(IDLE, ENDING, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                // SAFETY: the exchange succeeded and ENDING is never left, so the writer is ours. `finish` allocates
                // nothing and locks nothing.
                unsafe { &mut *self.writer.get() }.finish();
                return true;
            }
            match self.state.compare_exchange(WRITING, WRITING_THEN_END, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) | Err(WRITING_THEN_END) => return false,
                Err(ENDING) => return true,
                // The writer became idle between the two looks.
                Err(_) => {}
            }
        }
    }
}

impl Writer {
    fn write(&mut self, stream: LogStream, bytes: &[u8]) {
        self.follow_orders();
        if self.keeps_shown {
            self.shown.extend_from_slice(bytes);
            drop(self.shown.drain(..self.shown.len().saturating_sub(SHOWN_BYTES)));
        }
        if self.tap.as_ref().is_some_and(|tap| !tap.write(stream, bytes)) {
            self.tap = None;
        }
        self.tell_losses();
        let Some(file) = &self.file else { return };
        let whole = self.clock.header(stream, b'F');
        let part = timestamp::with_tag(whole, b'P');
        let kept = match stream {
            LogStream::Stdout => &mut self.stdout,
            LogStream::Stderr => &mut self.stderr,
        };
        let mut batch = Batch::new(file, &mut self.lost, &mut self.torn);
        // What is kept belongs before the first line, and is forgotten once it has been written.
        let mut begun: &[u8] = kept;
        let mut rest: &[u8] = &[];
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ended = line.last() == Some(&b'\n');
            let mut line = line;
            // The newline is not text.
            while begun.len() + line.len() - usize::from(ended) > MAX_TEXT_BYTES {
                let Some((now, later)) = line.split_at_checked(MAX_TEXT_BYTES - begun.len()) else { break };
                batch.line(&part, begun, now);
                begun = &[];
                line = later;
            }
            if ended {
                batch.line(&whole, begun, line);
                begun = &[];
            } else {
                rest = line;
            }
        }
        batch.flush();
        if begun.is_empty() {
            kept.clear();
        }
        kept.extend_from_slice(rest);
    }

    /// Neither allocates nor locks, for the handler of SIGTERM.
    fn finish(&mut self) {
        self.follow_orders();
        self.tell_losses();
        let Some(file) = &self.file else { return };
        for (stream, kept) in [(LogStream::Stdout, &self.stdout), (LogStream::Stderr, &self.stderr)] {
            if !kept.is_empty() {
                let header = self.clock.header(stream, b'P');
                let mut batch = Batch::new(file, &mut self.lost, &mut self.torn);
                batch.line(&header, &[], kept);
                batch.flush();
            }
        }
        self.stdout.clear();
        self.stderr.clear();
    }

    fn follow_orders(&mut self) {
        while let Some(order) = self.control.as_ref().and_then(control::next) {
            match order {
                Order::Log(file) => {
                    self.file = Some(file);
                    self.torn = false;
                }
                Order::Tap(pipes) => self.tap = Tap::new(pipes).filter(|tap| self.show_screen(tap)),
                Order::Resize(size) => {
                    if let Some(terminal) = &self.terminal {
                        resize(terminal, &size);
                    }
                }
                Order::Unknown => {}
            }
        }
    }

    /// Shows a newcomer what is on the terminal: for the first one all that was written, for others the line that the cursor
    /// is in. `false`: it has gone already.
    ///
    /// Frees nothing: the handler of SIGTERM comes by here.
    fn show_screen(&mut self, tap: &Tap) -> bool {
        if std::mem::take(&mut self.keeps_shown) {
            let written = tap.write(LogStream::Stdout, &self.shown);
            self.shown.clear();
            return written;
        }
        self.terminal.is_none() || tap.write(LogStream::Stdout, &self.stdout)
    }

    /// Says how many lines were lost, if there were any and there is room again.
    fn tell_losses(&mut self) {
        let Some(file) = &self.file else { return };
        if self.lost > 0 {
            let header = self.clock.header(LogStream::Stderr, b'F');
            let mut digits = [0; 20];
            let count = decimal(&mut digits, self.lost);
            let text = b" lines of output were lost here: the log file could not be written\n";
            let lost = std::mem::take(&mut self.lost);
            let mut again = 0;
            let mut batch = Batch::new(file, &mut again, &mut self.torn);
            batch.push(&header);
            batch.line(&[], count, text);
            batch.flush();
            if again > 0 {
                self.lost = lost;
            }
        }
    }
}

/// Lines on their way into one write(2).
struct Batch<'a> {
    file: &'a OwnedFd,
    lost: &'a mut u64,
    torn: &'a mut bool,
    slices: [IoSlice<'a>; BATCH_SLICES],
    used: usize,
}

impl<'a> Batch<'a> {
    fn new(file: &'a OwnedFd, lost: &'a mut u64, torn: &'a mut bool) -> Self {
        Batch { file, lost, torn, slices: [IoSlice::new(&[]); BATCH_SLICES], used: 0 }
    }

    /// Adds a line: header, text in two pieces, and a newline unless the second piece ends with one.
    fn line(&mut self, header: &'a [u8], begun: &'a [u8], text: &'a [u8]) {
        if self.used + LINE_SLICES > BATCH_SLICES {
            self.flush();
        }
        self.push(header);
        self.push(begun);
        self.push(text);
        if text.last() != Some(&b'\n') {
            self.push(b"\n");
        }
    }

    fn push(&mut self, bytes: &'a [u8]) {
        if self.used == 0 && *self.torn {
            self.place(b"\n");
        }
        self.place(bytes);
    }

    fn place(&mut self, bytes: &'a [u8]) {
        if let (false, Some(slice)) = (bytes.is_empty(), self.slices.get_mut(self.used)) {
            *slice = IoSlice::new(bytes);
            self.used += 1;
        }
    }

    fn flush(&mut self) {
        let Some(slices) = self.slices.get(..self.used).filter(|slices| !slices.is_empty()) else { return };
        let mut remaining = self.slices;
        let written = match raw::write_all(self.file, remaining.get_mut(..self.used).unwrap_or_default()) {
            Ok(()) => {
                *self.torn = false;
                self.used = 0;
                return;
            }
            Err(written) => written,
        };
        // Every line ends where a slice does.
        let (mut position, mut lost, mut whole) = (0, 0, false);
        for slice in slices {
            position += slice.len();
            if slice.last() == Some(&b'\n') {
                lost += u64::from(position > written);
                whole |= position == written;
            }
        }
        if written > 0 {
            *self.torn = !whole;
        } else {
            // The newline that would have ended the torn line is not a line of its own.
            lost -= u64::from(*self.torn);
        }
        *self.lost += lost;
        self.used = 0;
    }
}

/// The guest learns its terminal's new size from the kernel, if it asks.
fn resize(terminal: &OwnedFd, size: &Resize) {
    let clamp = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let size = rustix::termios::Winsize { ws_row: clamp(size.rows), ws_col: clamp(size.columns), ws_xpixel: 0, ws_ypixel: 0 };
    // A terminal that is gone has no size.
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}

fn decimal(digits: &mut [u8; 20], mut value: u64) -> &[u8] {
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        start -= 1;
        if value == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

#[cfg(test)]
#[path = "cri_log_tests.rs"]
mod tests;
