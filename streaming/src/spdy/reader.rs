//! The one task that reads a SPDY connection: frames to streams, and what the protocol demands to the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Reason;
use super::frame::{Decoder, Frame};
use super::header::{HeaderError, HeaderReader, Headers};
use super::streams::{Found, Streams};
use super::writer::{self, Control};
use crate::config::Config;
use crate::link::{Activity, Link};
use crate::stream::{Input, Outbox, Output, Pool, outbox};
use crate::wire::{ReadHalf, WriteHalf};

/// Demands that wait to be written. A client that asks for more and does not read waits itself.
const DEMANDS: usize = 64;
/// How much is read at once: at first, and when there is much to read.
const READ: (usize, usize) = (4 * 1024, 64 * 1024);

/// Decides about new streams.
pub(crate) trait Desk: Send + 'static {
    /// What is known of a stream that is admitted.
    type Ticket: Send + 'static;
    /// How many may be open at once.
    fn most(&self) -> usize;
    /// Whether the client may open a stream with these headers.
    fn admit(&mut self, stream: u32, headers: &Headers) -> Option<Self::Ticket>;
}

/// A stream that was admitted, and answered.
pub(crate) struct Arrival<T> {
    pub(crate) ticket: T,
    pub(crate) input: Input,
    pub(crate) output: Output,
}

/// Starts a session on a connection of which `first` was read already. Streams arrive until the client has gone.
pub(crate) fn open<D: Desk>(
    (reading, writing): (ReadHalf, WriteHalf),
    first: Vec<u8>,
    desk: D,
    config: &Config,
    pool: &Arc<Pool>,
) -> (Link, mpsc::Receiver<Arrival<D::Ticket>>) {
    let (outbox, outgoing) = outbox();
    let (demands, control) = mpsc::channel(DEMANDS);
    let (arrivals, arriving) = mpsc::channel(8);
    let (gone, activity) = (CancellationToken::new(), Activity::default());
    let last = Arc::new(AtomicU32::new(0));
    let writer = writer::write(writing, outgoing, control, last.clone(), activity.clone());
    let streams = Streams::new(desk.most(), config.stream_buffer, pool.clone(), outbox.clone(), gone.clone());
    let reader = Reader {
        desk,
        streams,
        headers: HeaderReader::default(),
        demands,
        arrivals,
        last,
        outbox: outbox.clone(),
        leaving: false,
    };
    let reader = read(reader, reading, first, gone.clone(), activity.clone());
    (Link::new(outbox, gone, activity, reader, writer), arriving)
}

struct Reader<D: Desk> {
    desk: D,
    streams: Streams,
    headers: HeaderReader,
    demands: mpsc::Sender<Control>,
    arrivals: mpsc::Sender<Arrival<D::Ticket>>,
    last: Arc<AtomicU32>,
    outbox: Outbox,
    /// The client has said that it opens no more streams.
    leaving: bool,
}

/// Why a session ends, where the client did not simply go.
enum Broken {
    /// It is told, and nothing more is said.
    Protocol(String),
    /// The writer has ended.
    Unwritable,
}

impl From<mpsc::error::SendError<Control>> for Broken {
    fn from(_: mpsc::error::SendError<Control>) -> Self {
        Self::Unwritable
    }
}

async fn read<D: Desk>(mut reader: Reader<D>, mut wire: ReadHalf, first: Vec<u8>, gone: CancellationToken, activity: Activity) {
    // Whatever ends this task, the client's streams end with it.
    let _gone = gone.clone().drop_guard();
    let mut frames = Decoder::default();
    let mut buffer = vec![0; READ.0];
    let mut result = reader.frames(&mut frames, &first).await;
    while result.is_ok() {
        if reader.leaving && reader.streams.is_empty() {
            reader.outbox.close();
        }
        let Ok(read @ 1..) = wire.read(&mut buffer).await else { return };
        activity.touch();
        result = reader.frames(&mut frames, buffer.get(..read).unwrap_or_default()).await;
        if read == buffer.len() && read < READ.1 {
            buffer.resize(READ.1, 0);
        }
    }
    if let Err(Broken::Protocol(reason)) = result {
        tracing::debug!("a SPDY session ends: {reason}");
        let _ = reader.demands.send(Control::Failed).await;
        gone.cancel();
        // The writer closes its half; what the client still sends is read, so that it can read why.
        drain(&mut wire, &mut buffer).await;
    }
}

async fn drain(wire: &mut ReadHalf, buffer: &mut [u8]) {
    while matches!(wire.read(buffer).await, Ok(1..)) {}
}

impl<D: Desk> Reader<D> {
    async fn frames(&mut self, frames: &mut Decoder, mut bytes: &[u8]) -> Result<(), Broken> {
        while let Some(frame) = frames.next(&mut bytes).map_err(|error| Broken::Protocol(error.to_string()))? {
            match frame {
                Frame::Data { stream, bytes, fin } => self.data(stream, bytes, fin).await?,
                Frame::SynStream { stream, fin, unidirectional, block } => {
                    self.syn_stream(stream, fin, unidirectional, block).await?;
                }
                Frame::Headers { stream, fin, block } => {
                    match self.headers.read(block) {
                        Ok(_) => (),
                        Err(HeaderError::Malformed) => self.refuse(stream, Reason::ProtocolError).await?,
                        Err(error) => return Err(Broken::Protocol(error.to_string())),
                    }
                    if fin {
                        self.streams.close(stream);
                    }
                }
                Frame::Reset { stream } => self.streams.reset(stream),
                // An even number is the answer to a ping of the server, which sends none.
                Frame::Ping { id } if id % 2 == 1 => self.demands.send(Control::Ping(id)).await?,
                Frame::GoAway => self.leaving = true,
                Frame::Ping { .. } | Frame::Ignored => (),
            }
        }
        Ok(())
    }

    async fn data(&mut self, stream: u32, bytes: &[u8], fin: bool) -> Result<(), Broken> {
        match self.streams.find(stream) {
            Found::Open(filler) => {
                for piece in bytes.chunks(crate::stream::PIECE) {
                    self.outbox.push(filler, piece).await;
                }
                if fin {
                    self.streams.close(stream);
                }
            }
            Found::Closed => self.refuse(stream, Reason::StreamAlreadyClosed).await?,
            Found::Unknown => self.refuse(stream, Reason::InvalidStream).await?,
            Found::Ended => (),
        }
        Ok(())
    }

    async fn syn_stream(&mut self, stream: u32, fin: bool, unidirectional: bool, block: &[u8]) -> Result<(), Broken> {
        let headers = match self.headers.read(block) {
            Ok(headers) => Some(headers),
            Err(HeaderError::Malformed) => None,
            Err(error) => return Err(Broken::Protocol(error.to_string())),
        };
        if !self.streams.count(stream) {
            return Err(Broken::Protocol(format!("stream {stream} after stream {}", self.streams.last())));
        }
        self.last.store(stream, Ordering::Release);
        // A stream without a way back can say nothing, not even that it failed; no client of Kubernetes opens one.
        let Some(headers) = headers.filter(|_| !unidirectional) else {
            return self.refuse(stream, Reason::ProtocolError).await;
        };
        let room = !self.leaving && self.streams.has_room();
        let Some(ticket) = room.then(|| self.desk.admit(stream, &headers)).flatten() else {
            return self.refuse(stream, Reason::RefusedStream).await;
        };
        // First the answer: spdystream throws data away that comes before it.
        self.demands.send(Control::Reply(stream)).await?;
        let (input, output) = self.streams.open(stream);
        if fin {
            self.streams.close(stream);
        }
        // Nobody takes it when the session is about to end.
        let _ = self.arrivals.send(Arrival { ticket, input, output }).await;
        Ok(())
    }

    async fn refuse(&mut self, stream: u32, reason: Reason) -> Result<(), Broken> {
        self.streams.reset(stream);
        Ok(self.demands.send(Control::Reset(stream, reason)).await?)
    }
}
