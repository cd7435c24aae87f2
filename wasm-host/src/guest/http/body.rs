//! The body of an answer, on its way to the client.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::Notify;
use wasmtime_wasi_http::{Error, WasiBody};

/// Tells the guest's task when the client has all of the answer, or has gone. Before there is an answer it has no body.
pub(super) struct Hold {
    client: Arc<Notify>,
    body: Option<WasiBody>,
}

impl Hold {
    pub(super) fn new(client: Arc<Notify>) -> Self {
        Hold { client, body: None }
    }

    pub(super) fn of(mut self, body: WasiBody) -> Self {
        self.body = Some(body);
        self
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.client.notify_one();
    }
}

impl Body for Hold {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}
