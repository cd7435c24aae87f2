//! Network namespaces of pods, pinned (see [`crate::pinned`]).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::pinned::{self, PinError, failed};
use crate::store::chain;
use crate::sysctl::{Sysctl, SysctlError};

/// What the names of our namespaces begin with. Together with the directory it
/// tells our attachments from those of other runtimes.
pub const PREFIX: &str = "cri-wasm-";

/// What containerd 2 gives every pod: ports below 1024 and ping without a
/// capability, which guests do not have. A pod's own sysctls come after them.
const DEFAULT_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Why a namespace could not be made, opened or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// It cannot be pinned, opened or removed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The sysctl belongs to something else than the network.
    #[error("sysctl {0:?} is not one of the network (net.*)")]
    NotANetworkSysctl(String),
    /// The kernel does not take a setting.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
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
    let settings = settings(sysctls)?;
    let path = pinned::place(dir, name)?;
    let made = pinned::on_a_thread(&path, || {
        // SAFETY: NEWNET leaves the table of descriptors shared, which is what
        // the function's contract is about, and concerns this thread alone.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
            .map_err(|errno| failed("make a network namespace for", &path)(errno.into()))?;
        set_up(&path, &settings)?;
        Ok(pinned::pin(Path::new("/proc/thread-self/ns/net"), &path)?)
    });
    if made.is_err() {
        // The first error is the one to tell.
        let _ = remove(&path);
    }
    made.map(|()| path)
}

/// As [`create`], with a namespace that was made elsewhere: a file of `/proc/…/ns/`, or a descriptor's.
///
/// # Errors
/// As of [`create`].
pub fn adopt(dir: &Path, name: &str, sysctls: &[(String, String)], namespace: &Path) -> Result<PathBuf, NetnsError> {
    let settings = settings(sysctls)?;
    let path = pinned::place(dir, name)?;
    let made = pinned::pin(namespace, &path).map_err(NetnsError::from).and_then(|()| inside(&path, || set_up(&path, &settings)));
    if made.is_err() {
        let _ = remove(&path);
    }
    made.map(|()| path)
}

/// Brings lo up and sets sysctls in the namespace of the calling thread.
fn set_up(path: &Path, settings: &[Sysctl]) -> Result<(), NetnsError> {
    bring_loopback_up().map_err(|errno| failed("bring lo up in", path)(errno.into()))?;
    set_defaults();
    write(settings)
}

/// Opens a pinned namespace.
///
/// # Errors
/// There is none at the path.
pub fn open(path: &Path) -> Result<OwnedFd, NetnsError> {
    Ok(pinned::open(path)?)
}

/// Sets sysctls in a pinned namespace.
///
/// # Errors
/// One is not of the network, or the kernel does not take it; those before it
/// are set.
pub fn set_sysctls(path: &Path, sysctls: &[(String, String)]) -> Result<(), NetnsError> {
    let settings = settings(sysctls)?;
    inside(path, || write(&settings))
}

/// Makes a TCP socket, not blocking, in a pinned namespace: there it belongs, wherever it is used.
///
/// # Errors
/// There is no namespace at the path, or no socket to be had.
pub fn tcp_socket(path: &Path, family: AddressFamily) -> Result<OwnedFd, NetnsError> {
    inside(path, || {
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
            .map_err(|errno| failed("make a socket in", path)(errno.into()).into())
    })
}

/// Runs something in a pinned namespace.
fn inside<T: Send>(path: &Path, work: impl FnOnce() -> Result<T, NetnsError> + Send) -> Result<T, NetnsError> {
    let namespace = open(path)?;
    pinned::on_a_thread(path, || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|errno| failed("enter", path)(errno.into()))?;
        work()
    })
}

/// Opens a file for reading as a thread in a pinned namespace sees it: one below `/proc/thread-self/net` stays with that
/// namespace wherever it is read, and keeps it.
///
/// # Errors
/// There is no namespace at the path, or no such file.
pub fn open_in(path: &Path, file: &Path) -> Result<OwnedFd, NetnsError> {
    inside(path, || {
        rustix::fs::open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| failed("open a file in", path)(errno.into()).into())
    })
}

/// Lets a namespace go and removes its file. What is gone is removed.
///
/// # Errors
/// The file stays.
pub fn remove(path: &Path) -> Result<(), NetnsError> {
    Ok(pinned::remove(path)?)
}

/// Whether a namespace is pinned at the path.
pub fn is_pinned(path: &Path) -> bool {
    pinned::is_pinned(path)
}

/// The defaults are a convenience: where the kernel is older than one of them,
/// or does not let us, pods run without it.
fn set_defaults() {
    for (name, value) in DEFAULT_SYSCTLS {
        if let Some(Err(error)) = Sysctl::new(name, value).map(|sysctl| sysctl.set()) {
            tracing::debug!(name, error = %chain(&error), "a default of pod networks is left out");
        }
    }
}

fn settings(sysctls: &[(String, String)]) -> Result<Vec<Sysctl>, NetnsError> {
    let setting = |(name, value): &(String, String)| {
        let sysctl = Sysctl::new(name, value).filter(|sysctl| sysctl.is_below("net"));
        sysctl.ok_or_else(|| NetnsError::NotANetworkSysctl(name.clone()))
    };
    sysctls.iter().map(setting).collect()
}

/// Writes in the namespace of the calling thread, which is the one that
/// `/proc/sys/net` shows.
fn write(settings: &[Sysctl]) -> Result<(), NetnsError> {
    Ok(settings.iter().try_for_each(Sysctl::set)?)
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
