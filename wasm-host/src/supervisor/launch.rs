//! From a launch message to a process that runs a guest.
//!
//! ```text
//!  supervisor                                   child
//!  outcome file, control socket
//!  fork ─────────────────────────────────────▶  close what is not its own, decode the specification, enter the jail
//!  write <guest>.run                                  │ (at the same time)
//!  go ────────────────────────────────────────▶ wait for it: no guest code runs before its record is written
//!  ◀──────────────────────────── ready or failure     load, link, instantiate
//!  Started or Failure to the daemon             run
//! ```

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use prost::Message;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags};

use super::guests::{Guest, OomEvents};
use super::{Source, Supervisor, init, title};
use crate::exit_record::{is_valid_name, start_ticks};
use crate::guest::{self, GuestIo};
use crate::jail::{self, Descriptors, keep_only};
use crate::protocol::{self, CodeKind, Failure, GuestSpec, Launch, PidNamespace, Reply, Started, reply};

/// Status of a child that could not become a guest. Its report, sent before, says why; no one reads the number.
const NOT_STARTED: i32 = 128;

fn failure(step: impl std::fmt::Display, error: &io::Error) -> Failure {
    Failure { message: format!("{step}: {error}"), errno: error.raw_os_error().unwrap_or(0) }
}

impl Supervisor {
    /// Forks. The answer to the daemon follows when the guest has reported.
    pub(super) fn launch(
        &mut self,
        connection: u64,
        request: u64,
        launch: &Launch,
        arrived: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let name = launch.guest.as_str();
        if !is_valid_name(name) {
            return Err(Failure { message: format!("{name:?} is no name for a guest"), errno: 0 });
        }
        if self.guests.values().any(|guest| guest.name == name) {
            return Err(Failure {
                message: format!("guest {name} runs already"),
                errno: rustix::io::Errno::EXIST.raw_os_error(),
            });
        }
        let descriptors = Descriptors::sort(launch, arrived).map_err(|error| Failure { message: error.to_string(), errno: 0 })?;
        let started = self.start(name, launch.pid_namespace(), descriptors).inspect_err(|_| {
            // Whatever was made of the guest's files; what cannot be deleted now is found by the daemon's next scan.
            let _ = self.directory.forget(name);
        })?;
        let key = self.key();
        self.guests.insert(key, Guest { reply_to: Some((connection, request)), ..started });
        for source in [Source::Ready(key), Source::End(key)] {
            if let Err(error) = self.watch(source) {
                // Without a watch its end would not be seen: it must not live.
                if let Some(guest) = self.guests.remove(&key) {
                    guest.kill();
                }
                self.unwatch(|source| !matches!(source, Source::Ready(guest) | Source::End(guest) if guest == key));
                return Err(failure("watching the guest's process", &error));
            }
        }
        Ok(())
    }

    fn start(&self, name: &str, pids: PidNamespace, mut descriptors: Descriptors) -> Result<Guest, Failure> {
        let outcome = self.directory.create_outcome(name).map_err(|error| failure("making the outcome file", &error))?;
        let control = control_socket(name).map_err(|error| failure("making the control socket", &error))?;
        let flags = SocketFlags::CLOEXEC;
        let (report, report_end) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|error| failure("making a socket pair", &error.into()))?;
        let oom_events = descriptors.oom_events.take().map(OomEvents::new).transpose();
        let oom_events = oom_events.map_err(|error| failure("looking at the cgroup's OOM events", &error))?;
        let pid_target = descriptors.pid_target.take();
        let pid_target = descriptors.places.target.as_ref().or(pid_target.as_ref()).map(|target| target.try_clone());
        let pid_target = pid_target.transpose().map_err(|error| failure("copying a descriptor", &error))?;
        let child = Child { descriptors, outcome, control, report: report_end };
        let pid = self.pids.fork(pids, pid_target, || self.fork(child)).map_err(|error| failure("forking", &error))?;
        let process = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| failure("opening the guest's process", &error.into()))?;
        let started = Started {
            pid: pid.as_raw_nonzero().get(),
            start_ticks: Self::start_ticks(pid).unwrap_or(0),
            started_at: protocol::now(),
        };
        let guest = Guest { name: name.to_owned(), process, started, report: Some(report), reply_to: None, oom_events };
        let go = || -> io::Result<()> {
            self.directory.write_started(name, &started)?;
            let Some(report) = &guest.report else { return Ok(()) };
            protocol::send(report, &Started::default_go(), &[])
        };
        if let Err(error) = go() {
            guest.kill();
            return Err(failure("recording the guest's process", &error));
        }
        Ok(guest)
    }

    #[allow(unsafe_code, reason = "fork and _exit")]
    fn fork(&self, child: Child) -> io::Result<Pid> {
        // SAFETY: this process has one thread, so the child's copy of memory is consistent and it may do anything.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let status = catch_unwind(AssertUnwindSafe(|| child.run(self))).unwrap_or(NOT_STARTED);
                // SAFETY: leaves without running destructors or exit handlers of the supervisor's copied state.
                unsafe { libc::_exit(status) }
            }
            pid => Pid::from_raw(pid).ok_or_else(|| io::ErrorKind::NotFound.into()),
        }
    }

    /// Field 22 of `/proc/PID/stat`.
    fn start_ticks(pid: Pid) -> Option<u64> {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut stat = [0; 1024];
        let length = rustix::io::read(&file, &mut stat).ok()?;
        start_ticks(std::str::from_utf8(stat.get(..length)?).ok()?)
    }
}

/// A datagram socket named after the guest, in the current directory.
fn control_socket(name: &str) -> io::Result<OwnedFd> {
    let path = format!("{name}.ctl");
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path.as_str())?)?;
    // Only root may speak to it. The daemon is; what runs as the guest's own user is not.
    rustix::fs::chmod(path.as_str(), Mode::from_raw_mode(0o600))?;
    Ok(socket)
}

/// What the forked process starts with.
struct Child {
    descriptors: Descriptors,
    outcome: OwnedFd,
    control: OwnedFd,
    report: OwnedFd,
}

impl Child {
    fn run(self, supervisor: &Supervisor) -> i32 {
        let own = [&self.outcome, &self.control, &self.report, &supervisor.null].map(AsRawFd::as_raw_fd);
        keep_only(self.descriptors.numbers().chain(own));
        let report = self.report;
        let tell = |body: reply::Body| {
            // The supervisor that is gone needs no report; the guest runs on without it.
            let _ = protocol::send(&report, &Reply { id: 0, body: Some(body) }, &[]);
        };
        let refuse = |message: String, errno: i32| {
            tell(reply::Body::Failure(Failure { message, errno }));
            NOT_STARTED
        };
        let spec = match read_spec(self.descriptors.spec) {
            Ok(spec) => spec,
            Err(error) => return refuse(format!("reading the specification: {error}"), 0),
        };
        if let Err(error) = jail::join(&self.descriptors.places.cgroups) {
            return refuse(chain(&error), error.errno());
        }
        if spec.procfs {
            // While /proc is still the one in which this process finds itself.
            title::set(&spec.args);
        }
        if spec.kind() == CodeKind::Init {
            return match init::enter(&spec, &supervisor.null, &supervisor.filter) {
                Ok(()) if may_go(&report) => {
                    tell(reply::Body::Started(Started::default()));
                    init::wait_for_ever()
                }
                Ok(()) => NOT_STARTED,
                Err(error) => refuse(chain(&error), error.errno()),
            };
        }
        // Before the jail: wasmtime opens a component's code by its path in /proc.
        let Some(code) = self.descriptors.code else { return refuse("no compiled code came along".to_owned(), 0) };
        // One that is tuned has an engine of its own, which writes into the container's files, so it comes after the jail.
        let tuned = guest::is_tuned(&spec);
        let (code, later) = if tuned { (None, Some(code)) } else { (Some(code), None) };
        let code = match code.map(|code| guest::load(supervisor.prepared.engine(), &spec, code)).transpose() {
            Ok(code) => code,
            Err(error) => return refuse(chain(&error), 0),
        };
        // What runs in the jail must not write to the supervisor's log.
        if rustix::stdio::dup2_stdout(&supervisor.null).and_then(|()| rustix::stdio::dup2_stderr(&supervisor.null)).is_err() {
            return refuse("closing the supervisor's output".to_owned(), 0);
        }
        if let Some(terminal) = &self.descriptors.terminal
            && let Err(error) = jail::control(terminal)
        {
            return refuse(chain(&error), error.errno());
        }
        if let Err(error) = jail::enter(&spec, self.descriptors.places, &supervisor.filter) {
            return refuse(chain(&error), error.errno());
        }
        let (own, code) = match (code, later.map(|code| guest::load_tuned(&spec, code)).transpose()) {
            (Some(code), _) => (None, code),
            (None, Ok(Some(tuned))) => tuned,
            (None, Ok(None)) => return refuse("no compiled code came along".to_owned(), 0),
            (None, Err(error)) => return refuse(chain(&error), 0),
        };
        // Nothing of the guest runs before its process is on record.
        if !may_go(&report) {
            return NOT_STARTED;
        }
        let io = GuestIo {
            log: self.descriptors.log,
            control: Some(self.control),
            stdin: self.descriptors.stdin,
            stdout: self.descriptors.stdout,
            stderr: self.descriptors.stderr,
            terminal: self.descriptors.terminal,
            master: self.descriptors.master,
            outcome: self.outcome,
        };
        guest::run(own.as_ref().unwrap_or(&supervisor.prepared), &spec, code, io, || {
            tell(reply::Body::Started(Started::default()))
        })
    }
}

/// Waits until the supervisor has recorded the process. `false`: it has gone.
fn may_go(report: &OwnedFd) -> bool {
    matches!(protocol::receive::<Started>(report.as_fd()), Ok(Some(_)))
}

/// An error with what caused it, for an operator.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(error.source(), |error| error.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn read_spec(descriptor: OwnedFd) -> io::Result<GuestSpec> {
    let mut file = std::fs::File::from(descriptor);
    io::Seek::rewind(&mut file)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    GuestSpec::decode(bytes.as_slice()).map_err(io::Error::other)
}

impl Started {
    /// The word that lets a child go on. It must not be empty: an empty datagram reads like a peer that has gone.
    fn default_go() -> Self {
        Self { pid: 1, ..Self::default() }
    }
}
