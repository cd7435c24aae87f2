//! The streams of one connection that are open, as the reader of the connection sees them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::stream::{End, Ender, Filler, Input, Outbox, Output, Pool, queue};

/// The open streams.
pub(crate) struct Streams {
    open: HashMap<u32, Stream>,
    /// How many there were when it was last looked which of them have ended.
    looked_at: usize,
    most: usize,
    last: u32,
    buffer: usize,
    pool: Arc<Pool>,
    outbox: Outbox,
    gone: CancellationToken,
}

struct Stream {
    filler: Filler,
    ender: Ender,
    reset: CancellationToken,
}

/// What a frame's stream is.
pub(crate) enum Found<'a> {
    /// Open: its bytes go here.
    Open(&'a Filler),
    /// The client has closed it, and yet sends.
    Closed,
    /// It was open once; what is still under way for it is nobody's fault.
    Ended,
    /// It was never opened.
    Unknown,
}

impl Streams {
    /// None yet, and at most `most` at once; each may hold `buffer` unread bytes.
    pub(crate) fn new(most: usize, buffer: usize, pool: Arc<Pool>, outbox: Outbox, gone: CancellationToken) -> Self {
        Self { open: HashMap::new(), looked_at: 16, most, last: 0, buffer, pool, outbox, gone }
    }

    /// Notes the number of a new stream: odd and higher than all before (Draft 3, 2.3.2), or it is `false`.
    pub(crate) fn count(&mut self, id: u32) -> bool {
        let next = id % 2 == 1 && id > self.last;
        if next {
            self.last = id;
        }
        next
    }

    /// The highest number.
    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    /// Whether one more may be open.
    pub(crate) fn has_room(&mut self) -> bool {
        if self.open.len() >= self.looked_at.min(self.most) {
            self.open.retain(|_, stream| !(stream.filler.ended() && stream.ender.ended()));
            self.looked_at = 16.max(self.open.len() * 2);
        }
        self.open.len() < self.most
    }

    /// Whether any is open.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.open.retain(|_, stream| !(stream.filler.ended() && stream.ender.ended()));
        self.open.is_empty()
    }

    /// Opens one and gives its other ends.
    pub(crate) fn open(&mut self, id: u32) -> (Input, Output) {
        let (filler, input) = queue(self.buffer, self.pool.clone());
        let reset = self.gone.child_token();
        let output = self.outbox.output(id, reset.clone());
        self.open.insert(id, Stream { filler, ender: output.ender(), reset });
        (input, output)
    }

    /// The stream of a frame.
    pub(crate) fn find(&self, id: u32) -> Found<'_> {
        match self.open.get(&id) {
            Some(stream) if stream.filler.ended() => Found::Closed,
            Some(stream) => Found::Open(&stream.filler),
            None if id <= self.last && id % 2 == 1 => Found::Ended,
            None => Found::Unknown,
        }
    }

    /// The client has closed its half.
    pub(crate) fn close(&mut self, id: u32) {
        let Some(stream) = self.open.get(&id) else { return };
        stream.filler.end(End::Closed);
        if stream.ender.ended() {
            self.open.remove(&id);
        }
    }

    /// The client has ended both halves.
    pub(crate) fn reset(&mut self, id: u32) {
        if let Some(stream) = self.open.remove(&id) {
            stream.filler.end(End::Gone);
            stream.reset.cancel();
        }
    }
}
