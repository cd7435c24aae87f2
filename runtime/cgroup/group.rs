//! One control group: where it is, who is in it, and its end. How it is made and how limits are set stand in
//! `create` and `apply`.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::layout::{Controller, Layout, Version};
use super::systemd::Systemd;
use super::unit::Unit;
use super::{CgroupError, CgroupPath, files, processes};

/// The pauses between tries to remove a group. The last processes of a killed guest leave it within a few
/// milliseconds; the sum, 0.6 s, bounds what a caller waits.
const REMOVE_PAUSES_MS: [u64; 8] = [1, 2, 5, 10, 32, 100, 200, 250];

/// A handle on a group, which need not exist. Cheap to clone; dropping it does nothing.
#[derive(Clone, Debug)]
pub struct Cgroup {
    pub(super) layout: Arc<Layout>,
    pub(super) path: CgroupPath,
    pub(super) systemd: Option<Systemd>,
}

impl Cgroup {
    /// The path below each hierarchy.
    pub fn path(&self) -> &CgroupPath {
        &self.path
    }

    /// Whether the group's directory stands in every hierarchy.
    pub fn exists(&self) -> bool {
        !self.layout.hierarchies().is_empty() && self.directories().all(|directory| directory.is_dir())
    }

    /// The directory in the hierarchy that carries `controller` (a name of the kernel: `cpu`, `cpuacct`, `memory`,
    /// `pids`, `cpuset`, `hugetlb`), for whoever reads counters there. `None` if the node lacks the controller.
    pub fn controller_directory(&self, controller: &str) -> Option<PathBuf> {
        let hierarchy = self.layout.hierarchy(Controller::from_name(controller)?);
        hierarchy.map(|hierarchy| self.path.below(&hierarchy.mount))
    }

    /// `cgroup.procs` of each hierarchy, open for writing: a process that writes `0` to each of them is in the group.
    ///
    /// Close-on-exec, so they can be handed to a supervisor and die with its children.
    pub fn procs_files(&self) -> Result<Vec<OwnedFd>, CgroupError> {
        let files = self.directories().chain(self.tracking()).map(|directory| directory.join("cgroup.procs"));
        files.map(|file| open(&file, OFlags::WRONLY)).collect()
    }

    /// Moves a process that is running into the group, in every hierarchy.
    pub fn add(&self, pid: i32) -> Result<(), CgroupError> {
        let value = pid.to_string();
        for directory in self.directories().chain(self.tracking()) {
            let path = directory.join("cgroup.procs");
            let written = fs::write(&path, &value);
            written.map_err(|source| CgroupError::Write { path, value: value.clone(), source })?;
        }
        Ok(())
    }

    /// The group's directory on v2, for `clone3` with `CLONE_INTO_CGROUP`; `None` on other nodes.
    pub fn directory(&self) -> Result<Option<OwnedFd>, CgroupError> {
        if self.layout.version() != Version::V2 {
            return Ok(None);
        }
        let directory = self.directories().next();
        directory.map(|directory| open(&directory, OFlags::RDONLY | OFlags::DIRECTORY)).transpose()
    }

    /// The file whose line `oom_kill N` counts the processes that the kernel killed for memory: `memory.oom_control`
    /// on v1 (since Linux 4.13), `memory.events` on v2. Reading it again needs a seek to its start.
    pub fn oom_file(&self) -> Option<OwnedFd> {
        open(&self.oom_path()?, OFlags::RDONLY).ok()
    }

    /// How many processes of this group the kernel killed for memory; `None` if nobody counts.
    pub fn oom_kills(&self) -> Option<u64> {
        let text = files::read(&self.oom_path()?).ok()?;
        let count = |line: &str| line.strip_prefix("oom_kill ").and_then(|number| number.trim().parse().ok());
        text.lines().find_map(count)
    }

    /// The processes of this group and of the groups below it, in any hierarchy, sorted. A group that is not there
    /// has none.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        processes::list(&self.directories().collect::<Vec<_>>())
    }

    /// Kills every process of this group and of the groups below it, and waits until they are gone. Blocking, at most
    /// two seconds: [`CgroupError::Survivors`] names who is still there then. A group that is not there is dead.
    pub fn kill(&self) -> Result<(), CgroupError> {
        // The root is the whole node.
        if self.path.parent().is_none() {
            return Err(CgroupError::Root);
        }
        let directories: Vec<PathBuf> = self.directories().collect();
        let survivors = processes::kill(&directories, self.layout.version() == Version::V2)?;
        if survivors.is_empty() {
            return Ok(());
        }
        Err(CgroupError::Survivors { path: self.path.to_string(), processes: survivors })
    }

    /// Removes this group from every hierarchy: its own, empty directories and nothing else; a unit of systemd's is stopped
    /// before. One that is gone is fine. Blocking: it waits up to 0.6 s for processes that are just leaving, then says [`CgroupError::Busy`].
    ///
    /// When one hierarchy refuses, the others are removed all the same and the first error is told.
    pub fn remove(&self) -> Result<(), CgroupError> {
        if self.path.parent().is_none() {
            return Err(CgroupError::Root);
        }
        // Before the directories: systemd removes those that it has made, and puts them back for a unit that it still knows.
        let mut result = self.stop_unit();
        for directory in self.directories() {
            result = result.and(remove_directory(&directory));
        }
        result
    }

    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        self.layout.hierarchies().iter().map(|hierarchy| self.path.below(&hierarchy.mount))
    }

    /// On v1 systemd finds a unit's processes in a hierarchy of its own, without controllers: who is not in there is not in the
    /// unit. Nothing for a group that is no unit.
    fn tracking(&self) -> impl Iterator<Item = PathBuf> {
        let mounts = if Unit::of(&self.path).is_some() { self.layout.tracking() } else { &[] };
        mounts.iter().map(|mount| self.path.below(mount)).filter(|directory| directory.is_dir())
    }

    fn oom_path(&self) -> Option<PathBuf> {
        let name = if self.layout.version() == Version::V1 { "memory.oom_control" } else { "memory.events" };
        Some(self.controller_directory("memory")?.join(name))
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd, CgroupError> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| CgroupError::Open { path: path.to_owned(), source: io::Error::from(errno) })
}

pub(super) fn remove_directory(directory: &Path) -> Result<(), CgroupError> {
    let mut pauses = REMOVE_PAUSES_MS.iter();
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy => match pauses.next() {
                Some(pause) => std::thread::sleep(Duration::from_millis(*pause)),
                None => {
                    let processes = processes::list(&[directory.to_owned()]).unwrap_or_default();
                    return Err(CgroupError::Busy { path: directory.to_owned(), processes });
                }
            },
            Err(source) => return Err(CgroupError::Remove { path: directory.to_owned(), source }),
        }
    }
}
