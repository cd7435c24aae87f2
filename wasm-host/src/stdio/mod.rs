//! The standard streams of a guest, in its own process.
//!
//! The daemon is not in the way: log lines go from the guest's write to the log file in one system call, and a guest's
//! descriptors (exec, attach) are read and written directly.

pub mod cri_log;

mod control;
mod input;
mod output;
mod raw;
mod terminate;
mod timestamp;

use std::os::fd::OwnedFd;
use std::sync::Arc;

pub(crate) use input::Input;
pub(crate) use output::Output;

use self::cri_log::{CriLog, LogStream};
use crate::protocol::{GuestSpec, StreamKind};

/// The streams that a guest is given.
pub(crate) struct Streams {
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    log: Option<&'static CriLog>,
}

/// Descriptors for the streams, as they came with the launch.
pub(crate) struct Descriptors {
    pub(crate) log: Option<OwnedFd>,
    pub(crate) control: Option<OwnedFd>,
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// The launch does not fit together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamsError {
    #[error("no descriptor came for {0}")]
    NoDescriptor(&'static str),
    #[error("no log came for {0}")]
    NoLog(&'static str),
    #[error("cannot handle SIGTERM")]
    Sigterm(#[source] std::io::Error),
}

impl Streams {
    /// Connects the streams as `spec` says. The log lives as long as the process.
    pub(crate) fn new(spec: &GuestSpec, descriptors: Descriptors) -> Result<Self, StreamsError> {
        let Descriptors { log, control, stdin, stdout, stderr } = descriptors;
        let log: Option<&'static CriLog> = log.map(|file| &*Box::leak(Box::new(CriLog::new(file, control))));
        if let Some(log) = log {
            terminate::complete_on_sigterm(log).map_err(StreamsError::Sigterm)?;
        }
        let output = |kind, stream, name, descriptor: Option<OwnedFd>| match kind {
            StreamKind::StreamNull => Ok(Output::Null),
            StreamKind::StreamLog => Ok(Output::Log(log.ok_or(StreamsError::NoLog(name))?, stream)),
            StreamKind::StreamDescriptor => Ok(Output::Descriptor(Arc::new(descriptor.ok_or(StreamsError::NoDescriptor(name))?))),
        };
        Ok(Streams {
            stdin: match spec.stdin() {
                StreamKind::StreamNull | StreamKind::StreamLog => Input::Empty,
                StreamKind::StreamDescriptor => {
                    Input::descriptor(stdin.ok_or(StreamsError::NoDescriptor("stdin"))?, spec.stdin_once)
                }
            },
            stdout: output(spec.stdout(), LogStream::Stdout, "stdout", stdout)?,
            stderr: output(spec.stderr(), LogStream::Stderr, "stderr", stderr)?,
            log,
        })
    }

    /// Where the guest process itself reports: the log, else what the guest has for standard error.
    pub(crate) fn reports(&self) -> Output {
        match self.log {
            Some(log) => Output::Log(log, LogStream::Stderr),
            None => self.stderr.clone(),
        }
    }

    /// The log, to be finished before the process ends.
    pub(crate) fn log(&self) -> Option<&'static CriLog> {
        self.log
    }
}
