//! The body of an answer, with a limit for the time between two pieces of it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use wasmtime_wasi_http::Error;

/// Fails when no piece comes for a while.
pub(super) struct Timed {
    body: Incoming,
    between: Duration,
    /// Made when there is something to wait for.
    patience: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Timed {
    pub(super) fn new(body: Incoming, between: Duration) -> Self {
        Self { body, between, patience: None, waiting: false }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let between = this.between;
        let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(between)));
        if !this.waiting {
            this.waiting = true;
            if let Some(end) = Instant::now().checked_add(between) {
                patience.as_mut().reset(end);
            }
        }
        patience.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
