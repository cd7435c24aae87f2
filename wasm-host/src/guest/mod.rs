//! A guest process: loads compiled code, links WASI, runs the guest, and says how it ended.
//!
//! In the order of a launch: the supervisor, once, makes [`Prepared`]; a forked child calls [`load`] (before it gives up
//! its view of `/proc`, see there), confines itself, and calls [`run`] with what it is about to become.

mod code;
mod commands;
mod descriptors;
mod dumps;
mod errno;
mod growth;
mod http;
mod invoke;
mod listen;
mod lookup;
mod offer;
mod outcome;
mod outgoing;
mod paths;
mod prepared;
mod preview1;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tuned;

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use self::code::{Code, LoadError, load};
use self::growth::Growth;
use self::outcome::Ending;
pub use self::outcome::refuse;
pub(crate) use self::outgoing::roots;
pub(crate) use self::prepared::{ComponentState, link_components};
pub use self::prepared::{PrepareError, Prepared};
pub use self::tuned::{is_tuned, load_tuned};
use crate::protocol::GuestSpec;
use crate::stdio::{Descriptors, Streams};
use crate::wasi;

/// Descriptors of a guest process. All are owned by it; those that its spec does not use may be absent.
pub struct GuestIo {
    /// CRI log file, opened for append.
    pub log: Option<OwnedFd>,
    /// The guest's datagram socket, on which a new log file comes. Bound, and in any mode.
    pub control: Option<OwnedFd>,
    /// Source of standard input. A FIFO should be opened `O_RDONLY | O_NONBLOCK`.
    pub stdin: Option<OwnedFd>,
    /// Sink of standard output.
    pub stdout: Option<OwnedFd>,
    /// Sink of standard error.
    pub stderr: Option<OwnedFd>,
    /// The guest's end of a pseudo terminal, which is this process's controlling terminal.
    pub terminal: Option<OwnedFd>,
    /// The other end, to be served by this process.
    pub master: Option<OwnedFd>,
    /// File for the encoded `Outcome`, opened for writing.
    pub outcome: OwnedFd,
}

/// Runs the guest to its end in this process, which must have no other thread and must call `_exit` with the result.
///
/// `ready` is called once, when everything that can fail before the guest's own code has succeeded. Before that, a failure
/// is an outcome of reason `StartError` and exit code 128. The outcome is written, and the log is complete, when this
/// returns.
pub fn run(prepared: &Prepared, spec: &GuestSpec, code: Code, io: GuestIo, ready: impl FnOnce()) -> i32 {
    let GuestIo { log, control, stdin, stdout, stderr, terminal, master, outcome } = io;
    let streams = match Streams::new(spec, Descriptors { log, control, stdin, stdout, stderr, terminal, master }) {
        Ok(streams) => streams,
        Err(error) => return refuse(&outcome, &outcome::chain(&error)),
    };
    // A panic is a bug of the host; it ends this guest with a reason, and its log is still completed.
    let outcome = Arc::new(outcome);
    let growth = Growth::told_in(Arc::clone(&outcome));
    let ending = catch_unwind(AssertUnwindSafe(|| match code {
        Code::Service(service) => http::serve(*service, spec, &streams, Arc::clone(&outcome), ready),
        code => match wasi::context(spec, &streams) {
            Ok(context) => commands::run(prepared, code, context, spec, &streams, growth, ready),
            Err(error) => Ending::NotStarted(error.to_string()),
        },
    }))
    .unwrap_or_else(|_| Ending::Failed("the host of the guest panicked".to_owned()));
    ending.report(spec, &streams.reports());
    streams.finish();
    ending.record(&outcome)
}
