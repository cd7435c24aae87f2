//! Output of one of several instances in a process: whole lines, so that those of others do not come between.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::Output;
use super::cri_log::MAX_TEXT_BYTES;

/// Holds the beginning of a line back until its end comes, or the instance ends.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Held>);

struct Held {
    output: Output,
    /// At most what fits into a line of the log.
    beginning: Mutex<Vec<u8>>,
}

impl Lines {
    pub(crate) fn new(output: Output) -> Self {
        Lines(Arc::new(Held { output, beginning: Mutex::default() }))
    }

    fn write(&self, bytes: &[u8]) {
        let mut beginning = self.0.beginning.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let (lines, rest) = bytes.split_at(ended);
        let complete = !lines.is_empty() || beginning.len() + rest.len() > MAX_TEXT_BYTES;
        if beginning.is_empty() && complete && rest.is_empty() {
            return self.0.say(lines);
        }
        beginning.extend_from_slice(if complete { lines } else { rest });
        if complete {
            self.0.say(&beginning);
            beginning.clear();
            beginning.extend_from_slice(rest);
        }
    }
}

impl Held {
    fn say(&self, bytes: &[u8]) {
        // An instance goes on where nobody reads what it says.
        let _ = self.output.write(bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let beginning = std::mem::take(self.beginning.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !beginning.is_empty() {
            self.say(&[&beginning[..], b"\n"].concat());
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Lines::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_TEXT_BYTES)
    }
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Lines::write(&self, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
