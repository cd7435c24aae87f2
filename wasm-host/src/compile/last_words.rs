//! The line for ends that come by signal: out of processor time, out of memory.
//!
//! Both come at any moment, so the lines are made beforehand, and the handlers only write one of them and leave.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::{mem, ptr};

use super::CompileLimits;
use super::report::{self, CompileError};

static WORDS: OnceLock<Words> = OnceLock::new();

struct Words {
    time: Vec<u8>,
    memory: Vec<u8>,
    other: Vec<u8>,
    // /proc/self/statm, open for as long as the process lives.
    usage: RawFd,
    // Bytes of memory in use from which on an abort is taken for a failed allocation.
    much: u64,
}

/// Handles SIGXCPU and SIGABRT. `stacks` is memory allowed beside the limit, in bytes.
pub(super) fn prepare(limits: CompileLimits, stacks: u64) -> io::Result<()> {
    let usage = File::open("/proc/self/statm")?;
    let words = Words {
        time: report::line(&Err(CompileError::time(limits))),
        memory: report::line(&Err(CompileError::memory(limits))),
        other: report::line(&Err(CompileError::internal("the compiler aborted"))),
        usage: usage.as_raw_fd(),
        // Vectors grow by doubling, so the allocation that fails may be as large as what there is.
        much: stacks.saturating_add(limits.memory_bytes / 4),
    };
    mem::forget(usage);
    let _ = WORDS.set(words);
    handle(libc::SIGXCPU, on_time)?;
    handle(libc::SIGABRT, on_abort)?;
    // Too large an output is an error of write(2).
    // SAFETY: the disposition is valid.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    Ok(())
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: all zeros is a valid sigaction; every field that matters is set below.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESETHAND;
    // SAFETY: `action` is complete, and the handlers are safe at any moment.
    if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

extern "C" fn on_time(_: libc::c_int) {
    end(|words| &words.time);
}

extern "C" fn on_abort(_: libc::c_int) {
    end(|words| if memory_in_use(words.usage) >= words.much { &words.memory } else { &words.other });
}

fn end(choose: impl FnOnce(&Words) -> &Vec<u8>) {
    if let Some(words) = WORDS.get() {
        let line = choose(words);
        // SAFETY: the buffer is valid and never changes; write is safe in a handler.
        unsafe { libc::write(libc::STDOUT_FILENO, line.as_ptr().cast(), line.len()) };
    }
    // SAFETY: safe in a handler, and does not return.
    unsafe { libc::_exit(1) };
}

/// Bytes of private memory, the sixth number of statm in pages.
fn memory_in_use(statm: RawFd) -> u64 {
    let mut buffer = [0u8; 256];
    // SAFETY: the buffer is valid for its length; pread is safe in a handler.
    let length = unsafe { libc::pread(statm, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    let text = usize::try_from(length).ok().and_then(|length| buffer.get(..length)).unwrap_or_default();
    let number = text.split(|byte| *byte == b' ').nth(5).unwrap_or_default();
    let pages = number.iter().fold(0u64, |pages, digit| pages.saturating_mul(10).saturating_add(u64::from(digit & 0x0f)));
    // SAFETY: sysconf reads a constant of the process.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages.saturating_mul(u64::try_from(page).unwrap_or(0))
}
