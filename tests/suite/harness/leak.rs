//! What a node holds of the machine: to be the same before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::place::{Place, cgroups_of, mounts_of};
use super::process::{self, Process};

/// How long what is given back may take to be gone.
const SETTLES: Duration = Duration::from_secs(5);

/// Made when they are first needed, and kept: the table of images' names, and the directory of plugins' results.
const LASTING: [&str; 2] = ["/images/records/names.json", "/cni/results"];

/// Everything that belongs to one node, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings(BTreeMap<&'static str, BTreeSet<String>>);

impl Holdings {
    /// Looks at the whole machine.
    pub fn of(place: &Place) -> Holdings {
        let processes = process::of_place(&place.name);
        let mut held = Holdings::default();
        for process in &processes {
            // By role and not by number: a daemon may have been started again in between.
            let role = if process.role() == "host" && !is_supervisor(process, &processes) { "guest" } else { process.role() };
            held.count("process", role);
            // What a guest's process has open goes with it.
            if role == "serve" || role == "host" {
                held.add_descriptors(process);
                for path in process::mount_points(&process.pid.to_string()) {
                    if path.components().any(|part| part.as_os_str() == place.name.as_str()) && !path.starts_with("/run/netns") {
                        held.add("mount", format!("{} as {} sees it", path.display(), process.role()));
                    }
                }
            }
        }
        mounts_of(&place.name).iter().for_each(|path| held.add("mount", path.display().to_string()));
        cgroups_of(&place.name).iter().for_each(|path| held.add("cgroup", path.display().to_string()));
        held.add_files(&place.state, true);
        held.add_files(&place.root, true);
        held
    }

    /// What is there now and was not before, as `kind: what` lines.
    pub fn beyond(&self, before: &Holdings) -> Vec<String> {
        let nothing = BTreeSet::new();
        let lines = self.0.iter().flat_map(|(kind, now)| {
            let before = before.0.get(kind).unwrap_or(&nothing);
            now.difference(before).map(move |what| format!("{kind}: {what}"))
        });
        lines.collect()
    }

    fn add(&mut self, kind: &'static str, what: String) {
        self.0.entry(kind).or_default().insert(what);
    }

    /// Adds one more of what may be there many times.
    fn count(&mut self, kind: &'static str, what: &str) {
        let there = self.0.entry(kind).or_default();
        let number = (1..).find(|number| !there.contains(&format!("{what}, {number}"))).unwrap_or(0);
        there.insert(format!("{what}, {number}"));
    }

    fn add_descriptors(&mut self, process: &Process) {
        let tcp: BTreeSet<String> =
            process::tcp_sockets(process.pid).into_iter().map(|inode| format!("socket:[{inode}]")).collect();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for target in process::descriptors(process.pid) {
            let target = target.display().to_string();
            // Connections to registries stay open for a while, to be used again.
            if !tcp.contains(&target) {
                // Sockets, pipes and the like have a number that is never the same again.
                let kind = target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind).to_owned();
                *counts.entry(kind).or_default() += 1;
            }
        }
        for (target, count) in counts {
            (0..count).for_each(|_| self.count("descriptor", &format!("{} has {target}", process.role())));
        }
    }

    fn add_files(&mut self, directory: &Path, top: bool) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // A cache by what containers have in common, so it is not one container's to take along.
            if path.ends_with("root/mount-points") || path.ends_with("root/devices") {
                continue;
            }
            // A new supervisor has a new number.
            let name = path.display().to_string();
            let is_socket = name.ends_with(".sock") && name.contains("/host-");
            // The daemon's few directories are made when they are first needed; what counts is what is in them.
            if !(LASTING.iter().any(|lasting| name.ends_with(lasting)) || top && is_directory) {
                self.add("file", if is_socket { "the supervisor's socket".to_owned() } else { name });
            }
            if is_directory {
                self.add_files(&path, false);
            }
        }
    }
}

/// A supervisor's own process, not one that it has forked: those have its arguments.
pub fn is_supervisor(process: &Process, all: &[Process]) -> bool {
    process.role() == "host" && !all.iter().any(|other| other.pid == process.parent && other.role() == "host")
}

/// Fails if, once everything has settled, there is anything that was not there before.
pub fn assert_none(place: &Place, before: &Holdings) {
    let begin = Instant::now();
    loop {
        let more = Holdings::of(place).beyond(before);
        if more.is_empty() {
            return;
        }
        assert!(begin.elapsed() < SETTLES, "left behind:\n  {}", more.join("\n  "));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The supervisors of a place.
pub fn supervisors(place: &Place) -> Vec<Process> {
    let all = process::of_place(&place.name);
    all.iter().filter(|process| is_supervisor(process, &all)).cloned().collect()
}

/// Where a container's cgroup lies, hierarchy by hierarchy.
pub fn cgroups_of_container(place: &Place, container: &str) -> Vec<PathBuf> {
    let names = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(container));
    cgroups_of(&place.name).into_iter().filter(|path| names(path)).collect()
}
