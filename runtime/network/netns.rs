//! Network namespaces of pods, each held by a bind mount on a file.
//!
//! The mount keeps the namespace while no process is in it, and a daemon that
//! starts again finds it by its path. A namespace is made by a thread that ends
//! right afterwards: a thread of the async runtime must never leave the node's.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Mode, OFlags, statfs};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// What the names of our namespaces begin with. Together with the directory it
/// tells our attachments from those of other runtimes.
pub const PREFIX: &str = "cri-wasm-";

/// `f_type` of the kernel's namespace files (linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// What containerd 2 gives every pod: ports below 1024 and ping without a
/// capability, which guests do not have. A pod's own sysctls come after them.
const DEFAULT_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Why a namespace could not be made, opened or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The name is not the name of a file.
    #[error("{0:?} cannot be the name of a network namespace")]
    BadName(String),
    /// A namespace of this name is there already.
    #[error("network namespace {0} exists")]
    Exists(PathBuf),
    /// Nothing, or something else, is at the path.
    #[error("{0} is not a network namespace")]
    NotPinned(PathBuf),
    /// The sysctl belongs to something else than the network.
    #[error("sysctl {0:?} is not one of the network (net.*)")]
    NotANetworkSysctl(String),
    /// The kernel does not take the sysctl.
    #[error("cannot set sysctl {name} to {value:?}")]
    Sysctl {
        /// Its name.
        name: String,
        /// The value.
        value: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Another step failed.
    #[error("cannot {step} {path}")]
    Step {
        /// What was to be done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// The name of a sandbox's namespace.
pub fn name(sandbox_id: &str) -> String {
    format!("{PREFIX}{sandbox_id}")
}

/// Makes a namespace with its loopback interface up and its sysctls set, and
/// pins it at `dir/name`. It blocks for about a millisecond. Sysctls of
/// interfaces that come later (`net.ipv4.conf.eth0.…`) are for [`set_sysctls`].
///
/// # Errors
/// A step failed; then nothing is left behind. A namespace of that name exists.
pub fn create(dir: &Path, name: &str, sysctls: &[(String, String)]) -> Result<PathBuf, NetnsError> {
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(NetnsError::BadName(name.to_owned()));
    }
    let sysctl_files = sysctl_files(sysctls)?;
    let path = dir.join(name);
    let failed = |step, path: &Path, source: io::Error| NetnsError::Step { step, path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(|source| failed("make directory", dir, source))?;
    if is_pinned(&path) {
        return Err(NetnsError::Exists(path));
    }
    // What is not pinned is the empty file that a reboot has left, or that a
    // daemon which was killed in between has.
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(failed("replace", &path, source)),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(&path)
        .map_err(|source| failed("make file", &path, source))?;
    let made = on_a_thread(&path, || {
        // SAFETY: NEWNET leaves the table of descriptors shared, which is what
        // the function's contract is about, and concerns this thread alone.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
            .map_err(|errno| failed("make a network namespace for", &path, errno.into()))?;
        bring_loopback_up().map_err(|errno| failed("bring lo up in", &path, errno.into()))?;
        set_defaults()?;
        write_sysctls(&sysctl_files)?;
        mount_bind("/proc/thread-self/ns/net", &path).map_err(|errno| failed("pin a network namespace at", &path, errno.into()))
    });
    if made.is_err() {
        // The first error is the one to tell.
        let _ = remove(&path);
    }
    made.map(|()| path)
}

/// Opens a pinned namespace.
///
/// # Errors
/// There is none at the path.
pub fn open(path: &Path) -> Result<OwnedFd, NetnsError> {
    if !is_pinned(path) {
        return Err(NetnsError::NotPinned(path.to_owned()));
    }
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| NetnsError::Step {
        step: "open",
        path: path.to_owned(),
        source: errno.into(),
    })
}

/// Sets sysctls in a pinned namespace.
///
/// # Errors
/// One is not of the network, or the kernel does not take it; those before it
/// are set.
pub fn set_sysctls(path: &Path, sysctls: &[(String, String)]) -> Result<(), NetnsError> {
    let files = sysctl_files(sysctls)?;
    let namespace = open(path)?;
    on_a_thread(path, || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|errno| NetnsError::Step {
            step: "enter",
            path: path.to_owned(),
            source: errno.into(),
        })?;
        write_sysctls(&files)
    })
}

/// Makes a TCP socket, not blocking, in a pinned namespace: there it belongs, wherever it is used.
///
/// # Errors
/// There is no namespace at the path, or no socket to be had.
pub fn tcp_socket(path: &Path, family: AddressFamily) -> Result<OwnedFd, NetnsError> {
    let namespace = open(path)?;
    on_a_thread(path, || {
        let failed = |errno: Errno| NetnsError::Step { step: "make a socket in", path: path.to_owned(), source: errno.into() };
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(failed)?;
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None).map_err(failed)
    })
}

/// Opens a file for reading as a thread in a pinned namespace sees it: one below `/proc/thread-self/net` stays with that
/// namespace wherever it is read, and keeps it.
///
/// # Errors
/// There is no namespace at the path, or no such file.
pub fn open_in(path: &Path, file: &Path) -> Result<OwnedFd, NetnsError> {
    let namespace = open(path)?;
    on_a_thread(path, || {
        let failed = |errno: Errno| NetnsError::Step { step: "open a file in", path: path.to_owned(), source: errno.into() };
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(failed)?;
        rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)
    })
}

/// Lets a namespace go and removes its file. What is gone is removed.
///
/// # Errors
/// The file stays.
pub fn remove(path: &Path) -> Result<(), NetnsError> {
    let failed = |step, source: io::Error| NetnsError::Step { step, path: path.to_owned(), source };
    loop {
        match unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // One may lie above another.
            Ok(()) => {}
            // Not a mount point, or not there.
            Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => break,
            Err(errno) => return Err(failed("unmount", errno.into())),
        }
    }
    match fs::remove_file(path) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Err(failed("remove", error))
        }
        _ => Ok(()),
    }
}

/// Whether a namespace is pinned at the path.
pub fn is_pinned(path: &Path) -> bool {
    // The field's type differs between architectures.
    statfs(path).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|magic| magic == NSFS_MAGIC))
}

/// Runs something on a thread that ends with it, and takes the namespace that it
/// has entered along.
fn on_a_thread<T: Send>(path: &Path, work: impl FnOnce() -> Result<T, NetnsError> + Send) -> Result<T, NetnsError> {
    let failed = |text: &str| NetnsError::Step {
        step: "run a thread for",
        path: path.to_owned(),
        source: io::Error::other(text.to_owned()),
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work);
        let thread = thread.map_err(|error| failed(&error.to_string()))?;
        thread.join().map_err(|_| failed("the thread panicked"))?
    })
}

/// The defaults are a convenience: where the kernel is older than one of them,
/// or does not let us, pods run without it.
fn set_defaults() -> Result<(), NetnsError> {
    for (name, value) in DEFAULT_SYSCTLS {
        let files = sysctl_files(&[(name.to_owned(), value.to_owned())])?;
        if let Err(error) = write_sysctls(&files) {
            tracing::debug!(%error, "a default of pod networks is left out");
        }
    }
    Ok(())
}

struct SysctlFile {
    name: String,
    value: String,
    path: PathBuf,
}

/// Where sysctls are found: `net.ipv4.conf.eth0/1.forwarding` and
/// `net/ipv4/conf/eth0.1/forwarding` are the same, as in sysctl(8): the first
/// separator decides, and the other one stands for itself.
fn sysctl_files(sysctls: &[(String, String)]) -> Result<Vec<SysctlFile>, NetnsError> {
    let file = |(name, value): &(String, String)| {
        let dotted = name.find(['.', '/']).is_some_and(|at| name.get(at..=at) == Some("."));
        let relative: String = if dotted {
            let swap = |character| match character {
                '.' => '/',
                '/' => '.',
                other => other,
            };
            name.chars().map(swap).collect()
        } else {
            name.clone()
        };
        let strange = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
        if !relative.starts_with("net/") || relative.split('/').any(strange) {
            return Err(NetnsError::NotANetworkSysctl(name.clone()));
        }
        Ok(SysctlFile { name: name.clone(), value: value.clone(), path: Path::new("/proc/sys").join(relative) })
    };
    sysctls.iter().map(file).collect()
}

/// Writes in the namespace of the calling thread, which is the one that
/// `/proc/sys/net` shows.
fn write_sysctls(files: &[SysctlFile]) -> Result<(), NetnsError> {
    for SysctlFile { name, value, path } in files {
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(|source| NetnsError::Sysctl { name: name.clone(), value: value.clone(), source })?;
    }
    Ok(())
}

/// Sends one `RTM_NEWLINK` (rtnetlink(7)) and reads the kernel's answer.
fn bring_loopback_up() -> rustix::io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const NLMSG_ERROR: u16 = 2;
    const IFF_UP: u32 = 1;
    // The kernel makes lo with every namespace, as its first interface.
    const LOOPBACK_INDEX: i32 = 1;

    let mut request = Vec::with_capacity(32);
    request.extend(32_u32.to_ne_bytes());
    request.extend(RTM_NEWLINK.to_ne_bytes());
    request.extend(NLM_F_REQUEST_ACK.to_ne_bytes());
    request.extend(1_u32.to_ne_bytes()); // sequence
    request.extend(0_u32.to_ne_bytes()); // port: the kernel's
    request.extend([0; 4]); // family, padding, type: any
    request.extend(LOOPBACK_INDEX.to_ne_bytes());
    request.extend(IFF_UP.to_ne_bytes()); // flags
    request.extend(IFF_UP.to_ne_bytes()); // which of them are meant

    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0_u8; 256];
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let field = |range: std::ops::Range<usize>| answer.get(..length).and_then(|answer| answer.get(range));
    let kind = field(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = field(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(Errno::from_raw_os_error(code.saturating_neg())),
        _ => Err(Errno::PROTO),
    }
}
