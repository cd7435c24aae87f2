//! Where everything of a run lies: two directories, a cgroup and a network namespace of one name.
//!
//! The name is in the path of all that is made, so all of it can be found again and removed: at the end, and by the next run after
//! one that was killed. The daemons run in the namespace: "the node's network" of the pods is this one, and no bridge ever touches the
//! machine's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::processes;

const PREFIX: &str = "cri-wasm-bench-";
/// Images and writable layers; on a filesystem that overlayfs takes for writing.
const DISK: &str = "/var/tmp";
/// tmpfs, where there is any.
const MEMORY: [&str; 2] = ["/run", "/dev/shm"];
const CGROUPS: &str = "/sys/fs/cgroup";
const NAMESPACES: &str = "/run/netns";

/// The directories of one run; dropping it removes them.
#[derive(Debug)]
pub struct Place {
    /// In every path of this run.
    pub name: String,
    /// On disk.
    pub disk: PathBuf,
    /// On tmpfs.
    pub memory: PathBuf,
    /// Network namespace of the daemons. `None`: iproute2 is missing, they run in the machine's own and pods get no CNI network.
    pub netns: Option<PathBuf>,
}

impl Place {
    /// Makes the directories and the network, after it has cleared up after runs that are no more.
    pub fn new() -> anyhow::Result<Self> {
        sweep();
        let name = format!("{PREFIX}{}", std::process::id());
        let mut place = Self { disk: Path::new(DISK).join(&name), memory: memory().join(&name), netns: None, name };
        for directory in [&place.disk, &place.memory] {
            std::fs::create_dir(directory).with_context(|| format!("making {}", directory.display()))?;
            rustix::fs::chmod(directory, rustix::fs::Mode::from_raw_mode(0o755))?;
        }
        let made = ip(&["netns", "add", &place.name]).and_then(|()| ip(&["-n", &place.name, "link", "set", "lo", "up"]));
        match made {
            Ok(()) => place.netns = Some(Path::new(NAMESPACES).join(&place.name)),
            Err(error) => eprintln!("bench: no network namespace of its own: {error:#}"),
        }
        Ok(place)
    }

    /// Makes a directory on disk.
    pub fn directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let directory = self.disk.join(name);
        std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        Ok(directory)
    }

    /// The head of a command line that runs a program in a network namespace.
    pub fn command(netns: Option<&Path>, program: &Path) -> Command {
        match netns {
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", namespace.display())).arg(program);
                command
            }
            None => Command::new(program),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        clear(&self.name);
    }
}

/// Runs `ip`.
pub fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("running ip (iproute2)")?;
    anyhow::ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn memory() -> &'static Path {
    const TMPFS: i64 = 0x0102_1994;
    let is_tmpfs = |path: &Path| rustix::fs::statfs(path).is_ok_and(|found| found.f_type == TMPFS);
    MEMORY.into_iter().map(Path::new).find(|path| is_tmpfs(path)).unwrap_or(Path::new("/run"))
}

/// Clears up after runs whose process is no more.
fn sweep() {
    let mut names: Vec<String> = Vec::new();
    for directory in [DISK, NAMESPACES].into_iter().chain(MEMORY) {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        names.extend(entries.filter_map(|entry| entry.file_name().into_string().ok()));
    }
    names.sort();
    names.dedup();
    for name in names {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            clear(&name);
        }
    }
}

/// Ends every process of a place and removes all that carries its name.
fn clear(name: &str) {
    let begin = Instant::now();
    loop {
        let left = processes::of_place(name);
        if left.is_empty() || begin.elapsed() > Duration::from_secs(20) {
            break;
        }
        for process in left {
            // Through a descriptor of the process, so that a number used again is never hit.
            let handle = Pid::from_raw(process.pid).and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok());
            if let Some(handle) = handle
                && processes::of_place(name).iter().any(|now| now.pid == process.pid)
            {
                let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    for mount in mounts_of(name).into_iter().rev() {
        let _ = rustix::mount::unmount(&mount, UnmountFlags::DETACH);
    }
    for cgroup in cgroups_of(name).into_iter().rev() {
        let _ = std::fs::remove_dir(cgroup);
    }
    if Path::new(NAMESPACES).join(name).exists() {
        let _ = ip(&["netns", "del", name]);
    }
    for directory in [DISK].into_iter().chain(MEMORY) {
        let _ = std::fs::remove_dir_all(Path::new(directory).join(name));
    }
    // Where every containerd's shims have their sockets, whatever its configuration says. Only goes when it is empty.
    for directory in ["/run/containerd/s", "/run/containerd"] {
        let _ = std::fs::remove_dir(directory);
    }
}

fn mounts_of(name: &str) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|path| path.components().any(|part| part.as_os_str() == name) && !path.starts_with(NAMESPACES)).collect()
}

/// Directories of the place's cgroups in every hierarchy, each before those in it.
pub fn cgroups_of(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let hierarchies = std::fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from(CGROUPS)]) {
        let top = hierarchy.join(name);
        if top.is_dir() {
            walk(&top, &mut found);
        }
    }
    found
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    found.push(directory.to_owned());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        walk(&entry.path(), found);
    }
}
