//! User, groups, capabilities and resource limits of a guest process.

use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::JailError;
use crate::protocol::GuestSpec;

/// RLIMIT_NOFILE where the specification has none: what most distributions give a service.
const DEFAULT_OPEN_FILES: u64 = 1024 * 1024;

/// Resource limits, and the score by which the kernel chooses a victim when memory runs out.
pub(super) fn limit(spec: &GuestSpec) -> Result<(), JailError> {
    let failed = |step: &'static str| move |error: rustix::io::Errno| JailError::new(step, error);
    // A dump would hold the memory of a guest of one tenant and land in a directory of the host.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(failed("forbidding core dumps"))?;
    let wanted = if spec.max_open_files == 0 { DEFAULT_OPEN_FILES } else { spec.max_open_files };
    // Raising the hard limit takes a capability that the daemon itself may lack: then what is there must do.
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(wanted);
    let files = Rlimit { current: Some(hard), maximum: Some(hard) };
    rustix::process::setrlimit(Resource::Nofile, files).map_err(failed("limiting open files"))
}

/// Becomes the container's user and gives up every capability but the one that binds low ports on the host's network.
///
/// A guest of user 0 owns root's files and no more: it has none of root's powers over files of others. The bounding set is what the
/// pod asks for, to be seen and without effect: nothing in it can ever be gained, as the process never executes a program and has
/// `no_new_privs`.
pub(super) fn drop_all(spec: &GuestSpec) -> Result<(), JailError> {
    let failed = |step: &'static str| move |error: rustix::io::Errno| JailError::new(step, error);
    let bindable = if spec.host_network && spec.uid == 0 && !spec.no_low_ports {
        CapabilitySet::NET_BIND_SERVICE
    } else {
        CapabilitySet::empty()
    };
    let bounding = CapabilitySet::from_bits_truncate(spec.capability_bounding) | bindable;

    let groups: Vec<Gid> = spec.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(failed("setting the supplemental groups"))?;
    let gid = Gid::from_raw(spec.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed("setting the group"))?;
    // The bounding set goes while the capability to shrink it is still held, that is before the user changes.
    for number in 0..64u32 {
        let Some(capability) = CapabilitySet::from_bits(1 << number) else { continue };
        if capability.bits().count_ones() != 1 || bounding.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(JailError::new("shrinking the capability bounding set", error)),
        }
    }
    let uid = Uid::from_raw(spec.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed("setting the user"))?;
    let sets = CapabilitySets { effective: bindable, permitted: bindable, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(failed("dropping capabilities"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("setting no_new_privs"))
}
