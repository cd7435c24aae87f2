//! How a guest ended: for the daemon as an [`Outcome`], for people as text.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use prost::Message;
use wasmtime::WasmBacktrace;
use wasmtime_wasi::I32Exit;

use super::growth::OutOfMemory;
use crate::protocol::{GuestSpec, Outcome, now};
use crate::stdio::Output;

/// What the kubelet takes for a termination message, in bytes; longer messages lose their end.
const MESSAGE_BYTES: usize = 4096;

/// Exit code of a guest that never ran, as of a command that a shell could not run.
const START_ERROR: i32 = 128;

/// Exit code of a trap: 128 + SIGABRT.
const TRAP: i32 = 134;

/// Exit code of a guest that has outgrown its memory: 128 + SIGKILL, as if the kernel had killed it.
const OUT_OF_MEMORY: i32 = 137;

/// How a guest ended.
pub(super) enum Ending {
    /// By itself, with this code of 0 to 255.
    Exited(i32),
    /// By a trap, of which this is the report.
    Trapped(String),
    /// Because there is no memory left for it, as this says.
    OutOfMemory(String),
    /// Before its own code ran, for this reason.
    NotStarted(String),
    /// By a failure of the host.
    Failed(String),
}

impl Ending {
    pub(super) fn not_started(error: wasmtime::Error) -> Self {
        Ending::NotStarted(format!("{error:#}"))
    }

    /// Instantiation may run the guest's start function, or fail before it.
    pub(super) fn from_instantiation(error: wasmtime::Error) -> Self {
        if error.is::<I32Exit>() || error.is::<OutOfMemory>() || error.is::<WasmBacktrace>() || error.is::<wasmtime::Trap>() {
            Ending::from_call(&error)
        } else {
            Ending::not_started(error)
        }
    }

    pub(super) fn from_call(error: &wasmtime::Error) -> Self {
        if let Some(refused) = error.downcast_ref::<OutOfMemory>() {
            return Ending::OutOfMemory(refused.to_string());
        }
        // A heap of objects has outgrown the memory that it lies in; the engine keeps to itself why that does not grow.
        if error.is::<wasmtime::GcHeapOutOfMemory<()>>() {
            return Ending::OutOfMemory(trap_report(error));
        }
        match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => Ending::Exited(code & 0xff),
            None => Ending::Trapped(trap_report(error)),
        }
    }

    /// With a line more for people, where there is one.
    pub(super) fn with(self, line: Option<String>) -> Self {
        match (self, line) {
            (Ending::Trapped(report), Some(line)) => Ending::Trapped(format!("{report}\n{line}")),
            (ending, _) => ending,
        }
    }

    fn outcome(&self) -> Outcome {
        let (exit_code, reason, message) = match self {
            Ending::Exited(0) => (0, "Completed", ""),
            Ending::Exited(code) => (*code, "Error", ""),
            Ending::Trapped(message) => (TRAP, "Trap", message.as_str()),
            Ending::OutOfMemory(message) => (OUT_OF_MEMORY, "OOMKilled", message.as_str()),
            Ending::NotStarted(message) => (START_ERROR, "StartError", message.as_str()),
            Ending::Failed(message) => (TRAP, "Error", message.as_str()),
        };
        Outcome { exit_code, reason: reason.to_owned(), message: bounded(message).to_owned(), finished_at: now(), usage: None }
    }

    /// Tells people of a trap: in the log, and in the termination message file if the guest left that empty.
    pub(super) fn report(&self, spec: &GuestSpec, log: &Output) {
        let (Ending::Trapped(message) | Ending::OutOfMemory(message) | Ending::Failed(message)) = self else { return };
        let mut text = bounded(message).to_owned();
        if !spec.termination_message_path.is_empty() {
            write_termination_message(&spec.termination_message_path, &text);
        }
        text.push('\n');
        // Nobody can be told if even this cannot be written.
        let _ = log.write(text.as_bytes());
    }

    /// Writes the outcome. Returns the exit code.
    pub(super) fn record(&self, file: &OwnedFd) -> i32 {
        let outcome = self.outcome();
        write_outcome(file, &outcome);
        outcome.exit_code
    }
}

/// Records that the guest could not be started, for `message`. For failures before [`run`](super::run), such as of the
/// jail. Returns the exit code.
pub fn refuse(outcome: &OwnedFd, message: &str) -> i32 {
    Ending::NotStarted(message.to_owned()).record(outcome)
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Why a call of a guest failed that is one of many in its process, for its log.
pub(super) fn failure(error: &wasmtime::Error) -> String {
    bounded(&trap_report(error)).to_owned()
}

fn write_outcome(file: &OwnedFd, outcome: &Outcome) {
    // Without an outcome the supervisor goes by the wait status, which says the exit code too.
    if let Ok(file) = file.try_clone().map(std::fs::File::from) {
        // It replaces what the guest used; where that was longer its end is cut off.
        let bytes = outcome.encode_to_vec();
        let _ = file.write_all_at(&bytes, 0).and_then(|()| file.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX)));
    }
}

/// The path is the guest's own: the process is in the container's root with the container's user. A file that is there
/// and not a regular one is left alone, as is one with content.
fn write_termination_message(path: &str, text: &str) {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path);
    if let Ok(mut file) = file
        && file.metadata().is_ok_and(|status| status.is_file() && status.len() == 0)
    {
        let _ = file.write_all(text.as_bytes());
    }
}

/// The trap, what is known beside it, and the wasm frames; never the host's.
fn trap_report(error: &wasmtime::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    let mut frames = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        match text.split_once('\n') {
            // wasmtime hangs the backtrace over the trap as one more cause.
            Some((title, backtrace)) if title.starts_with(BACKTRACE_TITLE) => frames = backtrace.to_owned(),
            _ if text.starts_with(BACKTRACE_TITLE) || text.starts_with(CORE_DUMP_TITLE) => {}
            _ => causes.push(text),
        }
    }
    // The innermost cause is the trap.
    causes.reverse();
    let mut report = causes.join(": ");
    if !frames.is_empty() {
        report.push_str("\nwasm backtrace:\n");
        report.push_str(frames.trim_end());
    }
    report
}

/// First line of wasmtime's text of a [`WasmBacktrace`].
const BACKTRACE_TITLE: &str = "error while executing at wasm backtrace";

/// First words of wasmtime's text of a [`wasmtime::WasmCoreDump`], which says the backtrace once more.
const CORE_DUMP_TITLE: &str = "wasm coredump generated while executing";

fn bounded(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MESSAGE_BYTES)).unwrap_or_default()
}
