//! The body of an answer, on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use wasmtime_wasi_http::{Error, WasiBody};

/// What the guest's task and the client's connection tell each other.
#[derive(Default)]
pub(super) struct Exchange {
    /// The client has all of the answer, or has gone.
    pub(super) client_gone: Notify,
    /// The guest has failed: what it has written of a body is not all of it.
    pub(super) guest_failed: AtomicBool,
}

/// The client's side of an exchange. Before there is an answer it has no body.
pub(super) struct Hold {
    exchange: Arc<Exchange>,
    body: Option<WasiBody>,
}

impl Hold {
    pub(super) fn new(exchange: Arc<Exchange>) -> Self {
        Hold { exchange, body: None }
    }

    pub(super) fn of(mut self, body: WasiBody) -> Self {
        self.body = Some(body);
        self
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.exchange.client_gone.notify_one();
    }
}

impl Body for Hold {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        // A guest that ends before its body leaves one that looks complete.
        if frame.is_none() && self.exchange.guest_failed.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
