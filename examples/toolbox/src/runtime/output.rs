//! A buffer before a handle, for applets that write much in small pieces.

use std::io;

use super::file::{CHUNK, Handle};
use crate::text;

/// Buffered output.
pub struct Output {
    handle: Option<Handle>,
    buffer: Vec<u8>,
}

impl Output {
    /// Output to a handle; `None` is a closed descriptor.
    pub fn new(handle: Option<Handle>) -> Self {
        Self { handle, buffer: Vec::new() }
    }

    /// Adds bytes; they are written when enough have come together, or at `flush`.
    pub async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= CHUNK {
            self.flush().await?;
            return match &self.handle {
                Some(handle) => handle.write(bytes).await,
                None => Err(io::Error::from_raw_os_error(libc::EBADF)),
            };
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush().await?;
        }
        Ok(())
    }

    /// Adds text.
    pub async fn text(&mut self, words: &str) -> io::Result<()> {
        self.bytes(&text::encode(words)).await
    }

    /// Writes what is in the buffer.
    pub async fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.buffer);
        match &self.handle {
            Some(handle) => handle.write(&bytes).await,
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// The handle behind it.
    pub fn handle(&self) -> Option<&Handle> {
        self.handle.as_ref()
    }
}
