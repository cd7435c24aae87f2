//! The standard streams of a guest, in its own process.
//!
//! The daemon is not in the way: log lines go from the guest's write to the log file in one system call, and a guest's
//! descriptors (exec, attach) are read and written directly.

pub mod cri_log;

mod control;
mod input;
mod lines;
mod output;
mod raw;
mod tap;
mod terminal;
mod terminate;
mod timestamp;

use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(crate) use input::Input;
pub(crate) use lines::Lines;
use output::Broken;
pub(crate) use output::Output;

use self::cri_log::{CriLog, LogStream};
use self::terminal::Terminal;
use crate::protocol::{CodeKind, GuestSpec, StreamKind};

/// The streams that a guest is given.
pub(crate) struct Streams {
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    log: Option<&'static CriLog>,
    terminal: Option<Terminal>,
    guest_end: Option<Arc<OwnedFd>>,
}

/// Descriptors for the streams, as they came with the launch.
pub(crate) struct Descriptors {
    pub(crate) log: Option<OwnedFd>,
    pub(crate) control: Option<OwnedFd>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) terminal: Option<OwnedFd>,
    pub(crate) master: Option<OwnedFd>,
}

/// The launch does not fit together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamsError {
    #[error("no descriptor came for {0}")]
    NoDescriptor(&'static str),
    #[error("cannot handle SIGTERM")]
    Sigterm(#[source] std::io::Error),
    #[error("cannot serve the terminal")]
    Terminal(#[source] std::io::Error),
}

impl Streams {
    /// Connects the streams as `spec` says. The log lives as long as the process.
    pub(crate) fn new(spec: &GuestSpec, descriptors: Descriptors) -> Result<Self, StreamsError> {
        let Descriptors { log, control, mut stdin, stdout, stderr, terminal, master } = descriptors;
        let guest_end = terminal.map(Arc::new);
        let has_log = [spec.stdout(), spec.stderr()].contains(&StreamKind::StreamLog) || master.is_some();
        let mut served = None;
        let log: Option<&'static CriLog> = if has_log {
            let master = master.map(Arc::new);
            let waited_for = control.as_ref().filter(|_| master.is_some()).map(|control| control.try_clone());
            let log: &'static CriLog = Box::leak(Box::new(CriLog::new(log, control, master.clone())));
            // A service has a handler of its own, which ends it in its own time.
            if spec.kind() != CodeKind::ComponentHttp {
                terminate::complete_on_sigterm(log).map_err(StreamsError::Sigterm)?;
            }
            if let Some(master) = master {
                let waited_for = waited_for.transpose().map_err(StreamsError::Terminal)?;
                let terminal = Terminal::serve(master, stdin.take(), spec.stdin_once, log, waited_for);
                served = Some(terminal.map_err(StreamsError::Terminal)?);
            }
            Some(log)
        } else {
            None
        };
        let broken = if spec.kind() == CodeKind::ModuleCommand { Broken::Errno } else { Broken::Closed };
        let end = |name| guest_end.clone().ok_or(StreamsError::NoDescriptor(name));
        let output = |kind, stream, name, descriptor: Option<OwnedFd>| match (kind, log) {
            (StreamKind::StreamLog, Some(log)) => Ok(Output::Log(log, stream)),
            (StreamKind::StreamNull | StreamKind::StreamLog, _) => Ok(Output::Null),
            (StreamKind::StreamDescriptor, _) => {
                Ok(Output::Descriptor(Arc::new(descriptor.ok_or(StreamsError::NoDescriptor(name))?), broken))
            }
            (StreamKind::StreamTerminal, _) => Ok(Output::Descriptor(end(name)?, broken)),
        };
        Ok(Streams {
            stdin: match spec.stdin() {
                StreamKind::StreamNull | StreamKind::StreamLog => Input::Empty,
                StreamKind::StreamDescriptor => {
                    Input::descriptor(stdin.ok_or(StreamsError::NoDescriptor("stdin"))?, spec.stdin_once)
                }
                StreamKind::StreamTerminal => Input::terminal(end("stdin")?),
            },
            stdout: output(spec.stdout(), LogStream::Stdout, "stdout", stdout)?,
            stderr: output(spec.stderr(), LogStream::Stderr, "stderr", stderr)?,
            log,
            terminal: served,
            guest_end,
        })
    }

    /// The guest's terminal, if it has one.
    pub(crate) fn guest_end(&self) -> Option<&Arc<OwnedFd>> {
        self.guest_end.as_ref()
    }

    /// Where the guest process itself reports: the log, else what the guest has for standard error.
    pub(crate) fn reports(&self) -> Output {
        match self.log {
            Some(log) => Output::Log(log, LogStream::Stderr),
            None => self.stderr.clone(),
        }
    }

    /// Writes all that is still held back. The guest and its process have nothing more to say.
    pub(crate) fn finish(self) {
        if let Some(terminal) = self.terminal {
            terminal.finish();
        }
        if let Some(log) = self.log {
            log.finish();
        }
    }
}
