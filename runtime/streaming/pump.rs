//! Bytes between a client's streams and the descriptors of a guest.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use streaming::{Input, Output, Resize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

/// Bytes of one read.
const CHUNK: usize = 64 << 10;

/// What ^D sends: the end of input, to a guest that reads lines.
const END_OF_INPUT: u8 = 4;

/// Copies what the client writes until it has closed its half, then closes the pipe. A guest that reads no more ends it.
pub(super) async fn into_pipe(mut input: Input, mut pipe: pipe::Sender) {
    while let Some(bytes) = input.next().await {
        if pipe.write_all(&bytes).await.is_err() {
            break;
        }
    }
}

/// Copies what the guest writes, until it has closed its end or the client has gone; then the client's stream ends.
pub(super) async fn from_pipe(mut pipe: pipe::Receiver, mut output: Output) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        match pipe.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return output.finish(),
            Ok(_) => {}
        }
        if output.write(buffer.split().freeze()).await.is_err() {
            return;
        }
    }
}

/// The daemon's end of a command's terminal.
#[derive(Clone)]
pub(super) struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    pub(super) fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | rustix::fs::OFlags::NONBLOCK)?;
        let interest = tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE;
        Ok(Self(Arc::new(crate::host::watch_descriptor(master, interest)?)))
    }

    /// Shows what the guest writes, until nobody has its end open any more or the client has gone.
    pub(super) async fn show(self, mut output: Output) {
        let mut buffer = BytesMut::zeroed(CHUNK);
        loop {
            let read = self.0.async_io(tokio::io::Interest::READABLE, |master| Ok(rustix::io::read(master, &mut *buffer)?)).await;
            let Ok(count @ 1..) = read else { return output.finish() };
            let bytes = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
            if output.write(bytes).await.is_err() {
                return;
            }
        }
    }

    /// Types what the client sends.
    pub(super) async fn type_in(self, mut input: Input) {
        while let Some(bytes) = input.next().await {
            if self.write(&bytes).await.is_err() {
                return;
            }
        }
        if input.closed_in_order() {
            // A terminal has no half that could be closed.
            let _ = self.write(&[END_OF_INPUT]).await;
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = |master: &OwnedFd| Ok(rustix::io::write(master, bytes)?);
            let count = self.0.async_io(tokio::io::Interest::WRITABLE, write).await?;
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Gives the terminal the size of the client's.
    pub(super) async fn follow(self, mut resize: Resize) {
        while let Some(size) = resize.next().await {
            let size = rustix::termios::Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
            // One that is gone has no size.
            let _ = rustix::termios::tcsetwinsize(&*self.0, size);
        }
    }
}
