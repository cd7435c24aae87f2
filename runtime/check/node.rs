//! What the node's administrator set up: rights, directories, control groups, limits, the clock.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::inotify;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};
use rustix::process::{Resource, getrlimit};

use super::{Finding, nearest_existing};
use crate::cgroup::{Cgroups, Version};
use crate::config;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
const MEMORY_FILESYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Descriptors of the daemon at 500 pods, with room: about 20 for each.
const WANTED_OPEN_FILES: u64 = 16_384;

/// The kernel's default of 128 instances is shared by everything of one user.
const WANTED_INOTIFY_INSTANCES: u64 = 64;

/// A clock before this (the start of 2025) was never set.
const EARLIEST: Duration = Duration::from_secs(1_735_689_600);

pub(super) fn root_user() -> Finding {
    if rustix::process::geteuid().is_root() {
        return Finding::ok("root", "this process is root");
    }
    Finding::missing(
        "root",
        format!("this process is user {}", rustix::process::geteuid().as_raw()),
        "run it as root: namespaces, mounts and cgroups of pods need it; the findings below are those of this user",
    )
}

/// Puts an overlay together whose upper directory is in the root directory, and mounts it nowhere.
pub(super) fn root_directory(root: &Path) -> Finding {
    let name = "root directory";
    let base = nearest_existing(root);
    let shown = root.display();
    match try_overlay(base) {
        Ok(()) => Finding::ok(name, format!("{shown}: overlayfs can write on its filesystem")),
        Err(error) => Finding::missing(
            name,
            format!("{shown}: no overlay can be written on its filesystem: {error}"),
            "set `root` to a directory on ext4, xfs or btrfs that this user may write to; another overlay, NFS and \
             vfat do not do: the root filesystem of containers is made there",
        ),
    }
}

/// Pods with ids of their own need more of that filesystem than others.
pub(super) fn user_namespaces(root: &Path) -> Finding {
    let name = "user namespaces";
    match crate::sandbox::userns::probe(nearest_existing(root)) {
        Ok(()) => Finding::ok(name, "pods with `hostUsers: false` can run"),
        Err(reason) => Finding::warning(
            name,
            format!("pods with `hostUsers: false` cannot run: {reason}"),
            "a kernel from 5.19 on with CONFIG_USER_NS, `user.max_user_namespaces` above 0, and `root` on a filesystem \
             that can be id-mapped (ext4, xfs, btrfs); all other pods run without",
        ),
    }
}

fn try_overlay(base: &Path) -> std::io::Result<()> {
    let scratch = base.join(format!(".cri-wasm-check-{}", std::process::id()));
    fs::create_dir(&scratch)?;
    let result = overlay_in(&scratch);
    // The directory holds what was made here and nothing else; a failure to remove it would show at the next check.
    fs::remove_dir_all(&scratch)?;
    result
}

fn overlay_in(scratch: &Path) -> std::io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (option, directory) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        let directory = scratch.join(directory);
        fs::create_dir(&directory)?;
        fsconfig_set_string(&context, option, directory.as_path())?;
    }
    fsconfig_create(&context)?;
    // The kernel falls back to a read-only overlay where the upper directory does not do, and says so here.
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let flags = rustix::fs::fstatvfs(&mount)?.f_flag;
    if flags.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err(std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem));
    }
    Ok(())
}

pub(super) fn state_directory(state: &Path) -> Finding {
    let name = "state directory";
    let shown = state.display();
    let base = nearest_existing(state);
    let remedy = "mount a tmpfs on /run, or set `state` to a directory on one; without it everything works, but each \
                  change of a pod waits for the disk and wears it";
    match rustix::fs::statfs(base) {
        // The field's type differs between architectures; the magic numbers are 32 bits wide.
        Ok(status) if MEMORY_FILESYSTEMS.contains(&((status.f_type as u64) & 0xffff_ffff)) => {
            Finding::ok(name, format!("{shown} is on tmpfs"))
        }
        Ok(_) => Finding::warning(name, format!("{shown} is not on tmpfs"), remedy),
        Err(error) => Finding::warning(name, format!("{shown} cannot be looked at: {error}"), remedy),
    }
}

pub(super) fn cgroups(settings: &config::Cgroup) -> Vec<Finding> {
    let name = "cgroups";
    let mount = "mount a cgroup hierarchy (`mount -t cgroup2 none /sys/fs/cgroup`); without one, `run` works and the \
                 kubelet does not: no limit is enforced and nothing is counted";
    let cgroups = match Cgroups::detect() {
        Ok(cgroups) => cgroups,
        Err(error) => return vec![Finding::warning(name, format!("they cannot be looked at: {error}"), mount)],
    };
    let version = match cgroups.version() {
        Version::V1 => "v1",
        Version::V2 => "v2",
        Version::None => return vec![Finding::warning(name, "no hierarchy is mounted", mount)],
    };
    let missing = cgroups.missing();
    let mut findings = vec![Finding::ok(name, format!("version {version}, driver {}", settings.driver))];
    for controller in missing {
        let reason = cgroups.absence(controller).map_or("unknown", |absence| absence.reason());
        let without = match controller {
            "cpu" => "pods run without quotas and shares, and one that asks for a CPU limit is refused",
            "memory" => "pods run unbounded, and one that asks for a memory limit is refused",
            "pids" => "the number of processes of a pod is not bounded",
            "cpuset" => "pods that ask for processors of their own are refused",
            // Guests have no huge pages to ask for, so that nothing is worth a warning.
            _ => {
                let message = format!("controller {controller} is not there, and guests have no use for it");
                findings.push(Finding::ok(name, message));
                continue;
            }
        };
        let remedy = format!("boot with cgroup_enable={controller}, or mount its hierarchy; without it {without}");
        findings.push(Finding::warning(name, format!("no controller {controller}: {reason}"), remedy));
    }
    if cgroups.version() == Version::V1 && !settings.favor_fast_joins {
        findings.push(Finding::warning(
            name,
            "joining groups of version 1 is slow while `cgroup.favor_fast_joins` is off",
            "switch it on, or boot with cgroup v2; without it everything works, and each container starts about 10 ms \
             later",
        ));
    }
    findings
}

pub(super) fn open_files() -> Finding {
    let name = "open files";
    let limit = getrlimit(Resource::Nofile).maximum;
    match limit {
        Some(limit) if limit < WANTED_OPEN_FILES => Finding::warning(
            name,
            format!("at most {limit}"),
            format!(
                "raise the hard limit to {WANTED_OPEN_FILES} or more (LimitNOFILE= of the service); with {limit}, \
                 about {} pods run",
                limit / 32
            ),
        ),
        Some(limit) => Finding::ok(name, format!("at most {limit}")),
        None => Finding::ok(name, "unlimited"),
    }
}

pub(super) fn inotify() -> Finding {
    let name = "inotify";
    let read = |file: &str| {
        let text = fs::read_to_string(Path::new("/proc/sys/fs/inotify").join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let remedy = format!(
        "sysctl fs.inotify.max_user_instances={}; without it everything works, but a changed CNI configuration is \
         seen only when the daemon starts again",
        WANTED_INOTIFY_INSTANCES * 8
    );
    if let Err(error) = inotify::init(inotify::CreateFlags::CLOEXEC) {
        return Finding::warning(name, format!("no instance can be made: {error}"), remedy);
    }
    match (read("max_user_instances"), read("max_user_watches")) {
        (Some(instances), _) if instances < WANTED_INOTIFY_INSTANCES => {
            Finding::warning(name, format!("at most {instances} instances"), remedy)
        }
        (Some(instances), Some(watches)) => Finding::ok(name, format!("at most {instances} instances, {watches} watches")),
        _ => Finding::ok(name, "it works; its bounds cannot be read"),
    }
}

pub(super) fn clock() -> Finding {
    judge_clock(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn judge_clock(since_epoch: Duration) -> Finding {
    if since_epoch >= EARLIEST {
        return Finding::ok("clock", "it is set");
    }
    Finding::warning(
        "clock",
        format!("it stands at {} s after 1970", since_epoch.as_secs()),
        "set it (timedatectl set-ntp true, or a real-time clock); until then HTTPS registries are refused, because no \
         certificate is valid yet, and log lines carry wrong times",
    )
}
