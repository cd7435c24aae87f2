//! SPDY/3.1 as Kubernetes speaks it, the server's half: many streams in both directions over one connection, opened by
//! the client alone, without flow control.
//!
//! The rules are those of the SPDY Protocol, Draft 3, where spdystream (the library under every kubelet and kubectl)
//! follows it; where it does not, a comment says so.

mod dictionary;
mod encode;
mod frame;
mod header;
mod reader;
mod streams;
mod writer;

pub(crate) use header::Headers;
pub(crate) use reader::{Arrival, Desk, open};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use {dictionary::dictionary, frame::Decoder, frame::Frame, header::HeaderError, header::HeaderReader};

/// Why a stream or a session ends, as the wire says it (Draft 3, 2.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    ProtocolError = 1,
    InvalidStream = 2,
    RefusedStream = 3,
    Cancel = 5,
    StreamAlreadyClosed = 9,
}
