//! The supervisor: one process per node, of one thread, that forks a process for every guest and tells how each ended.
//!
//! It holds a ready engine, so that a guest starts with a fork instead of an exec, and shares the engine's memory with all of them. It
//! must stay single-threaded (a fork copies one thread), so it is a plain epoll loop without an async runtime. It reads no guest's bytes
//! and no network. It keeps nothing that it could lose: what it knows of a guest is in the guest's files before anybody is told.

mod connection;
mod guests;
mod init;
mod kernel_log;
mod launch;
mod pids;
mod setup;
mod title;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::event::epoll::{self, EventData, EventFlags};
use thiserror::Error;

use crate::engine::EngineError;
use crate::exit_record::Directory;
use crate::guest::{PrepareError, Prepared};
use crate::jail::{Filter, JailError};
use connection::Connection;
use guests::Guest;
use kernel_log::KernelLog;
use pids::Pids;

/// Where a supervisor finds its places.
#[derive(Debug, Clone)]
pub struct Options {
    /// The socket to listen on; replaced if there is one.
    pub socket: PathBuf,
    /// Directory of the guests' files; made if missing.
    pub guests: PathBuf,
}

/// The supervisor could not start, or not go on.
#[derive(Debug, Error)]
pub enum SupervisorError {
    /// Of the engine that all guests share.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Of the host functions.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// Of the supervisor's own namespace or filter.
    #[error("cannot prepare the supervisor: {0}: {source}", source = std::error::Error::source(.0).map(ToString::to_string).unwrap_or_default())]
    Jail(#[from] JailError),
    /// A system call of the loop or of its preparation.
    #[error("{step}")]
    System {
        /// What was being done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn system(step: &'static str) -> impl FnOnce(io::Error) -> SupervisorError {
    move |source| SupervisorError::System { step, source }
}

/// Runs until it is asked to end. Returns in the process that was called once the supervisor, its detached child, is ready.
pub fn main(options: &Options) -> Result<(), SupervisorError> {
    let Some(ready) = setup::detach()? else { return Ok(()) };
    let mut supervisor = setup::prepare(options)?;
    setup::announce(ready)?;
    supervisor.run()
}

/// What an epoll event is about. The number in the event is the key.
#[derive(Debug, Clone, Copy)]
enum Source {
    Listener,
    Connection(u64),
    /// The guest's process, by its pidfd.
    End(u64),
    /// The guest's report that it is ready, or why not.
    Ready(u64),
}

struct Supervisor {
    /// The engine and the host functions, which every guest process inherits.
    prepared: Prepared,
    /// What a guest process has for the supervisor's own output.
    null: OwnedFd,
    filter: Filter,
    pids: Pids,
    directory: Directory,
    listener: OwnedFd,
    epoll: OwnedFd,
    sources: HashMap<u64, Source>,
    connections: HashMap<u64, Connection>,
    guests: HashMap<u64, Guest>,
    next_key: u64,
    kernel_log: KernelLog,
    /// Of the engines, for the daemon.
    fingerprint: String,
    /// Taken at the start: an upgrade replaces the file.
    build: String,
    stopping: bool,
}

impl Supervisor {
    fn run(&mut self) -> Result<(), SupervisorError> {
        self.watch(Source::Listener).map_err(system("watching the socket"))?;
        let mut events = Vec::with_capacity(64);
        while !self.stopping {
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(system("waiting for events")(error.into())),
            }
            for event in events.drain(..) {
                // A source that an earlier event of the same batch has removed is skipped.
                match self.sources.get(&event.data.u64()).copied() {
                    Some(Source::Listener) => self.accept(),
                    Some(Source::Connection(key)) => self.serve(key),
                    Some(Source::Ready(key)) => self.guest_reported(key),
                    Some(Source::End(key)) => self.guest_ended(key),
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn key(&mut self) -> u64 {
        self.next_key = self.next_key.wrapping_add(1);
        self.next_key
    }

    /// Starts watching the descriptor that belongs to a source; it is watched no more when it is closed.
    fn watch(&mut self, source: Source) -> io::Result<u64> {
        let key = self.key();
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let descriptor = match source {
            Source::Listener => self.listener.as_fd(),
            Source::Connection(key) => self.connections.get(&key).ok_or_else(missing)?.socket(),
            Source::End(key) => self.guests.get(&key).ok_or_else(missing)?.process.as_fd(),
            Source::Ready(key) => self.guests.get(&key).and_then(|guest| guest.report.as_ref()).ok_or_else(missing)?.as_fd(),
        };
        epoll::add(&self.epoll, descriptor, EventData::new_u64(key), EventFlags::IN)?;
        self.sources.insert(key, source);
        Ok(key)
    }

    fn unwatch(&mut self, keep: impl Fn(Source) -> bool) {
        self.sources.retain(|_, source| keep(*source));
    }
}
