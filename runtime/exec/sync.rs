//! ExecSync: a command whose output is collected, within a bound, and whose time is limited.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use super::{ExecError, Streams, start};
use crate::container::Container;
use crate::metrics::{Counted, Kind, metrics};
use crate::state::Runtime;

/// Bytes of each stream that are kept; what comes after them is read and thrown away, so that the command can go on. Both
/// fit into one message of the CRI.
const MAX_OUTPUT: usize = crate::server::MAX_MESSAGE / 2 - 4096;

/// How long a killed command may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// How a command ended, and what it said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// 0 to 255; 128 + the signal where a signal ended it.
    pub exit_code: i32,
    /// At most 8 MiB.
    pub stdout: Vec<u8>,
    /// At most 8 MiB.
    pub stderr: Vec<u8>,
}

/// Runs a command to its end. `limit`: how long that may take, `None` for ever. When the future is dropped the command is
/// killed.
///
/// What a shell would say about a command that cannot be run is its output here, with the exit code 126 or 127.
pub async fn run(
    runtime: &Arc<Runtime>,
    container: &Arc<Container>,
    command: &[String],
    limit: Option<Duration>,
) -> Result<Collected, ExecError> {
    let kind = Kind { kind: "sync" };
    metrics().execs.get_or_create(&kind).inc();
    let _running = Counted::new(&metrics().execs_running.get_or_create(&kind));
    let (stdout, stdout_end) = reader()?;
    let (stderr, stderr_end) = reader()?;
    let streams = Streams::Pipes { stdin: None, stdout: Some(stdout_end), stderr: Some(stderr_end) };
    // A time of more years than there is a clock for is none.
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let timed_out = || ExecError::TimedOut { command: command.to_vec(), seconds: limit.map_or(0, |limit| limit.as_secs()) };
    let mut exec = match until(deadline, start(runtime, container, command, streams)).await {
        Some(Ok(exec)) => exec,
        Some(Err(error)) => {
            let Some(code) = error.as_exit_code() else { return Err(error) };
            return Ok(Collected { exit_code: code.into(), stdout: Vec::new(), stderr: format!("{error}\n").into_bytes() });
        }
        None => return Err(timed_out()),
    };
    let work = async { tokio::join!(collect(stdout), collect(stderr), exec.ended()) };
    if let Some((stdout, stderr, record)) = until(deadline, work).await {
        let (record, stdout, mut stderr) = (record?, stdout?, stderr?);
        if let Some(words) = super::last_words(&record) {
            stderr.extend_from_slice(words.as_bytes());
        }
        return Ok(Collected { exit_code: record.exit_code, stdout, stderr });
    }
    exec.kill();
    // Gone when this returns, so that who looks next does not find it.
    if tokio::time::timeout(KILL_DEADLINE, exec.ended()).await.is_err() {
        tracing::warn!(container = %container.id(), "a killed command is still there");
    }
    Err(timed_out())
}

/// `None`: the deadline came first.
async fn until<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        None => Some(work.await),
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
    }
}

/// A pipe: the daemon's end, and the guest's, which may block.
fn reader() -> Result<(pipe::Receiver, OwnedFd), ExecError> {
    let make = || -> io::Result<_> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
    };
    make().map_err(ExecError::system("making a pipe"))
}

async fn collect(mut pipe: pipe::Receiver) -> Result<Vec<u8>, ExecError> {
    let failed = ExecError::system("reading the command's output");
    let mut bytes = Vec::new();
    let read = async {
        (&mut pipe).take(MAX_OUTPUT as u64).read_to_end(&mut bytes).await?;
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await
    };
    read.await.map_err(failed)?;
    Ok(bytes)
}
