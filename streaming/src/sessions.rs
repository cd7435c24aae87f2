//! What the user of the crate provides, and what it is handed: the one side of a session that is not the client.

use std::future::Future;
use std::io;

use tokio::net::TcpStream;

use crate::stream::{Gone, Input, Output, Resize};

/// Runs what clients come for. The server holds one of these and calls it from one task for each session.
pub trait Sessions: Send + Sync + 'static {
    /// What an exec or an attach is about; opaque to the server, which hands it back when the client comes.
    type Command: Send + 'static;
    /// What a port-forward is about; opaque likewise. One session forwards many connections.
    type Forward: Send + Sync + 'static;

    /// Runs a command between the client's streams and says how it ended.
    ///
    /// The future is driven to its end even when the client has gone, so that nothing is left half-done; it should watch
    /// [`CommandStreams::gone`], because it keeps its place among [`Config::connections`](crate::Config::connections)
    /// for so long. When the server stops, the client is gone first, and a future that has not ended
    /// [`Config::drain`](crate::Config::drain) later is dropped.
    ///
    /// Outputs that are still open when the future ends are half-closed then; what was written before is sent before the
    /// outcome is.
    fn command(&self, command: Self::Command, streams: CommandStreams) -> impl Future<Output = Outcome> + Send;

    /// Connects to a port of the pod. The error's text is told to the client. The server gives up after
    /// [`Config::creation`](crate::Config::creation).
    fn connect(&self, forward: &Self::Forward, port: u16) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

/// The client's side of an exec or an attach.
#[derive(Debug)]
pub struct CommandStreams {
    /// What the client types; present if it was asked for.
    pub stdin: Option<Input>,
    /// What the client sees; present if it was asked for.
    pub stdout: Option<Output>,
    /// Present if it was asked for, which it cannot be together with a terminal.
    pub stderr: Option<Output>,
    /// The sizes of the client's terminal.
    pub resize: Resize,
    /// Whether the client is still there.
    pub gone: Gone,
}

/// How a command ended; the client's exit code comes from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ended well, or an attachment ended.
    Success,
    /// It ended with this code. 0 means the same as [`Outcome::Success`].
    Exit(u8),
    /// It could not be run, or what became of it is not known. Clients show the text after «Internal error occurred: ».
    Failure {
        /// What went wrong, for a person.
        message: String,
    },
}

/// The size of a terminal, in characters. Clients may send 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The two sessions that run a command; the first part of the path of their URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new process.
    Exec,
    /// The container's own process.
    Attach,
}

/// Which streams the CRI request asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The client writes.
    pub stdin: bool,
    /// The client reads.
    pub stdout: bool,
    /// The client reads errors apart.
    pub stderr: bool,
    /// There is a terminal: sizes are sent, and `stderr` cannot be asked for.
    pub tty: bool,
}
