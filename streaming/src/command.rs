//! One exec or attach: its streams are collected, the command runs between them, its outcome is told.

use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::link::Link;
use crate::server::Server;
use crate::sessions::{CommandStreams, Outcome, Sessions, Wanted};
use crate::spdy::{Arrival, Desk, Headers};
use crate::status::{self, Style};
use crate::stream::{Gone, Input, Output, follow, sizes};

/// The client's streams, whatever the transport.
pub(crate) struct CommandIo {
    pub(crate) stdin: Option<Input>,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    pub(crate) status: Output,
    pub(crate) resize: Option<Input>,
    pub(crate) style: Style,
    /// The ways back of streams that have none in use: client-go takes their end for the end of the command.
    pub(crate) kept: Vec<Output>,
}

/// Runs a command to its end, and its session with it.
pub(crate) async fn run<S: Sessions>(
    server: &Server<S>,
    command: S::Command,
    io: CommandIo,
    link: Link,
    stop: CancellationToken,
) {
    let CommandIo { stdin, stdout, stderr, mut status, resize, style, kept } = io;
    let enders: Vec<_> = [&stdout, &stderr].into_iter().flatten().map(Output::ender).collect();
    let (sender, sizes) = sizes();
    // Without a stream of sizes the sender goes, and the sizes end.
    let _resizing = resize.map(|input| AbortOnDropHandle::new(tokio::spawn(follow(input, sender))));
    let gone = Gone::new(link.gone.clone());
    let mut work =
        std::pin::pin!(server.sessions.command(command, CommandStreams { stdin, stdout, stderr, resize: sizes, gone }));
    let drain = server.config.drain;
    let outcome = tokio::select! {
        biased;
        outcome = &mut work => outcome,
        // The connection is closed, the command goes on to its own end.
        () = link.gone.cancelled() => {
            drop((status, kept));
            close_and_finish(link, work, &stop, drain).await;
            return;
        }
        reason = ended(server, &link, &stop) => {
            enders.iter().for_each(|ender| ender.end());
            // A client that reads nothing is not waited for.
            let _ = timeout(drain, tell(&mut status, style, &Outcome::Failure { message: reason })).await;
            drop((status, kept));
            link.outbox.close();
            link.gone.cancel();
            close_and_finish(link, work, &stop, drain).await;
            return;
        }
    };
    // In this order, because client-go waits for the end of its outputs before it looks at the outcome.
    enders.iter().for_each(|ender| ender.end());
    let told = tokio::select! {
        told = tell(&mut status, style, &outcome) => told,
        _ = ended(server, &link, &stop) => false,
    };
    drop((status, kept));
    if told {
        // The client may read as slowly as it likes, as it could while the command ran.
        let activity = link.activity.clone();
        tokio::select! {
            () = link.close(drain) => (),
            () = activity.idle(server.config.idle) => (),
            () = late(&stop, drain) => (),
        }
    }
}

/// Closes the connection of a client that is not waited for, while the command goes on to its own end.
async fn close_and_finish(link: Link, work: Pin<&mut impl Future<Output = Outcome>>, stop: &CancellationToken, drain: Duration) {
    let work = async {
        tokio::select! {
            _ = work => (),
            () = late(stop, drain) => (),
        }
    };
    let _ = tokio::join!(timeout(drain + drain, link.close(drain)), work);
}

async fn tell(status: &mut Output, style: Style, outcome: &Outcome) -> bool {
    match status::write(style, outcome) {
        Some(bytes) => status.write(bytes).await.is_ok(),
        None => true,
    }
}

/// Why a session ends before its command does.
async fn ended<S: Sessions>(server: &Server<S>, link: &Link, stop: &CancellationToken) -> String {
    let idle = server.config.idle;
    tokio::select! {
        () = link.activity.idle(idle) => format!("idle for {idle:?}: nothing was sent in either direction"),
        () = stop.cancelled() => "the container runtime is stopping".to_owned(),
    }
}

/// So long after the server was stopped.
async fn late(stop: &CancellationToken, drain: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(drain).await;
}

/// The streams that the command's request asks for, each once.
pub(crate) struct CommandDesk {
    missing: Vec<Role>,
}

/// What a stream of a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Status,
    Stdin,
    Stdout,
    Stderr,
    Resize,
}

impl CommandDesk {
    /// `sizes`: the protocol has a stream for the sizes of a terminal.
    pub(crate) fn new(wanted: Wanted, sizes: bool) -> Self {
        let roles = [
            (Role::Status, true),
            (Role::Stdin, wanted.stdin),
            (Role::Stdout, wanted.stdout),
            (Role::Stderr, wanted.stderr),
            (Role::Resize, wanted.tty && sizes),
        ];
        Self { missing: roles.into_iter().filter(|(_, wanted)| *wanted).map(|(role, _)| role).collect() }
    }

    /// How many streams there will be.
    pub(crate) fn count(&self) -> usize {
        self.missing.len()
    }
}

impl Desk for CommandDesk {
    type Ticket = Role;

    fn most(&self) -> usize {
        // One for each role.
        5
    }

    fn admit(&mut self, _stream: u32, headers: &Headers) -> Option<Role> {
        let role = match headers.get("streamtype")? {
            "error" => Role::Status,
            "stdin" => Role::Stdin,
            "stdout" => Role::Stdout,
            "stderr" => Role::Stderr,
            "resize" => Role::Resize,
            _ => return None,
        };
        let at = self.missing.iter().position(|missing| *missing == role)?;
        Some(self.missing.swap_remove(at))
    }
}

/// Waits for `count` streams and no longer than `deadline`; what came until then is given back if they do not all come.
pub(crate) async fn collect(
    arrivals: &mut mpsc::Receiver<Arrival<Role>>,
    count: usize,
    style: Style,
    deadline: Duration,
) -> Result<CommandIo, Option<Output>> {
    let mut streams: Vec<Arrival<Role>> = Vec::with_capacity(count);
    let _ = timeout(deadline, async {
        while streams.len() < count {
            let Some(arrival) = arrivals.recv().await else { return };
            streams.push(arrival);
        }
    })
    .await;
    let complete = streams.len() == count;
    let mut take = |role| {
        let at = streams.iter().position(|stream| stream.ticket == role)?;
        Some(streams.swap_remove(at))
    };
    let status = take(Role::Status).map(|stream| stream.output);
    let status = match status {
        Some(status) if complete => status,
        status => return Err(status),
    };
    let (stdout, stderr) = (take(Role::Stdout).map(|stream| stream.output), take(Role::Stderr).map(|stream| stream.output));
    let (stdin, stdin_back) = take(Role::Stdin).map(|stream| (stream.input, stream.output)).unzip();
    let (resize, resize_back) = take(Role::Resize).map(|stream| (stream.input, stream.output)).unzip();
    let kept = [stdin_back, resize_back].into_iter().flatten().collect();
    Ok(CommandIo { stdin, stdout, stderr, status, resize, style, kept })
}
