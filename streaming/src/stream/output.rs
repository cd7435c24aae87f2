//! From the command to a client: one queue for all streams of a connection, emptied by the task that owns the socket.
//!
//! One queue, because the order over streams matters: the status comes after the last byte of stdout. Its bound is
//! counted in bytes, and writers wait for their turn in the order in which they came, so no stream starves another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::Filler;

/// Bytes that wait to be sent on one connection: two pieces, one to be sent while the other is made.
pub(crate) const WAITING: usize = 2 * (PIECE + COST);
/// What a message costs besides its bytes, so that a flood of single bytes is counted as what it takes.
const COST: usize = 64;
/// How often it is asked whether a client is still there whose bytes have no room.
const NUDGE: Duration = Duration::from_secs(2);
/// The longest piece; what Go's clients read at once.
pub(crate) const PIECE: usize = 32 * 1024;

/// The client has gone, has reset the stream, or the session has ended: nobody reads this any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has gone")]
pub struct ClientGone;

impl From<ClientGone> for std::io::Error {
    fn from(gone: ClientGone) -> Self {
        Self::new(std::io::ErrorKind::BrokenPipe, gone)
    }
}

/// What the sending task is given, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// At most [`PIECE`] bytes, whose room is given back once they are sent; none is a greeting, which has no room.
    Data(u32, Bytes),
    /// The stream is closed in our direction.
    End(u32),
    /// The stream is closed in both directions.
    Reset(u32),
    /// Something that means nothing: see [`Outbox::push`].
    Nudge,
    /// The session is over: say so to the client.
    Close,
}

/// The queue's writing end, for all streams of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    messages: mpsc::UnboundedSender<Message>,
    room: Arc<Semaphore>,
}

/// The queue's reading end. When it is dropped, every writer sees that the client has gone.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) messages: mpsc::UnboundedReceiver<Message>,
    room: Arc<Semaphore>,
}

/// A queue for one connection.
pub(crate) fn outbox() -> (Outbox, Outgoing) {
    // Unbounded in messages, because bytes are bounded by `room` and each stream ends once.
    let (sender, messages) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(WAITING));
    (Outbox { messages: sender, room: room.clone() }, Outgoing { messages, room })
}

impl Outgoing {
    /// A piece of data was sent, or is held by nobody any more.
    pub(crate) fn sent(&self, pieces: usize, bytes: usize) {
        self.room.add_permits(bytes + pieces * COST);
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.room.close();
    }
}

impl Outbox {
    /// One stream's writer. `reset` is cancelled when the client resets the stream or has gone.
    pub(crate) fn output(&self, id: u32, reset: CancellationToken) -> Output {
        Output { stream: Arc::new(Stream { id, outbox: self.clone(), reset, open: Mutex::new(true) }) }
    }

    /// Waits until a client's bytes have room in its stream. Meanwhile nothing is read from the connection, so that its
    /// end would not be seen: it comes after bytes that the kernel has no room for. What is sent to a client that has
    /// gone, however, is answered with a reset, and ends the writing task.
    pub(crate) async fn push(&self, filler: &Filler, piece: &[u8]) {
        let mut push = std::pin::pin!(filler.push(piece));
        loop {
            tokio::select! {
                biased;
                () = &mut push => return,
                () = tokio::time::sleep(NUDGE) => {
                    // Where something waits to be sent, that will do.
                    if self.room.available_permits() == WAITING {
                        let _ = self.messages.send(Message::Nudge);
                    }
                }
            }
        }
    }

    /// Nothing is sent after this.
    pub(crate) fn close(&self) {
        let _ = self.messages.send(Message::Close);
    }
}

/// Bytes to a client. Dropping it closes the stream in this direction, after what was written.
#[derive(Debug)]
pub struct Output {
    stream: Arc<Stream>,
}

/// Ends a stream whose [`Output`] somebody else may still hold.
#[derive(Debug)]
pub(crate) struct Ender(Arc<Stream>);

/// Room for one piece, taken before the piece is read from where it comes from.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    stream: &'a Stream,
    bytes: usize,
}

#[derive(Debug)]
struct Stream {
    id: u32,
    outbox: Outbox,
    reset: CancellationToken,
    /// Held over the sending of a message, so that nothing follows the stream's end.
    open: Mutex<bool>,
}

impl Output {
    /// Hands over bytes, without a copy; waits until there is room for them, which is when the client reads. May be
    /// dropped while it waits; then a first part of the bytes may have been written.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), ClientGone> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            self.room(piece.len()).await?.fill(piece)?;
        }
        Ok(())
    }

    /// Closes the stream in this direction, after what was written; the same as dropping it.
    pub fn finish(self) {}

    /// Waits until `bytes`, at most [`PIECE`], can be written at once.
    pub(crate) async fn room(&self, bytes: usize) -> Result<Room<'_>, ClientGone> {
        let stream = &*self.stream;
        if stream.reset.is_cancelled() {
            return Err(ClientGone);
        }
        let bytes = bytes.min(PIECE) + COST;
        let permit = match stream.outbox.room.try_acquire_many(bytes as u32) {
            Ok(permit) => permit,
            Err(_) => tokio::select! {
                biased;
                () = stream.reset.cancelled() => return Err(ClientGone),
                permit = stream.outbox.room.acquire_many(bytes as u32) => permit.map_err(|_| ClientGone)?,
            },
        };
        permit.forget();
        Ok(Room { stream, bytes })
    }

    /// Sends a message without bytes: the first one of the older WebSocket protocols.
    pub(crate) fn greet(&self) {
        self.stream.send(Message::Data(self.stream.id, Bytes::new()), false);
    }

    /// Closes the stream in both directions, after what was written.
    pub(crate) fn reset(self) {
        self.stream.send(Message::Reset(self.stream.id), true);
    }

    /// Another hand on the stream's end.
    pub(crate) fn ender(&self) -> Ender {
        Ender(self.stream.clone())
    }

    /// Waits until the client has reset the stream or has gone.
    pub(crate) async fn gone(&self) {
        self.stream.reset.cancelled().await;
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.stream.end();
    }
}

impl Ender {
    /// Closes the stream in this direction, unless it is closed.
    pub(crate) fn end(&self) {
        self.0.end();
    }

    /// Closes it in both directions, unless the client has done so; what was written before is still sent.
    pub(crate) fn reset(&self) {
        if !self.0.reset.is_cancelled() {
            self.0.send(Message::Reset(self.0.id), true);
        }
    }

    /// Whether it is closed in this direction.
    pub(crate) fn ended(&self) -> bool {
        !*self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room<'_> {
    /// Writes a piece that is no longer than the room; what is left of the room is given back.
    pub(crate) fn fill(mut self, piece: Bytes) -> Result<(), ClientGone> {
        debug_assert!(piece.len() + COST <= self.bytes);
        let length = piece.len();
        if piece.is_empty() || !self.stream.send(Message::Data(self.stream.id, piece), false) {
            return if length == 0 { Ok(()) } else { Err(ClientGone) };
        }
        // The sending task gives these back.
        self.bytes = self.bytes.saturating_sub(length + COST);
        Ok(())
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.stream.outbox.room.add_permits(self.bytes);
    }
}

impl Stream {
    fn send(&self, message: Message, last: bool) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !*open {
            return false;
        }
        *open = !last;
        self.outbox.messages.send(message).is_ok()
    }

    fn end(&self) {
        self.send(Message::End(self.id), true);
    }
}
