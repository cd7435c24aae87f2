//! What the kernel can do, mostly by trying it.

use std::io;
use std::path::Path;
use std::thread;

use rustix::fs::CWD;
use rustix::mount::{FsOpenFlags, OpenTreeFlags, fsopen, open_tree};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::Finding;

/// The oldest kernel: `mount_setattr` came with 5.12, and read-only mounts need it.
const OLDEST: (u32, u32) = (5, 12);

/// Below this, wasmtime cannot reserve a full address range for each of a guest's memories.
const WIDE_ADDRESS_BITS: u32 = 47;

pub(super) fn version() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    judge_version(&release)
}

pub(super) fn judge_version(release: &str) -> Finding {
    let name = "kernel";
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(|number| number.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => Finding::ok(name, format!("Linux {release}")),
        _ => Finding::missing(
            name,
            format!("Linux {release}"),
            "Linux 5.12 or newer is needed: older ones lack mount_setattr, and a container's read-only mounts could \
             not be made so",
        ),
    }
}

/// Unshares each kind of namespace on a thread of its own, which then ends and takes the namespace with it.
pub(super) fn namespaces() -> Finding {
    let name = "namespaces";
    let kinds = [
        ("mount", UnshareFlags::NEWNS),
        ("network", UnshareFlags::NEWNET),
        ("IPC", UnshareFlags::NEWIPC),
        ("UTS", UnshareFlags::NEWUTS),
    ];
    let refused: Vec<String> =
        kinds.into_iter().filter_map(|(kind, flags)| try_unshare(flags).err().map(|error| format!("{kind} ({error})"))).collect();
    if refused.is_empty() {
        return Finding::ok(name, "mount, network, IPC and UTS namespaces can be made");
    }
    Finding::missing(
        name,
        format!("the kernel refuses namespaces: {}", refused.join(", ")),
        "run as root outside of a restricted container; the kernel needs CONFIG_NAMESPACES, NET_NS, IPC_NS and UTS_NS",
    )
}

fn try_unshare(flags: UnshareFlags) -> io::Result<()> {
    let attempt = move || {
        // SAFETY: the flags leave the table of descriptors shared, so that no descriptor becomes invalid; the thread
        // ends right away, and the namespaces that only it is in end with it.
        unsafe { unshare_unsafe(flags) }.map_err(io::Error::from)
    };
    let thread = thread::Builder::new().name("check-namespace".to_owned()).spawn(attempt)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that tried it died")))
}

/// Whether mounts can be made apart from the tree and be moved into it later.
pub(super) fn mount_interface() -> Finding {
    let name = "detached mounts";
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let remedy = "run as root outside of a restricted container, on Linux 5.12 or newer: every container's root and \
                  mounts are made this way";
    match open_tree(CWD, "/", flags) {
        Err(error) => Finding::missing(name, format!("open_tree is refused: {error}"), remedy),
        Ok(tree) => match read_only(&tree) {
            Ok(()) => Finding::ok(name, "open_tree and mount_setattr work"),
            Err(error) => Finding::missing(name, format!("mount_setattr is refused: {error}"), remedy),
        },
    }
}

/// Makes a mount, that nobody else sees, read-only. rustix has no function for it.
fn read_only(tree: &impl std::os::fd::AsRawFd) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the descriptor is open as long as it is borrowed, the path is an empty, closed C string that
    // AT_EMPTY_PATH allows, and the structure is given with its own size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Only whether the filesystem is known; whether the root directory can carry one is a finding of its own.
pub(super) fn overlay() -> Finding {
    match fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => Finding::ok("overlayfs", "the kernel has it"),
        Err(error) => Finding::missing(
            "overlayfs",
            format!("the kernel does not offer it: {error}"),
            "modprobe overlay, or a kernel with CONFIG_OVERLAY_FS: every container's root filesystem is one",
        ),
    }
}

pub(super) fn seccomp() -> Finding {
    let name = "seccomp";
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: this operation only reads the four bytes that the pointer names, and changes nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) };
    if result == 0 {
        return Finding::ok(name, "system call filters work");
    }
    Finding::missing(
        name,
        format!("system call filters are not there: {}", io::Error::last_os_error()),
        "a kernel with CONFIG_SECCOMP_FILTER is needed: a guest's process is not started without its filter",
    )
}

/// `LANDLOCK_CREATE_RULESET_VERSION` of linux/landlock.h, for which libc has no name.
const LANDLOCK_VERSION: u32 = 1;

pub(super) fn landlock() -> Finding {
    // SAFETY: with this flag the call takes no attributes, answers a number, and changes nothing.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, LANDLOCK_VERSION) };
    if version > 0 {
        return Finding::ok("landlock", format!("ABI {version}"));
    }
    Finding::warning(
        "landlock",
        format!("not there: {}", io::Error::last_os_error()),
        "a kernel with CONFIG_SECURITY_LANDLOCK and `landlock` among its lsm= gives guests one more wall; without it \
         their mount namespace, their missing capabilities and seccomp still hold",
    )
}

/// The stack of a process lies right below the end of its address space.
pub(super) fn address_space() -> Finding {
    let maps = std::fs::read_to_string(Path::new("/proc/self/maps")).unwrap_or_default();
    judge_address_space(&maps)
}

pub(super) fn judge_address_space(maps: &str) -> Finding {
    let name = "address space";
    let stack = maps.lines().find(|line| line.ends_with("[stack]"));
    let end = stack.and_then(|line| line.split(['-', ' ']).nth(1)).and_then(|end| u64::from_str_radix(end, 16).ok());
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    match (end.map(|end| u64::BITS - end.leading_zeros()), limit) {
        (_, Some(limit)) => Finding::warning(
            name,
            format!("RLIMIT_AS bounds it to {limit} bytes"),
            "take the limit away (ulimit -v unlimited): a guest's memory is reserved, not used, at 4 GiB and more",
        ),
        (Some(bits), None) if bits >= WIDE_ADDRESS_BITS => Finding::ok(name, format!("{bits} bits")),
        (Some(bits), None) => Finding::warning(
            name,
            format!("{bits} bits"),
            "a kernel with at least 47 bits of user addresses lets guests have many memories; with this one, guests \
             with one or two memories run",
        ),
        (None, None) => Finding::warning(
            name,
            "its size cannot be read from /proc/self/maps",
            "mount /proc; guests run if the kernel has 47 bits or more, as usual on x86-64",
        ),
    }
}
