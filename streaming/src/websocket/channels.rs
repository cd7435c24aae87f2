//! The two tasks of a WebSocket with channels: one fills what the client sends, one sends what was written.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message as Frame};
use tokio_util::sync::CancellationToken;

use super::message::{self, Incoming};
use crate::link::{Activity, Link};
use crate::stream::{End, Filler, Message, Outbox, Outgoing, PIECE, Pool, outbox};
use crate::wire::Wire;

/// The socket of a session.
pub(super) type Socket = WebSocketStream<Wire>;

/// The channels of a session that has not started yet.
pub(super) struct Channels {
    pub(super) outbox: Outbox,
    pub(super) gone: CancellationToken,
    pub(super) fillers: HashMap<u8, Filler>,
    pub(super) buffer: usize,
    pub(super) pool: Arc<Pool>,
    outgoing: Outgoing,
    base64: bool,
    closing: bool,
}

impl Channels {
    /// None yet, in one of the forms of the protocol; each holds at most `buffer` unread bytes.
    pub(super) fn new(buffer: usize, pool: Arc<Pool>, base64: bool, closing: bool) -> Self {
        let (outbox, outgoing) = outbox();
        Self { outbox, gone: CancellationToken::new(), fillers: HashMap::new(), buffer, pool, outgoing, base64, closing }
    }

    /// Reads and writes the socket from now on.
    pub(super) fn start(self, socket: Socket) -> Link {
        let Self { outbox, gone, fillers, outgoing, base64, closing, .. } = self;
        let activity = Activity::default();
        let (sink, stream) = socket.split();
        let reader = Reader { fillers, outbox: outbox.clone(), base64, closing };
        let reading = read(reader, stream, gone.clone(), activity.clone());
        let writing = write(sink, outgoing, base64, activity.clone());
        Link::new(outbox, gone, activity, reading, writing)
    }
}

struct Reader {
    fillers: HashMap<u8, Filler>,
    outbox: Outbox,
    base64: bool,
    closing: bool,
}

async fn read(mut reader: Reader, mut stream: SplitStream<Socket>, gone: CancellationToken, activity: Activity) {
    // Whatever ends this task, the client's streams end with it.
    let _gone = gone.clone().drop_guard();
    while let Some(Ok(frame)) = stream.next().await {
        activity.touch();
        let bytes = match frame {
            Frame::Binary(bytes) => bytes,
            Frame::Text(text) => text.into(),
            // The answers to pings are the library's.
            Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => continue,
            Frame::Close(_) => break,
        };
        if let Err(error) = reader.message(&bytes).await {
            tracing::debug!("a WebSocket session ends: {error}");
            gone.cancel();
            reader.outbox.close();
        }
    }
    // The library answers the client's close when it is polled once more.
    gone.cancel();
    while let Some(Ok(_)) = stream.next().await {}
}

impl Reader {
    async fn message(&mut self, bytes: &[u8]) -> Result<(), message::MessageError> {
        match message::read(bytes, self.base64, self.closing)? {
            Incoming::Data(channel, bytes) => {
                if let Some(filler) = self.fillers.get(&channel) {
                    for piece in bytes.chunks(PIECE) {
                        self.outbox.push(filler, piece).await;
                    }
                }
            }
            Incoming::Close(channel) => {
                if let Some(filler) = self.fillers.get(&channel) {
                    filler.end(End::Closed);
                }
            }
            Incoming::Nothing => (),
        }
        Ok(())
    }
}

async fn write(mut sink: SplitSink<Socket, Frame>, mut outgoing: Outgoing, base64: bool, activity: Activity) -> io::Result<()> {
    let mut over = false;
    while !over {
        let mut message = Some(outgoing.messages.recv().await.unwrap_or(Message::Close));
        let (mut pieces, mut sent, mut messages, mut nudges) = (0, 0, 0, 0);
        while let Some(next) = message {
            messages += 1;
            match next {
                Message::Data(channel, bytes) => {
                    let channel = u8::try_from(channel).map_err(io::Error::other)?;
                    sink.feed(message::write(channel, &bytes, base64)).await.map_err(io_error)?;
                    pieces += usize::from(!bytes.is_empty());
                    sent += bytes.len();
                }
                // No version tells a client that a channel has ended; they wait for the end of the session.
                Message::End(_) | Message::Reset(_) => (),
                // An answer without a question, which RFC 6455 allows (5.5.3).
                Message::Nudge => {
                    nudges += 1;
                    sink.feed(Frame::Pong(Bytes::new())).await.map_err(io_error)?;
                }
                Message::Close => {
                    // Clients take any other code for a failure.
                    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                    sink.feed(Frame::Close(Some(normal))).await.map_err(io_error)?;
                    over = true;
                    break;
                }
            }
            message = outgoing.messages.try_recv().ok();
        }
        sink.flush().await.map_err(io_error)?;
        if messages > nudges {
            activity.touch();
        }
        outgoing.sent(pieces, sent);
    }
    Ok(())
}

/// Errors of the library as those of a connection.
pub(super) fn io_error(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        other => io::Error::other(other),
    }
}
