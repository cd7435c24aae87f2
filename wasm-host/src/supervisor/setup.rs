//! From a command the daemon ran to a detached supervisor that listens.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::kernel_log::KernelLog;
use super::pids::Pids;
use super::{Options, Supervisor, SupervisorError, system};
use crate::engine;
use crate::exit_record::Directory;
use crate::guest::Prepared;
use crate::jail::{self, Filter};

/// Leaves the daemon's session and process group, so that nothing that ends the daemon ends the supervisor with it.
///
/// `None` in the caller: the supervisor is ready, or has said on stderr why not. `Some` in the supervisor.
#[allow(unsafe_code, reason = "fork and _exit")]
pub(super) fn detach() -> Result<Option<OwnedFd>, SupervisorError> {
    let (read, write) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| system("making a pipe")(error.into()))?;
    // SAFETY: the process has one thread, nothing holds a lock.
    match unsafe { libc::fork() } {
        -1 => Err(system("forking the supervisor")(std::io::Error::last_os_error())),
        0 => {
            drop(read);
            rustix::process::setsid().map_err(|error| system("leaving the session")(error.into()))?;
            rustix::process::umask(Mode::from_raw_mode(0o022));
            Ok(Some(write))
        }
        _ => {
            drop(write);
            let mut word = String::new();
            std::fs::File::from(read).read_to_string(&mut word).map_err(system("waiting for the supervisor"))?;
            if word == READY {
                return Ok(None);
            }
            Err(system("starting the supervisor")(std::io::Error::other("it ended before it was ready")))
        }
    }
}

const READY: &str = "ready";

/// Tells the waiting caller, and lets go of its standard output.
pub(super) fn announce(ready: OwnedFd) -> Result<(), SupervisorError> {
    rustix::io::write(&ready, READY.as_bytes()).map_err(|error| system("reporting readiness")(error.into()))?;
    rustix::stdio::dup2_stdout(std::io::stderr()).map_err(|error| system("letting go of standard output")(error.into()))
}

/// Everything that needs the host's file tree or may fail, before the first guest.
pub(super) fn prepare(options: &Options) -> Result<Supervisor, SupervisorError> {
    let failed = |step: &'static str| move |error: rustix::io::Errno| system(step)(error.into());
    std::fs::create_dir_all(&options.guests).map_err(system("making the guests' directory"))?;
    let prepared = Prepared::new(engine::new()?)?;
    let fingerprint = engine::fingerprint(prepared.engine(), &engine::service()?);
    let null =
        rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed("opening /dev/null"))?;
    let filter = Filter::compile()?;
    let kernel_log = KernelLog::open();
    let listener = listen(&options.socket)?;
    let state = options.guests.parent().unwrap_or(Path::new("/"));
    let build = crate::protocol::build();
    let pids = Pids::open().map_err(system("opening the PID namespace"))?;
    jail::private_root(state, &options.guests)?;
    // Sockets are bound by path, and a path relative to here is short whatever the state directory is called.
    rustix::process::chdir(jail::GUESTS).map_err(failed("entering the guests' directory"))?;
    let directory = Directory::open(jail::GUESTS).map_err(system("opening the guests' directory"))?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed("making an epoll"))?;
    Ok(Supervisor {
        prepared,
        null,
        filter,
        pids,
        directory,
        listener,
        epoll,
        sources: HashMap::new(),
        connections: HashMap::new(),
        guests: HashMap::new(),
        next_key: 0,
        kernel_log,
        fingerprint,
        build,
        stopping: false,
    })
}

fn listen(path: &Path) -> Result<OwnedFd, SupervisorError> {
    let failed = |step: &'static str| move |error: rustix::io::Errno| system(step)(error.into());
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(failed("making the socket"))?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(system("removing the old socket")(error)),
        _ => {}
    }
    // Bound through its directory: a state directory may have a longer path than a socket's address can hold.
    let (directory, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
    rustix::process::chdir(directory).map_err(failed("entering the socket's directory"))?;
    let address = SocketAddrUnix::new(name).map_err(failed("naming the socket"))?;
    rustix::net::bind(socket.as_fd(), &address).map_err(failed("binding the socket"))?;
    rustix::fs::chmod(name, Mode::from_raw_mode(0o600)).map_err(failed("protecting the socket"))?;
    rustix::net::listen(socket.as_fd(), 16).map_err(failed("listening"))?;
    Ok(socket)
}
