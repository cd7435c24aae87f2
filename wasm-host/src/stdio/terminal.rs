//! The far side of a container's terminal, served in the guest's own process so that it outlives the daemon.
//!
//! The guest has one end of a pseudo terminal as its three streams; the line discipline between is the kernel's. A thread
//! here holds the other end: what comes out goes to the log and to whoever is attached, what arrives on standard input is
//! typed in. It waits for the control socket, too, so that people who attach to a silent guest need not wait for its next
//! line.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::cri_log::{CriLog, LogStream};

/// Bytes of one read; a pseudo terminal holds about as many.
const CHUNK_BYTES: usize = 4096;

/// What typing ^D sends: the end of input, to a guest that reads lines.
const END_OF_INPUT: u8 = 4;

/// Its two buffers and the log writer's batch fit several times.
const STACK_BYTES: usize = 128 << 10;

/// Keys of the epoll set. Which of them woke the thread does not matter: it looks at all.
const ANY: EventData = EventData::new_u64(0);

/// The thread that serves a terminal.
pub(super) struct Terminal {
    thread: JoinHandle<()>,
    finish: OwnedFd,
}

impl Terminal {
    /// Starts serving. `once`: the input ends when the first writer of `stdin` leaves.
    pub(super) fn serve(
        master: Arc<OwnedFd>,
        stdin: Option<OwnedFd>,
        once: bool,
        log: &'static CriLog,
        control: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | rustix::fs::OFlags::NONBLOCK)?;
        let finish = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK)?;
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&events, &finish, ANY, EventFlags::IN)?;
        epoll::add(&events, &*master, ANY, EventFlags::IN | EventFlags::OUT | EventFlags::ET)?;
        if let Some(control) = &control {
            epoll::add(&events, control, ANY, EventFlags::IN | EventFlags::ET)?;
        }
        if let Some(stdin) = &stdin {
            // On changes only: a FIFO whose writers have left is hung up until the next one comes.
            epoll::add(&events, stdin, ANY, EventFlags::IN | EventFlags::ET)?;
        }
        let stop = rustix::io::fcntl_dupfd_cloexec(&finish, 0)?;
        let mut server = Server { master, stdin, once, log, _control: control, typed: Vec::new(), events };
        let thread = std::thread::Builder::new().name("terminal".to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn(move || server.run(&stop))?;
        Ok(Terminal { thread, finish })
    }

    /// Waits until all that the guest wrote is in the log. The guest writes no more.
    pub(super) fn finish(self) {
        if rustix::io::write(&self.finish, &1u64.to_ne_bytes()).is_ok() {
            // A panic there has lost output; there is nobody to tell.
            let _ = self.thread.join();
        }
    }
}

struct Server {
    master: Arc<OwnedFd>,
    stdin: Option<OwnedFd>,
    once: bool,
    log: &'static CriLog,
    // The log's writer reads it; here it is waited for.
    _control: Option<OwnedFd>,
    // Read from stdin and not yet taken by the terminal, which takes what its guest reads.
    typed: Vec<u8>,
    events: OwnedFd,
}

impl Server {
    fn run(&mut self, stop: &OwnedFd) {
        loop {
            let stopping = rustix::io::read(stop, &mut [0; 8]).is_ok();
            self.log.follow_orders();
            if !self.show() || stopping {
                return;
            }
            self.type_in();
            let mut events = [MaybeUninit::uninit(); 4];
            match epoll::wait(&self.events, &mut events, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Copies what the guest has written. `false`: nobody has the guest's end open any more.
    fn show(&self) -> bool {
        let mut bytes = [0; CHUNK_BYTES];
        loop {
            match rustix::io::read(&*self.master, &mut bytes) {
                Ok(0) => return false,
                Ok(count) => self.log.write(LogStream::Stdout, bytes.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Copies input until there is none, or until the terminal takes no more.
    fn type_in(&mut self) {
        loop {
            while !self.typed.is_empty() {
                match rustix::io::write(&*self.master, &self.typed) {
                    Ok(count) => drop(self.typed.drain(..count)),
                    Err(Errno::INTR) => {}
                    // Told by the terminal's own event when there is room.
                    Err(_) => return,
                }
            }
            let Some(stdin) = &self.stdin else { return };
            let mut bytes = [0; CHUNK_BYTES];
            match read_input(stdin, &mut bytes) {
                Input::Bytes(count) => self.typed.extend_from_slice(bytes.get(..count).unwrap_or_default()),
                Input::Nothing => return,
                Input::WritersLeft if !self.once => return,
                Input::WritersLeft => {
                    self.stdin = None;
                    self.typed.push(END_OF_INPUT);
                }
            }
        }
    }
}

enum Input {
    Bytes(usize),
    Nothing,
    WritersLeft,
}

/// A FIFO that nobody has written to yet reads as one that everybody has left; poll knows better.
fn read_input(stdin: &OwnedFd, bytes: &mut [u8]) -> Input {
    use rustix::event::PollFlags;
    if super::raw::ready_now(stdin.as_fd(), PollFlags::IN).is_empty() {
        return Input::Nothing;
    }
    loop {
        match rustix::io::read(stdin, &mut *bytes) {
            Ok(0) => return Input::WritersLeft,
            Ok(count) => return Input::Bytes(count),
            Err(Errno::INTR) => {}
            Err(_) => return Input::Nothing,
        }
    }
}
