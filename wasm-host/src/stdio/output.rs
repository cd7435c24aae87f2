//! Standard output and error of a guest: the CRI log, a descriptor, or nothing.
//!
//! Writing blocks the guest and nobody else, since a guest has its process for itself; so there is no buffer, no task and
//! no thread between the guest's write and the kernel, and nothing to flush when it ends.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use rustix::io::Errno;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use super::cri_log::{CriLog, LogStream};
use super::raw;

/// Most bytes that a guest may hand over at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Where a stream of the guest goes.
#[derive(Clone)]
pub(crate) enum Output {
    Null,
    Log(&'static CriLog, LogStream),
    Descriptor(Arc<OwnedFd>, Broken),
}

/// What a guest is told when nobody reads a descriptor any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Of WASI 0.1: `EPIPE`, on which programs end as quietly as by SIGPIPE. wasmtime makes `EIO` of a closed stream.
    Errno,
    /// Of later versions: the stream is closed.
    Closed,
}

impl Output {
    /// # Errors
    /// The peer of a descriptor has gone, or the kernel refused the bytes. A log never fails.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Output::Null => Ok(()),
            Output::Log(log, stream) => {
                log.write(*stream, bytes);
                Ok(())
            }
            Output::Descriptor(fd, _) => raw::write_all_or(&**fd, &mut [IoSlice::new(bytes)]).map_err(|(_, error)| error.into()),
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        matches!(self, Output::Descriptor(fd, _) if rustix::termios::isatty(fd))
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Output::write(self, &bytes).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::PIPE) if !matches!(self, Output::Descriptor(_, Broken::Errno)) => StreamError::Closed,
            _ => StreamError::LastOperationFailed(error.into()),
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK_BYTES)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Output::write(&self, bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
