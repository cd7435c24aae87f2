//! One forwarded connection: the client's stream to a TCP connection inside the pod, and back.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::server::Server;
use crate::sessions::Sessions;
use crate::stream::{Input, Output, PIECE};

/// What the client opened for one connection.
pub(crate) struct Pair {
    pub(crate) port: u16,
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) error: Output,
}

/// What a client sees of a connection that was refused, besides the error's text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// SPDY: both streams are reset, as in the reference server.
    Resets,
    /// WebSocket has no way to say so.
    Ends,
}

/// Connects, and forwards until both directions have ended or one of the two sides is gone.
pub(crate) async fn relay<S: Sessions>(server: &Server<S>, forward: &S::Forward, pair: Pair, refused: Refused) {
    let Pair { port, mut input, output, mut error } = pair;
    let connect = async {
        match timeout(server.config.creation, server.sessions.connect(forward, port)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {:?}", server.config.creation))),
        }
    };
    let connected = tokio::select! {
        () = output.gone() => return,
        connected = connect => connected,
    };
    let tcp = match connected {
        Ok(tcp) => tcp,
        Err(cause) => {
            // kubectl ends its whole session for this, whoever the server is.
            let _ = error.write(Bytes::from(format!("error forwarding port {port}: {cause}"))).await;
            if refused == Refused::Resets {
                output.reset();
                error.reset();
            }
            return;
        }
    };
    // Small answers must not wait for large ones.
    let _ = tcp.set_nodelay(true);
    let (reading, writing) = tcp.into_split();
    let hand = output.ender();
    // A side that fails ends the other one too; one that has merely ended does not. No text is sent: kubectl takes any for
    // the end of its session, and a connection that breaks is an everyday thing.
    let fail = |well: bool| {
        if !well && refused == Refused::Resets {
            hand.reset();
        }
        if well { Ok(()) } else { Err(()) }
    };
    let up = async { fail(up(&mut input, writing).await) };
    let down = async { fail(down(&output, reading).await).inspect(|()| hand.end()) };
    let _ = tokio::try_join!(up, down);
}

/// The client's bytes to the pod; whether the client may still be answered.
async fn up(input: &mut Input, mut writing: OwnedWriteHalf) -> bool {
    while let Some(bytes) = input.next().await {
        if writing.write_all(&bytes).await.is_err() {
            // The server in the pod has stopped reading, and may still have something to say; what it does not read is
            // thrown away.
            while input.next().await.is_some() {}
            break;
        }
    }
    // Fails where the pod's side has gone, which the other direction sees as well.
    let _ = writing.shutdown().await;
    // A client that has gone, or reset its stream, takes the connection with it.
    input.closed_in_order()
}

/// The pod's bytes to the client; whether they ended in order. No buffer is held while there is nothing to read, nor room
/// for it while the client does not read.
async fn down(output: &Output, reading: OwnedReadHalf) -> bool {
    let mut buffer = BytesMut::new();
    loop {
        let readable = tokio::select! {
            () = output.gone() => return false,
            readable = reading.readable() => readable,
        };
        if readable.is_err() {
            return false;
        }
        let Ok(room) = output.room(PIECE).await else { return false };
        buffer.reserve(PIECE);
        match reading.try_read_buf(&mut (&mut buffer).limit(PIECE)) {
            Ok(0) => return true,
            Ok(read) => {
                // A short piece must not keep a whole buffer.
                let piece = if read < PIECE / 4 { Bytes::copy_from_slice(&buffer) } else { buffer.split().freeze() };
                buffer.clear();
                if room.fill(piece).is_err() {
                    return false;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => buffer = BytesMut::new(),
            Err(_) => return false,
        }
    }
}
