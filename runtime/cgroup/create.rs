//! Making a group: its directories, and what a new directory needs before anybody can join it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::group::Cgroup;
use super::layout::{Controller, Hierarchy, Version};
use super::{CgroupError, files};

/// The controllers that a v2 parent hands down, as far as the node has them.
const HANDED_DOWN: [Controller; 5] =
    [Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Cpuset, Controller::Hugetlb];

impl Cgroup {
    pub(super) fn create(&self) -> Result<(), CgroupError> {
        let mut made = Vec::new();
        let created = self.layout.hierarchies().iter().try_for_each(|hierarchy| self.create_in(hierarchy, &mut made));
        if created.is_err() {
            // Somebody who joined or nested meanwhile keeps theirs: only empty directories go.
            for directory in made.iter().rev() {
                if let Err(error) = fs::remove_dir(directory) {
                    tracing::warn!(cgroup = %directory.display(), %error, "cannot undo the creation of a cgroup");
                }
            }
        }
        created
    }

    fn create_in(&self, hierarchy: &Hierarchy, made: &mut Vec<PathBuf>) -> Result<(), CgroupError> {
        let directory = self.path.below(&hierarchy.mount);
        make_directory(&directory, &hierarchy.mount, made)?;
        if self.layout.version() == Version::V2 {
            hand_down(&directory, hierarchy)
        } else if hierarchy.controllers.contains(&Controller::Cpuset) {
            inherit_cpuset(&directory, &hierarchy.mount)
        } else {
            Ok(())
        }
    }
}

/// Makes a directory and its parents up to the mount point, and notes those that were not there.
fn make_directory(directory: &Path, mount: &Path, made: &mut Vec<PathBuf>) -> Result<(), CgroupError> {
    if directory == mount {
        return Ok(());
    }
    match fs::create_dir(directory) {
        Ok(()) => {
            made.push(directory.to_owned());
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let Some(parent) = directory.parent().filter(|parent| parent.starts_with(mount)) else {
                return Err(CgroupError::Create { path: directory.to_owned(), source: error });
            };
            // Above the mount point there is nothing for us to make.
            if parent == mount {
                return Err(CgroupError::Create { path: directory.to_owned(), source: error });
            }
            make_directory(parent, mount, made)?;
            make_directory(directory, mount, made)
        }
        Err(source) => Err(CgroupError::Create { path: directory.to_owned(), source }),
    }
}

/// v1: a new cpuset has no processors and no memory nodes, and nobody can join it then (ENOSPC).
fn inherit_cpuset(directory: &Path, mount: &Path) -> Result<(), CgroupError> {
    if directory == mount {
        return Ok(());
    }
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let file = directory.join(name);
        if !files::read(&file)?.trim().is_empty() {
            continue;
        }
        let Some(parent) = directory.parent() else { continue };
        inherit_cpuset(parent, mount)?;
        files::write(&file, files::read(&parent.join(name))?.trim())?;
    }
    Ok(())
}

/// v2: switches our controllers on in every group above `directory`, from the root down, where they are not yet.
fn hand_down(directory: &Path, hierarchy: &Hierarchy) -> Result<(), CgroupError> {
    let available = files::read(&directory.join("cgroup.controllers"))?;
    let has = |text: &str, name: &str| text.split_whitespace().any(|word| word == name);
    let wanted: Vec<&str> =
        HANDED_DOWN.into_iter().filter(|controller| hierarchy.controllers.contains(controller)).map(Controller::name).collect();
    if wanted.iter().all(|name| has(&available, name)) {
        return Ok(());
    }
    let above: Vec<&Path> = directory.ancestors().skip(1).take_while(|ancestor| ancestor.starts_with(&hierarchy.mount)).collect();
    for ancestor in above.into_iter().rev() {
        let file = ancestor.join("cgroup.subtree_control");
        let switched_on = files::read(&file)?;
        let offered = files::read(&ancestor.join("cgroup.controllers"))?;
        for name in wanted.iter().filter(|name| has(&offered, name) && !has(&switched_on, name)) {
            // One by one: a group may refuse `cpu` (real-time processes) and still take the rest. What is refused
            // shows when a limit is set, with the file's name.
            if let Err(error) = files::write(&file, &format!("+{name}")) {
                tracing::warn!(cgroup = %ancestor.display(), controller = name, %error, "cannot hand down a controller");
            }
        }
    }
    Ok(())
}
