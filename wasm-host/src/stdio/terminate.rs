//! SIGTERM in a guest process.
//!
//! WASI has no signals, so SIGTERM ends a command at once, by the signal's default action: the wait status says how.
//! The handler only saves the unfinished line that the log writer holds back.
//!
//! It runs at any moment, also inside wasm code or malloc, so all that it reaches neither allocates nor locks.

use std::sync::atomic::{AtomicPtr, Ordering};
use std::{io, mem, ptr};

use super::cri_log::CriLog;

static LOG: AtomicPtr<CriLog> = AtomicPtr::new(ptr::null_mut());

/// Lets SIGTERM complete `log` before it ends the process.
///
/// # Errors
/// The kernel refused the handler.
pub(super) fn complete_on_sigterm(log: &'static CriLog) -> io::Result<()> {
    LOG.store(ptr::from_ref(log).cast_mut(), Ordering::Release);
    // SAFETY: all zeros is a valid sigaction; every field that matters is set below.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    let handler: extern "C" fn(libc::c_int) = on_sigterm;
    action.sa_sigaction = handler as libc::sighandler_t;
    // Once: the default action is back when the handler starts. On the stack in use: wasm code always leaves room for host
    // functions on a guest's stack, while the signal stacks that std gives its threads hold 8 KiB, which is not enough.
    action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
    // SAFETY: `action` is complete, and the handler is safe at any moment, see above.
    if unsafe { libc::sigaction(libc::SIGTERM, &raw const action, ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

extern "C" fn on_sigterm(_: libc::c_int) {
    let log = LOG.load(Ordering::Acquire);
    // SAFETY: null or a reference that lives as long as the process.
    if unsafe { log.as_ref() }.is_none_or(CriLog::terminate) {
        end();
    }
}

/// Ends the process by SIGTERM: at once, or when the handler that calls this returns.
pub(super) fn end() {
    // The first process of a PID namespace is not ended by a signal that it has no handler for; its status says the same.
    // SAFETY: getpid, _exit and raise are safe at any moment.
    unsafe {
        if libc::getpid() == 1 {
            libc::_exit(128 + libc::SIGTERM);
        }
        libc::raise(libc::SIGTERM);
    }
}
