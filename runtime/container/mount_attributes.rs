//! Attributes of detached mounts: read-only, propagation, id-mapping.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::AtFlags;

/// What is set; the default sets nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes<'a> {
    /// `MOUNT_ATTR_…`.
    pub set: u64,
    /// `MS_PRIVATE` or its like; 0: as it is.
    pub propagation: libc::c_ulong,
    /// Ids on the disk are those of this user namespace.
    pub id_mapped: Option<&'a OwnedFd>,
    /// Also for what is mounted below.
    pub recursive: bool,
}

/// `mount_setattr(2)`, which rustix has not.
///
/// # Errors
/// The kernel's; EINVAL where a file system cannot be id-mapped.
#[allow(unsafe_code, reason = "rustix has no mount_setattr")]
pub fn set(tree: &OwnedFd, attributes: Attributes<'_>) -> io::Result<()> {
    let id_map = if attributes.id_mapped.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
    let userns = attributes.id_mapped.and_then(|namespace| u64::try_from(namespace.as_raw_fd()).ok()).unwrap_or_default();
    let wanted = libc::mount_attr {
        attr_set: attributes.set | id_map,
        attr_clr: 0,
        propagation: attributes.propagation,
        userns_fd: userns,
    };
    let flags = AtFlags::EMPTY_PATH.bits() | if attributes.recursive { libc::AT_RECURSIVE.unsigned_abs() } else { 0 };
    let empty = CString::default();
    // SAFETY: the path is NUL-terminated, and the kernel reads no more of the structure than the size that is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            empty.as_ptr(),
            flags,
            std::ptr::from_ref(&wanted),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Maps the ids of a whole tree; or, where something that is mounted below cannot be mapped, of its topmost mount.
///
/// # Errors
/// That one cannot be mapped, either: its file system does not do it (`FS_ALLOW_IDMAP`), or it is mapped already.
pub fn map_ids(tree: &OwnedFd, namespace: &OwnedFd) -> io::Result<()> {
    let attributes = Attributes { id_mapped: Some(namespace), recursive: true, ..Attributes::default() };
    match set(tree, attributes) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let failed = |error: io::Error| io::Error::new(error.kind(), format!("its file system cannot be id-mapped: {error}"));
            set(tree, Attributes { recursive: false, ..attributes }).map_err(failed)
        }
        done => done,
    }
}
