//! Which two streams belong together.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Pair;
use crate::spdy::{Arrival, Desk, Headers};
use crate::stream::Output;

/// Admits streams that say which port they are for and which of the two they are.
pub(crate) struct ForwardDesk {
    /// Connections that may be open at once.
    pub(crate) connections: usize,
}

/// What a stream says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Half {
    pub(crate) request: Request,
    pub(crate) port: u16,
    pub(crate) error: bool,
}

/// What the two streams of a connection have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    /// The client's own name for it.
    Named(String),
    /// Clients before Kubernetes 1.3 give none; they open the error stream first and the data stream next, so its number,
    /// minus 2, is that of the other.
    Numbered(u32),
}

impl Desk for ForwardDesk {
    type Ticket = Half;

    fn most(&self) -> usize {
        self.connections.saturating_mul(2)
    }

    fn admit(&mut self, stream: u32, headers: &Headers) -> Option<Half> {
        let port = headers.get("port")?.parse().ok().filter(|port| *port > 0)?;
        let error = match headers.get("streamtype")? {
            "error" => true,
            "data" => false,
            _ => return None,
        };
        let request = match headers.get("requestid").filter(|name| !name.is_empty()) {
            Some(name) => Request::Named(name.to_owned()),
            None if error => Request::Numbered(stream),
            None => Request::Numbered(stream.checked_sub(2)?),
        };
        Some(Half { request, port, error })
    }
}

/// The halves whose other half has not come yet.
pub(super) struct Pairs {
    patience: Duration,
    waiting: HashMap<Request, (Instant, Arrival<Half>)>,
}

impl Pairs {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, waiting: HashMap::new() }
    }

    /// Adds a half, and gives the pair that it completes. A half that is there already is answered with an error, and the
    /// one that was there stays.
    pub(super) fn add(&mut self, arrival: Arrival<Half>) -> Option<Pair> {
        let request = arrival.ticket.request.clone();
        match self.waiting.remove(&request) {
            None => {
                self.waiting.insert(request, (Instant::now() + self.patience, arrival));
                None
            }
            Some((due, first)) if first.ticket.error == arrival.ticket.error => {
                self.waiting.insert(request, (due, first));
                arrival.output.reset();
                None
            }
            Some((_, first)) => {
                let (error, data) = if first.ticket.error { (first, arrival) } else { (arrival, first) };
                Some(Pair { port: data.ticket.port, input: data.input, output: data.output, error: error.output })
            }
        }
    }

    /// When the first of them has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.values().map(|(due, _)| *due).min()
    }

    /// Gives up those that have.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        for (_, (_, half)) in self.waiting.extract_if(|_, (due, _)| *due <= now) {
            if half.ticket.error {
                say(&half.output, &format!("no data stream for port {} within {:?}", half.ticket.port, self.patience));
            }
            half.output.reset();
        }
    }
}

/// Says something short to a client that may not read; then it is not said.
fn say(output: &Output, text: &str) {
    use futures_util::FutureExt;
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    if let Some(Ok(room)) = output.room(bytes.len()).now_or_never() {
        let _ = room.fill(bytes);
    }
}
