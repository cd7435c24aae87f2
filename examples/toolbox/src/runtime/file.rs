//! Open files as the shell hands them out: descriptors of the host, ends of pipes, texts in memory, the terminal. Handles
//! are counted, so that a pipe ends when its last user is gone.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use super::executor::{ready, tick};
use super::pipe::{PipeReader, PipeWriter};
use super::terminal::Terminal;
use crate::sys::{self, Kind};

/// What is read or written at once.
pub const CHUNK: usize = 16 * 1024;

/// An open file that several may hold.
pub type Handle = Rc<OpenFile>;

/// A file of the host.
pub struct HostFile {
    file: File,
    /// Reading may block, so it has to be waited for.
    waits: bool,
}

/// What stands behind a descriptor of the shell.
pub enum OpenFile {
    /// A file, device or stream of the host.
    Host(HostFile),
    /// A pipe between tasks.
    Reader(PipeReader),
    /// The other end of one.
    Writer(PipeWriter),
    /// A here-document.
    Memory(RefCell<io::Cursor<Vec<u8>>>),
    /// What swallows everything and holds nothing: `/dev/null`.
    Null,
    /// Zeros without end: `/dev/zero`, where there is none.
    Zero,
    /// The terminal, when the shell does its line discipline.
    Terminal(Rc<Terminal>),
}

impl OpenFile {
    /// A file of the host.
    pub fn host(file: File) -> Handle {
        let waits = sys::descriptor_status(file.as_raw_fd())
            .map_or(true, |status| !matches!(status.kind, Kind::File | Kind::Directory | Kind::Block));
        Rc::new(OpenFile::Host(HostFile { file, waits }))
    }

    /// A text to be read.
    pub fn memory(bytes: Vec<u8>) -> Handle {
        Rc::new(OpenFile::Memory(RefCell::new(io::Cursor::new(bytes))))
    }

    /// Reads what is there; 0 at the end.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            OpenFile::Host(host) => {
                tick().await;
                if host.waits {
                    ready(host.file.as_raw_fd(), false).await;
                }
                loop {
                    match (&host.file).read(buffer) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        // A host may call a stream ready that is not.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            super::sleep(std::time::Duration::from_millis(5)).await;
                        }
                        result => return result,
                    }
                }
            }
            OpenFile::Reader(pipe) => {
                tick().await;
                Ok(pipe.read(buffer).await)
            }
            OpenFile::Memory(cursor) => cursor.borrow_mut().read(buffer),
            OpenFile::Terminal(terminal) => Ok(terminal.read(buffer).await),
            OpenFile::Null => Ok(0),
            OpenFile::Zero => {
                tick().await;
                buffer.fill(0);
                Ok(buffer.len())
            }
            OpenFile::Writer(_) => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Writes everything.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            OpenFile::Host(host) => {
                for chunk in bytes.chunks(CHUNK) {
                    let mut rest = chunk;
                    while !rest.is_empty() {
                        match (&host.file).write(rest) {
                            Ok(0) => return Err(io::Error::from_raw_os_error(libc::EIO)),
                            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                                ready(host.file.as_raw_fd(), true).await;
                            }
                            Err(error) => return Err(error),
                        }
                    }
                    tick().await;
                }
                Ok(())
            }
            OpenFile::Writer(pipe) => {
                tick().await;
                pipe.write(bytes).await
            }
            OpenFile::Terminal(terminal) => terminal.write(bytes),
            OpenFile::Null | OpenFile::Zero => {
                tick().await;
                Ok(())
            }
            OpenFile::Reader(_) | OpenFile::Memory(_) => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// The host's file, for what only such a one can do (seek, sync, set its length).
    pub fn file(&self) -> Option<&File> {
        match self {
            OpenFile::Host(host) => Some(&host.file),
            _ => None,
        }
    }

    /// Whether a person sits behind it.
    pub fn is_terminal(&self) -> bool {
        match self {
            OpenFile::Host(host) => io::IsTerminal::is_terminal(&host.file),
            OpenFile::Terminal(_) => true,
            _ => false,
        }
    }
}

/// Reads lines, or everything, with a buffer of its own.
pub struct Lines {
    handle: Handle,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
    delimiter: u8,
}

impl Lines {
    /// Lines of an open file.
    pub fn new(handle: Handle) -> Self {
        Self { handle, buffer: Vec::new(), at: 0, ended: false, delimiter: b'\n' }
    }

    /// Another byte than the newline ends a line.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Whether a whole line, or the end, is there without reading.
    pub fn has_line(&self) -> bool {
        self.ended || self.buffer.get(self.at..).is_some_and(|rest| rest.contains(&self.delimiter))
    }

    /// The next line without its end, and whether it had one. `None` at the end of the file.
    pub async fn next(&mut self) -> io::Result<Option<(Vec<u8>, bool)>> {
        let mut searched = self.at;
        loop {
            let rest = self.buffer.get(searched..).unwrap_or_default();
            if let Some(length) = rest.iter().position(|byte| *byte == self.delimiter) {
                let line = self.buffer.get(self.at..searched + length).unwrap_or_default().to_vec();
                self.at = searched + length + 1;
                return Ok(Some((line, true)));
            }
            if self.ended {
                let line = self.buffer.split_off(self.at.min(self.buffer.len()));
                self.buffer.clear();
                self.at = 0;
                return Ok(if line.is_empty() { None } else { Some((line, false)) });
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            searched = self.buffer.len();
            self.buffer.resize(searched + CHUNK, 0);
            let count = self.handle.read(self.buffer.get_mut(searched..).unwrap_or_default()).await;
            self.buffer.truncate(searched + count.as_ref().copied().unwrap_or(0));
            self.ended = count? == 0;
        }
    }

    /// The next bytes, however many; empty at the end.
    pub async fn chunk(&mut self) -> io::Result<Vec<u8>> {
        if self.at < self.buffer.len() {
            let rest = self.buffer.split_off(self.at);
            self.buffer.clear();
            self.at = 0;
            return Ok(rest);
        }
        if self.ended {
            return Ok(Vec::new());
        }
        let mut bytes = vec![0; CHUNK];
        let count = self.handle.read(&mut bytes).await?;
        bytes.truncate(count);
        self.ended = count == 0;
        Ok(bytes)
    }
}

/// Everything up to the end.
pub async fn read_all(handle: &Handle) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = handle.read(&mut chunk).await?;
        if count == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
}
