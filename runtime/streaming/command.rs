//! An exec session: a command in a container, between the client's streams. A client that goes away takes it along.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::pipe::{PipeFlags, pipe_with};
use streaming::{CommandStreams, Outcome, Output};
use tokio::net::unix::pipe;
use tokio::task::JoinSet;

use super::pump::{self, Terminal};
use crate::container::pty::Pty;
use crate::exec::{self, Exec, ExecError, Streams};
use crate::state::Runtime;

/// How long a command whose terminal was hung up may take to end by itself.
const HANG_UP: Duration = Duration::from_secs(2);

/// Bytes of a pipe to or from a guest; the most that the kernel gives everybody is 1 MiB.
const PIPE_BYTES: usize = 256 << 10;

/// Runs a session to its end.
pub(super) async fn run(
    runtime: &Arc<Runtime>,
    container: &str,
    command: &[String],
    tty: bool,
    streams: CommandStreams,
) -> Result<Outcome, ExecError> {
    let Some(container) = runtime.containers.get(container) else {
        return Ok(super::failure(format!("container {container} is not there any more")));
    };
    let CommandStreams { stdin, stdout, stderr, resize, gone } = streams;
    // The client's side, and the guest's.
    let mut pumps = JoinSet::new();
    let mut inputs = JoinSet::new();
    if tty {
        let pty = Pty::open().map_err(ExecError::system("opening a pseudo terminal"))?;
        let terminal = Terminal::new(pty.master).map_err(ExecError::system("watching a pseudo terminal"))?;
        let start = exec::start(runtime, &container, command, Streams::Terminal(pty.guest));
        let exec = match started(start, &gone).await {
            Some(Ok(exec)) => exec,
            Some(Err(error)) => return refused(error, stdout).await,
            None => return Ok(Outcome::Success),
        };
        inputs.spawn(terminal.clone().follow(resize));
        if let Some(stdin) = stdin {
            inputs.spawn(terminal.clone().type_in(stdin));
        }
        if let Some(stdout) = stdout {
            pumps.spawn(terminal.show(stdout));
        }
        return finish(exec, pumps, inputs, &gone, true).await;
    }
    let make = ExecError::system("making a pipe");
    let (stdin_pump, stdin_end) = match stdin.map(|stdin| Ok::<_, io::Error>((stdin, writer()?))).transpose().map_err(make)? {
        Some((stdin, (pipe, end))) => (Some((stdin, pipe)), Some(end)),
        None => (None, None),
    };
    let (stdout, stdout_end) = split(stdout)?;
    let (stderr, stderr_end) = split(stderr)?;
    let ends = Streams::Pipes { stdin: stdin_end, stdout: stdout_end, stderr: stderr_end };
    let exec = match started(exec::start(runtime, &container, command, ends), &gone).await {
        Some(Ok(exec)) => exec,
        Some(Err(error)) => return refused(error, stderr.or(stdout).map(|(output, _)| output)).await,
        None => return Ok(Outcome::Success),
    };
    if let Some((stdin, pipe)) = stdin_pump {
        inputs.spawn(pump::into_pipe(stdin, pipe));
    }
    for (output, pipe) in [stdout, stderr].into_iter().flatten() {
        pumps.spawn(pump::from_pipe(pipe, output));
    }
    finish(exec, pumps, inputs, &gone, false).await
}

/// `None`: the client has gone meanwhile.
async fn started(
    start: impl Future<Output = Result<Exec, ExecError>>,
    gone: &streaming::Gone,
) -> Option<Result<Exec, ExecError>> {
    tokio::select! {
        started = start => Some(started),
        () = gone.wait() => None,
    }
}

/// What is the command's own fault is told as a shell tells it.
async fn refused(error: ExecError, output: Option<Output>) -> Result<Outcome, ExecError> {
    let Some(code) = error.as_exit_code() else { return Err(error) };
    if let Some(mut output) = output {
        // A client that has gone needs no words.
        let _ = output.write(Bytes::from(format!("{error}\r\n"))).await;
    }
    Ok(Outcome::Exit(code))
}

/// Waits for the end of the command and of its output, or ends it when the client has gone.
async fn finish(
    mut exec: Exec,
    mut pumps: JoinSet<()>,
    mut inputs: JoinSet<()>,
    gone: &streaming::Gone,
    tty: bool,
) -> Result<Outcome, ExecError> {
    let record = tokio::select! {
        record = exec.ended() => record?,
        () = gone.wait() => {
            // Closes the terminal, and its guest is told by the kernel; a command without one is not asked.
            drop((pumps, inputs));
            if !tty || tokio::time::timeout(HANG_UP, exec.ended()).await.is_err() {
                exec.kill();
            }
            return Ok(Outcome::Success);
        }
    };
    inputs.abort_all();
    tokio::select! {
        () = async { while pumps.join_next().await.is_some() {} } => {}
        () = gone.wait() => {}
    }
    Ok(Outcome::Exit(u8::try_from(record.exit_code & 0xff).unwrap_or(u8::MAX)))
}

type Reader = (Output, pipe::Receiver);

fn split(output: Option<Output>) -> Result<(Option<Reader>, Option<OwnedFd>), ExecError> {
    let Some(output) = output else { return Ok((None, None)) };
    let make = || -> io::Result<_> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        enlarge(&writer);
        Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
    };
    let (reader, writer) = make().map_err(ExecError::system("making a pipe"))?;
    Ok((Some((output, reader)), Some(writer)))
}

fn writer() -> io::Result<(pipe::Sender, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    enlarge(&writer);
    Ok((pipe::Sender::from_owned_fd(writer)?, reader))
}

/// Fewer changes between processes. A user whose pipes are too many keeps the usual size.
fn enlarge(pipe: &OwnedFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}
