//! Sessions over WebSocket: channels that are numbered by the first byte of each message, or a pipe for SPDY.

mod channels;
mod message;
mod tunnel;

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use crate::command::{self, CommandIo};
use crate::forward::{Pair, Refused, relay};
use crate::http::Session;
use crate::negotiation::Protocol;
use crate::server::Server;
use crate::sessions::{Sessions, Wanted};
use crate::status::Style;
use crate::stream::queue;
use crate::wire::Wire;
use channels::Channels;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use message::{Incoming, read, write};

/// The longest message of a client. Those of Go's clients have 32 KiB; a script that writes a whole file at once must cut
/// it. 2 MiB.
const LONGEST: usize = 2 * 1024 * 1024;
/// What is read and written at once.
const AT_ONCE: usize = 64 * 1024;

/// Runs a session to its end. `first` was read from the connection already.
pub(crate) async fn session<S: Sessions>(
    server: &Arc<Server<S>>,
    session: Session<S>,
    protocol: Protocol,
    wire: Wire,
    first: Vec<u8>,
    stop: CancellationToken,
) {
    let limits = WebSocketConfig::default()
        .read_buffer_size(AT_ONCE)
        .write_buffer_size(AT_ONCE)
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST));
    let socket = WebSocketStream::from_partially_read(wire, first, Role::Server, Some(limits)).await;
    match (session, protocol) {
        (Session::Command { command, wanted }, Protocol::WebSocketCommand { style, base64, closing }) => {
            let mut channels = Channels::new(server.config.stream_buffer, server.pool.clone(), base64, closing);
            let io = command_io(&mut channels, wanted, style);
            command::run(server, command, io, channels.start(socket), stop).await;
        }
        (Session::Forward { forward, ports }, Protocol::WebSocketForward { base64 }) => {
            let mut channels = Channels::new(server.config.stream_buffer, server.pool.clone(), base64, false);
            let pairs = forward_pairs(&mut channels, &ports).await;
            let link = channels.start(socket);
            let forward = Arc::new(forward);
            let mut connections = JoinSet::new();
            for pair in pairs {
                let (server, forward) = (server.clone(), forward.clone());
                connections.spawn(async move { relay(&server, &forward, pair, Refused::Ends).await });
            }
            tokio::select! {
                () = async { while connections.join_next().await.is_some() {} } => (),
                () = link.gone.cancelled() => (),
                () = link.activity.idle(server.config.idle) => (),
                () = stop.cancelled() => (),
            }
            connections.shutdown().await;
            // A client may read the last bytes slowly; one that reads nothing is idle.
            let activity = link.activity.clone();
            tokio::select! {
                () = link.close(server.config.drain) => (),
                () = activity.idle(server.config.idle) => (),
                () = async { stop.cancelled().await; tokio::time::sleep(server.config.drain).await } => (),
            }
        }
        (session, Protocol::Tunnel) => tunnel::run(server, session, socket, stop).await,
        // The protocol was chosen for the session.
        _ => (),
    }
}

/// The channels of a command: 0 to 4 are stdin, stdout, stderr, the status and the sizes of the terminal.
fn command_io(channels: &mut Channels, wanted: Wanted, style: Style) -> CommandIo {
    let stdin = wanted.stdin.then(|| channels.input(0));
    let stdout = wanted.stdout.then(|| channels.output(1));
    let stderr = wanted.stderr.then(|| channels.output(2));
    let status = channels.output(3);
    let resize = wanted.tty.then(|| channels.input(4));
    // The first protocols let a server say by an empty message that it is ready, and clients wait for it.
    stdout.as_ref().or(stderr.as_ref()).unwrap_or(&status).greet();
    CommandIo { stdin, stdout, stderr, status, resize, style, kept: Vec::new() }
}

/// The channels of forwarded ports: two for each, its bytes and what goes wrong. The first message of each is the port's
/// number, the lower byte first.
async fn forward_pairs(channels: &mut Channels, ports: &[u16]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (port, channel) in ports.iter().copied().zip((0..=u8::MAX).step_by(2)) {
        let input = channels.input(channel);
        let (mut output, mut error) = (channels.output(channel), channels.output(channel.saturating_add(1)));
        for output in [&mut output, &mut error] {
            // There is room for the numbers of all of them.
            let number = Bytes::copy_from_slice(&port.to_le_bytes());
            let _ = timeout(std::time::Duration::from_secs(1), output.write(number)).await;
        }
        pairs.push(Pair { port, input, output, error });
    }
    pairs
}

impl Channels {
    fn input(&mut self, channel: u8) -> crate::stream::Input {
        let (filler, input) = queue(self.buffer, self.pool.clone());
        self.fillers.insert(channel, filler);
        input
    }

    fn output(&self, channel: u8) -> crate::stream::Output {
        self.outbox.output(u32::from(channel), self.gone.child_token())
    }
}
