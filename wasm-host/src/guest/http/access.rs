//! The access log: a line for each request on standard output, when its answer is complete or its client has gone.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use crate::stdio::Output;

/// What a line says of a request. It is written when this is dropped.
pub(super) struct Entry {
    output: Output,
    begun: Instant,
    peer: SocketAddr,
    method: Method,
    uri: Uri,
    version: Version,
    /// `None`: the client left before there was an answer.
    status: Option<StatusCode>,
    bytes: u64,
}

impl Entry {
    pub(super) fn new<B>(output: Output, request: &Request<B>, peer: SocketAddr) -> Self {
        Entry {
            output,
            begun: Instant::now(),
            peer,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            status: None,
            bytes: 0,
        }
    }

    pub(super) fn of(mut self, response: Response<WasiBody>) -> Response<WasiBody> {
        self.status = Some(response.status());
        response.map(|body| Logged { body, entry: self }.boxed_unsync())
    }
}

impl Drop for Entry {
    /// Apache's common format up to the number of bytes, and the milliseconds that it took. 499 is what nginx has for a client that
    /// left.
    fn drop(&mut self) {
        let Entry { peer, method, uri, version, bytes, .. } = self;
        let status = self.status.map_or(499, |status| status.as_u16());
        let took = self.begun.elapsed().as_secs_f64() * 1e3;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let line = format!("{} - - \"{method} {path} {version:?}\" {status} {bytes} {took:.3}\n", peer.ip().to_canonical());
        // Nobody can be told if this cannot be written.
        let _ = self.output.write(line.as_bytes());
    }
}

struct Logged {
    body: WasiBody,
    entry: Entry,
}

impl Body for Logged {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.entry.bytes = self.entry.bytes.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
