//! The directories, cgroups and network namespaces that one test may use, and how they go.
//!
//! A place's name is in the path of everything that is made for it, so all of it can be found again: by the test, which leaves
//! nothing, and by a later run, which clears up after one that was killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::Signal;

use super::process;
use super::wait::PATIENCE;

const PREFIX: &str = "cri-wasm-test-";
/// Images and writable layers; on a filesystem that overlayfs takes for writing.
const DISK: &str = "/var/tmp";
/// tmpfs, where there is any.
const MEMORY: [&str; 2] = ["/run", "/dev/shm"];
const CGROUPS: &str = "/sys/fs/cgroup";

/// A name, and directories that carry it.
#[derive(Debug)]
pub struct Place {
    pub name: String,
    /// On disk.
    pub root: PathBuf,
    /// In memory.
    pub state: PathBuf,
    /// The test's own files, on disk.
    pub files: PathBuf,
}

impl Place {
    pub fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let name = format!("{PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let disk = Path::new(DISK).join(&name);
        let place = Place { root: disk.join("root"), files: disk.join("files"), state: memory().join(&name), name };
        for directory in [&disk, &place.root, &place.state, &place.files] {
            std::fs::create_dir(directory).expect("a directory for the test");
            // Guests with other user ids pass through on their way to their mounts.
            rustix::fs::chmod(directory, rustix::fs::Mode::from_raw_mode(0o755)).expect("the directory's mode");
        }
        place
    }

    /// The cgroup below which all of the place's are.
    pub fn cgroup(&self) -> String {
        format!("/{}", self.name)
    }

    /// A directory for the test's own use.
    pub fn directory(&self, name: &str) -> PathBuf {
        let directory = self.files.join(name);
        std::fs::create_dir_all(&directory).expect("a directory for the test");
        directory
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        clear(&self.name);
    }
}

fn memory() -> &'static Path {
    const TMPFS: i64 = 0x0102_1994;
    let is_tmpfs = |path: &Path| rustix::fs::statfs(path).is_ok_and(|found| found.f_type == TMPFS);
    MEMORY.into_iter().map(Path::new).find(|path| is_tmpfs(path)).unwrap_or(Path::new(MEMORY[0]))
}

/// Clears up after test runs that are no more.
fn sweep() {
    let mut names: Vec<String> = Vec::new();
    let places = [DISK, MEMORY[0], MEMORY[1], "/run/netns"].map(PathBuf::from);
    for directory in places.into_iter().chain(hierarchies()) {
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
        let left = process::of_place(name);
        if left.is_empty() || begin.elapsed() > PATIENCE {
            break;
        }
        left.iter().for_each(|process| process.signal(Signal::KILL));
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut mounts = mounts_of(name);
    mounts.reverse();
    for mount in mounts {
        let _ = rustix::mount::unmount(&mount, UnmountFlags::DETACH);
    }
    // A process that was just killed is in its group for a moment longer.
    loop {
        let left = cgroups_of(name);
        if left.is_empty() || begin.elapsed() > PATIENCE {
            break;
        }
        for cgroup in left.iter().rev() {
            let _ = std::fs::remove_dir(cgroup);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    if Path::new("/run/netns").join(name).exists() {
        let _ = Command::new("ip").args(["netns", "del", name]).status();
    }
    for directory in [DISK, MEMORY[0], MEMORY[1]] {
        let _ = std::fs::remove_dir_all(Path::new(directory).join(name));
    }
}

/// Mount points in the place's directories, in the order in which they were mounted.
pub fn mounts_of(name: &str) -> Vec<PathBuf> {
    let carries = |path: &Path| path.components().any(|part| part.as_os_str() == name);
    // The test's own namespace is there as long as it runs.
    process::mount_points("self").into_iter().filter(|path| carries(path) && !path.starts_with("/run/netns")).collect()
}

/// Directories of the place's cgroups in every hierarchy, each before those in it.
pub fn cgroups_of(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        let top = hierarchy.join(name);
        if top.is_dir() {
            walk(&top, &mut found);
        }
    }
    found
}

/// Where hierarchies of cgroups may be mounted: each of version 1 below the directory, that of version 2 there itself.
fn hierarchies() -> Vec<PathBuf> {
    let below = std::fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    below.chain([PathBuf::from(CGROUPS)]).collect()
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    found.push(directory.to_owned());
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        walk(&entry.path(), found);
    }
}
