//! The daemon's side of the supervisor: starting it, launching guests through it, and learning how they end.
//!
//! The supervisor outlives the daemon, so nothing here is the only copy of anything: what a guest is and how it ended lies in its files
//! ([`wasm_host::exit_record`]). Exits come as events while a supervisor is there; guests whose supervisor has died are watched by their
//! own pidfd instead.

mod connection;
mod orphans;
mod process;
mod start;

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::Message;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use wasm_host::exit_record::{self, Directory};
use wasm_host::protocol::{
    self, DescriptorKind, ExitRecord, GuestControl, GuestSpec, Launch, PidNamespace, ReopenLog, Resize, Tap, guest_control,
    reply, request,
};

use crate::cgroup::Cgroup;
use crate::metrics::{Timed, metrics};
use connection::Connection;
pub use process::Process;

/// How long a supervisor may take for a launch: a fork, some mounts, mapping code. Seconds only when the machine is in distress.
const LAUNCH_DEADLINE: Duration = Duration::from_secs(60);

/// Where the supervisor lives.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// State directory: sockets `host-N.sock` and the directory `guests`.
    pub state: PathBuf,
    /// The executable that has the role `host`: the daemon's own.
    pub program: PathBuf,
    /// Where the supervisor is moved to, out of the daemon's service.
    pub cgroup: Option<Cgroup>,
}

/// Talking to the supervisor, or to a guest's process, failed.
#[derive(Debug, Error)]
pub enum HostError {
    /// The supervisor cannot be started; the text is its own.
    #[error("the supervisor does not start: {0}")]
    Start(String),
    /// It went away and a new one is not there yet.
    #[error("no supervisor is running")]
    NotRunning,
    /// It did not answer.
    #[error("the supervisor did not answer {what} within {seconds} s")]
    TimedOut {
        /// The request.
        what: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// It refused, in its own words.
    #[error("{message}")]
    Refused {
        /// For an operator.
        message: String,
        /// Of the system call that failed, or 0.
        errno: i32,
    },
    /// The socket of a guest holds `net.unix.max_dgram_qlen` messages; it reads them when it writes its next line.
    #[error(
        "the guest has written nothing since it was sent its last messages, and no more can wait (net.unix.max_dgram_qlen); \
         its log is the newest that it was handed, and needs no rotation"
    )]
    OrdersWaiting,
    /// A system call.
    #[error("{what}")]
    System {
        /// What was being done.
        what: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> HostError {
    move |source| HostError::System { what: what.into(), source }
}

/// A guest as its files and its process show it.
#[derive(Debug, Clone)]
pub enum Seen {
    /// Its process lives.
    Running(Process),
    /// It has ended.
    Ended(ExitRecord),
}

/// Client of the supervisor; clones share it.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: HostConfig,
    guests: Directory,
    /// The supervisor that launches; replaced when it dies.
    current: watch::Sender<Option<Connection>>,
    exits: mpsc::Sender<(String, ExitRecord)>,
    receiver: Mutex<Option<mpsc::Receiver<(String, ExitRecord)>>>,
    /// Guests whose end has been handed out, so that it is told once however it was learned.
    told: Mutex<HashSet<String>>,
    /// Orphans that are watched already.
    watched: Mutex<HashSet<String>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Exits that wait for the daemon to take them in. When it is full, supervisors wait, which harms no guest.
const EXIT_QUEUE: usize = 1024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold is consistent after every statement, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// Finds the supervisor of this state directory, or starts one, and keeps one running until `stop`.
    pub async fn open(config: HostConfig, stop: CancellationToken, tasks: TaskTracker) -> Result<Self, HostError> {
        let path = config.state.join("guests");
        std::fs::create_dir_all(&path).map_err(system(format!("making {}", path.display())))?;
        let guests = Directory::open(&path).map_err(system(format!("opening {}", path.display())))?;
        let (exits, receiver) = mpsc::channel(EXIT_QUEUE);
        let host = Self(Arc::new(Inner {
            config,
            guests,
            current: watch::Sender::new(None),
            exits,
            receiver: Mutex::new(Some(receiver)),
            told: Mutex::default(),
            watched: Mutex::default(),
            stop,
            tasks,
        }));
        host.connect().await?;
        host.watch_orphans();
        Ok(host)
    }

    /// The ends of guests, each once. Taken by the first caller; an empty channel for any other.
    pub fn exits(&self) -> mpsc::Receiver<(String, ExitRecord)> {
        lock(&self.0.receiver).take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// `Err` with the reason while no supervisor is there to launch anything.
    pub fn ready(&self) -> Result<(), String> {
        match self.0.current.borrow().as_ref() {
            Some(_) => Ok(()),
            None => Err("no supervisor is running; it is being started again".to_owned()),
        }
    }

    /// Fingerprint of the engine that guests run in; compiled code must carry the same.
    pub fn engine_fingerprint(&self) -> Option<String> {
        self.0.current.borrow().as_ref().map(|connection| connection.welcome().engine_fingerprint.clone())
    }

    /// Starts a guest, in the PID namespace that `pids` says. When this returns its code is about to run, or nothing of it is left.
    pub async fn launch(
        &self,
        guest: &str,
        spec: &GuestSpec,
        pids: PidNamespace,
        mut descriptors: Vec<(DescriptorKind, OwnedFd)>,
    ) -> Result<Process, HostError> {
        let spec = memfd(spec).map_err(system("writing the specification"))?;
        descriptors.push((DescriptorKind::Spec, spec));
        let connection = self.0.current.borrow().clone().ok_or(HostError::NotRunning)?;
        let launch = Launch {
            guest: guest.to_owned(),
            descriptors: descriptors.iter().map(|(kind, _)| i32::from(*kind)).collect(),
            pid_namespace: pids.into(),
        };
        lock(&self.0.told).remove(guest);
        let descriptors = descriptors.into_iter().map(|(_, descriptor)| descriptor).collect();
        let timed = Timed::new("failed", |result, taken: Duration| {
            if result == "ok" {
                metrics().guests_started.inc();
                metrics().guest_launch_duration.observe(taken.as_secs_f64());
            } else {
                metrics().guest_launch_failures.inc();
            }
        });
        let call = connection.call(request::Body::Launch(launch), descriptors, LAUNCH_DEADLINE, "a launch");
        let reply = call.instrument(tracing::debug_span!("launch")).await?;
        if matches!(reply, reply::Body::Started(_)) {
            timed.end("ok");
        }
        match reply {
            reply::Body::Started(started) => Ok(Process::from(started)),
            reply::Body::Failure(failure) => Err(HostError::Refused { message: failure.message, errno: failure.errno }),
            _ => Err(HostError::Refused { message: "the supervisor gave an answer of another kind".to_owned(), errno: 0 }),
        }
    }

    /// Every guest that has files, with what is known of it. Files of starts that were cut off are deleted.
    pub fn scan(&self) -> Result<Vec<(String, Seen)>, HostError> {
        let mut seen = Vec::new();
        for guest in self.0.guests.guests().map_err(system("listing the guests' files"))? {
            match self.0.guests.seen(&guest) {
                exit_record::Seen::Ended(record) => seen.push((guest, Seen::Ended(record))),
                exit_record::Seen::Nothing => self.forget(&guest)?,
                exit_record::Seen::Started(started, outcome) => {
                    let process = Process::from(started);
                    let state = if process.is_alive() {
                        Seen::Running(process)
                    } else {
                        // Its supervisor may be reaping it right now: then the joined record is there a moment later.
                        match self.0.guests.seen(&guest) {
                            exit_record::Seen::Ended(record) => Seen::Ended(record),
                            _ => Seen::Ended(orphans::record_of_lost(&process, outcome)),
                        }
                    };
                    seen.push((guest, state));
                }
            }
        }
        Ok(seen)
    }

    /// A guest, as its files and its process show it; `None`: there is none that lives.
    pub fn look(&self, guest: &str) -> Option<Process> {
        let exit_record::Seen::Started(started, _) = self.0.guests.seen(guest) else { return None };
        Some(Process::from(started)).filter(Process::is_alive)
    }

    /// Sends a signal; a process that has ended is no error.
    pub fn signal(&self, process: &Process, signal: i32) -> Result<(), HostError> {
        process.signal(signal).map_err(system(format!("sending signal {signal} to process {}", process.pid)))
    }

    /// Gives a running guest a new log file: every line that it writes after this call goes there. `false`: it has just ended.
    pub fn reopen_log(&self, guest: &str, log: &OwnedFd) -> Result<bool, HostError> {
        self.order(guest, guest_control::Body::ReopenLog(ReopenLog {}), &[log.as_fd()])
    }

    /// Has a running guest copy what it writes into two pipes, of which these are the writing ends. `false`: it has just ended.
    pub fn tap(&self, guest: &str, stdout: &OwnedFd, stderr: &OwnedFd) -> Result<bool, HostError> {
        self.order(guest, guest_control::Body::Tap(Tap {}), &[stdout.as_fd(), stderr.as_fd()])
    }

    /// Changes the size of a running guest's terminal. `false`: it has just ended.
    pub fn resize(&self, guest: &str, columns: u16, rows: u16) -> Result<bool, HostError> {
        self.order(guest, guest_control::Body::Resize(Resize { columns: columns.into(), rows: rows.into() }), &[])
    }

    /// Sends a message to the guest's own process.
    fn order(&self, guest: &str, body: guest_control::Body, descriptors: &[BorrowedFd<'_>]) -> Result<bool, HostError> {
        let send = || -> io::Result<()> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
            let path = self.0.config.state.join("guests").join(format!("{guest}.ctl"));
            connect(&socket, &path)?;
            protocol::send(&socket, &GuestControl { body: Some(body) }, descriptors)
        };
        match send() {
            Ok(()) => Ok(true),
            // Nobody has the socket open any more, or its file was deleted already.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(HostError::OrdersWaiting),
            Err(error) => Err(system(format!("sending a message to the process of {guest}"))(error)),
        }
    }

    /// Deletes the files of a guest that has ended and is on record elsewhere.
    pub fn forget(&self, guest: &str) -> Result<(), HostError> {
        lock(&self.0.told).remove(guest);
        self.0.guests.forget(guest).map_err(system(format!("deleting the files of {guest}")))
    }

    /// Asks the supervisor to end if it has no guests, so that a node without pods keeps no process. A busy one stays: `false`.
    pub async fn retire_if_idle(&self) -> bool {
        // It is not to be started again.
        self.0.stop.cancel();
        let Some(connection) = self.0.current.borrow().clone() else { return false };
        let request = request::Body::Shutdown(protocol::Shutdown {});
        match connection.call_last(request).await {
            Ok(reply::Body::Stopping(_)) => connection.ended().await,
            Ok(_) => false,
            Err(error) => {
                tracing::warn!(%error, "the supervisor could not be asked to end");
                false
            }
        }
    }
}

/// Puts a descriptor under the executor's watch.
#[allow(unsafe_code, reason = "tokio asks for a promise about the descriptor that its type already keeps")]
pub(crate) fn watch_descriptor(descriptor: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open and stays the same descriptor until it is dropped, which the AsyncFd that owns it does last.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Connects to a socket whose path may be longer than an address can hold.
fn connect(socket: &OwnedFd, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let directory =
        rustix::fs::open(directory, rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let short = format!("/proc/self/fd/{}/{name}", directory.as_raw_fd());
    Ok(rustix::net::connect(socket, &SocketAddrUnix::new(short)?)?)
}

fn memfd(spec: &GuestSpec) -> io::Result<OwnedFd> {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let descriptor = rustix::fs::memfd_create("guest-spec", flags)?;
    let mut file = std::fs::File::from(descriptor);
    io::Write::write_all(&mut file, &spec.encode_to_vec())?;
    Ok(file.into())
}
