//! Standard input of a guest: nothing, or a descriptor (FIFO, pipe, socket, terminal, file).
//!
//! The end of a FIFO needs care. One that nobody has written to yet reads as if it were at its end; poll(2) knows better,
//! so nothing is read that poll does not announce. With `stdin_once` the end is where the last writer leaves; without, a
//! next writer may come, and a descriptor that poll reports as hung up must not be waited for in a loop. Hence the wait on
//! an edge-triggered epoll of our own, which tokio waits on in turn.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use rustix::event::{PollFlags, epoll};
use rustix::fs::{FileType, fstat, fstatfs};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use super::raw;

/// Most bytes of one read, which are allocated for it.
const CHUNK_BYTES: usize = 16 << 10;

/// The file system of anonymous pipes, from linux/magic.h.
const PIPEFS_MAGIC: rustix::fs::FsWord = 0x5049_5045;

/// Where the guest's input comes from.
#[derive(Clone)]
pub(crate) enum Input {
    Empty,
    Descriptor(Arc<Source>),
}

pub(crate) struct Source {
    fd: Arc<OwnedFd>,
    // A FIFO whose writers may come and go.
    endless: bool,
    // Made for the first wait: most guests never wait for input.
    changes: OnceLock<AsyncFd<OwnedFd>>,
}

impl Input {
    /// `once`: the input ends when the last writer leaves; matters for FIFOs only.
    pub(crate) fn descriptor(fd: OwnedFd, once: bool) -> Self {
        let endless = !once && is_named_fifo(&fd);
        Input::Descriptor(Arc::new(Source { fd: Arc::new(fd), endless, changes: OnceLock::new() }))
    }

    /// The guest's end of a terminal, which is its output as well.
    pub(crate) fn terminal(fd: Arc<OwnedFd>) -> Self {
        Input::Descriptor(Arc::new(Source { fd, endless: false, changes: OnceLock::new() }))
    }

    /// `None`: nothing yet. `Some(0)`: the end.
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Input::Empty => Ok(Some(0)),
            Input::Descriptor(source) => source.read_now(buffer),
        }
    }
}

/// Whether writers may come and go. Those of an anonymous pipe only go.
fn is_named_fifo(fd: &OwnedFd) -> bool {
    fstat(fd).is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Fifo)
        && fstatfs(fd).is_ok_and(|system| system.f_type != PIPEFS_MAGIC)
}

impl Source {
    fn is_ready(&self) -> bool {
        let events = raw::ready_now(&self.fd, PollFlags::IN);
        events.contains(PollFlags::IN) || (!events.is_empty() && !self.endless)
    }

    fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        while self.is_ready() {
            match rustix::io::read(&self.fd, &mut *buffer) {
                Ok(0) if self.endless => return Ok(None),
                Ok(count) => return Ok(Some(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn changes(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        if let Some(changes) = self.changes.get() {
            return Ok(changes);
        }
        let inner = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&inner, &self.fd, epoll::EventData::new_u64(0), events)?;
        // SAFETY: the epoll is open, is ours alone, and is closed with its registration.
        let changes = unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }?;
        Ok(self.changes.get_or_init(|| changes))
    }

    /// Forgets the changes seen so far. A change from now on wakes who waits.
    fn forget_changes(changes: &AsyncFd<OwnedFd>) {
        let now = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events = [MaybeUninit::uninit(); 1];
        let _ = epoll::wait(changes.get_ref(), &mut events, Some(&now));
    }

    async fn ready(&self) -> io::Result<()> {
        while !self.is_ready() {
            let changes = self.changes()?;
            changes.readable().await?.clear_ready();
            Self::forget_changes(changes);
        }
        Ok(())
    }

    fn poll_change(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let changes = self.changes()?;
        ready!(changes.poll_read_ready(context))?.clear_ready();
        Self::forget_changes(changes);
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        matches!(self, Input::Descriptor(source) if rustix::termios::isatty(&source.fd))
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        if let Input::Descriptor(source) = self {
            // What fails here fails again in the read that follows.
            let _ = source.ready().await;
        }
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut buffer = BytesMut::zeroed(size.min(CHUNK_BYTES));
        match self.read_now(&mut buffer) {
            Ok(Some(0)) => Err(StreamError::Closed),
            Ok(Some(count)) => {
                buffer.truncate(count);
                Ok(buffer.freeze())
            }
            Ok(None) => Ok(Bytes::new()),
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let room = buffer.remaining().min(CHUNK_BYTES);
            if let Some(count) = self.read_now(buffer.initialize_unfilled_to(room))? {
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
            if let Input::Descriptor(source) = &*self {
                ready!(source.poll_change(context))?;
            }
        }
    }
}
