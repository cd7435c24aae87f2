//! An attach session: the streams of a container's own process, from now on and as long as it runs.
//!
//! Output is the guest's tap, input its FIFO, which any number of clients may write to. `stdin_once` and the end of input are
//! the guest process's business: it sees its last writer leave.

use std::sync::Arc;

use bytes::Bytes;
use streaming::{CommandStreams, Outcome, Output, Resize};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::pump;
use crate::container::ContainerState;
use crate::exec::ExecError;
use crate::state::Runtime;

/// Runs a session until the container has ended or the client has gone.
pub(super) async fn run(runtime: &Arc<Runtime>, container: &str, streams: CommandStreams) -> Result<Outcome, ExecError> {
    let Some(container) = runtime.containers.get(container) else {
        return Ok(super::failure(format!("container {container} is not there any more")));
    };
    let CommandStreams { stdin, stdout, stderr, resize, gone } = streams;
    let guest = container.id().as_str();
    let attached = match container.state() {
        ContainerState::Running => runtime.taps.attach(runtime, guest)?,
        state => return Err(ExecError::NotRunning { id: guest.to_owned(), state }),
    };
    // It has ended well before its client came.
    let Some(attached) = attached else { return Ok(Outcome::Success) };
    let config = &container.metadata().config;
    let mut inputs = JoinSet::new();
    if let Some(stdin) = stdin
        && let Some(fifo) = container.stdin_fifo(&runtime.config.state)
    {
        match pipe::OpenOptions::new().open_sender(fifo) {
            Ok(pipe) => drop(inputs.spawn(pump::into_pipe(stdin, pipe))),
            // Nobody reads it any more: the guest has just ended, and so will its output.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {}
            Err(error) => return Err(ExecError::system("opening standard input")(error)),
        }
    }
    if config.tty {
        inputs.spawn(follow(Arc::clone(runtime), guest.to_owned(), resize));
    }
    let outputs = async {
        if config.tty {
            // What the guest's process says itself has no other way.
            show(stdout, [Some(attached.stdout), Some(attached.stderr)]).await;
        } else {
            tokio::join!(show(stdout, [Some(attached.stdout), None]), show(stderr, [Some(attached.stderr), None]));
        }
    };
    tokio::select! {
        () = outputs => {}
        () = gone.wait() => {}
    }
    Ok(Outcome::Success)
}

/// Hands on what arrives until all of it has ended; without a client for it, waits for the same.
async fn show(mut output: Option<Output>, sources: [Option<mpsc::Receiver<Bytes>>; 2]) {
    let [mut first, mut second] = sources;
    loop {
        let bytes = tokio::select! {
            Some(bytes) = next(&mut first) => bytes,
            Some(bytes) = next(&mut second) => bytes,
            else => return,
        };
        if let Some(client) = &mut output
            && client.write(bytes).await.is_err()
        {
            output = None;
        }
    }
}

async fn next(source: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    source.as_mut()?.recv().await
}

async fn follow(runtime: Arc<Runtime>, guest: String, mut resize: Resize) {
    while let Some(size) = resize.next().await {
        if let Err(error) = runtime.host.resize(&guest, size.width, size.height) {
            tracing::debug!(container = guest, %error, "the size of a terminal stays");
        }
    }
}
