//! Real groups in the node's hierarchies, each test under a name of its own and gone at its end.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// Where a group lies, in every hierarchy.
pub(super) fn directories(cgroups: &Cgroups, path: &CgroupPath) -> Vec<PathBuf> {
    let tracking = cgroups.layout.tracking().iter().map(PathBuf::as_path);
    let mounts = cgroups.layout.hierarchies().iter().map(|hierarchy| hierarchy.mount.as_path()).chain(tracking);
    mounts.map(|mount| path.below(mount)).collect()
}

/// The group of one test, with whatever is below it; killed and removed on drop.
struct Scratch {
    cgroups: Cgroups,
    path: CgroupPath,
}

impl Scratch {
    /// `None`, with a word about it, where this user cannot make groups.
    fn new(cgroups: Cgroups) -> Option<Scratch> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cri-wasm-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = CgroupPath::from_cri(&name).unwrap();
        let usable = cgroups.version() != Version::None
            && rustix::process::geteuid().is_root()
            && cgroups.layout.hierarchies().iter().all(|h| rustix::fs::access(&h.mount, rustix::fs::Access::WRITE_OK).is_ok());
        if !usable {
            assert!(std::env::var_os("CRI_WASM_REQUIRE_ALL").is_none(), "cgroups cannot be made here");
            eprintln!("skipped: cgroups cannot be made here");
            return None;
        }
        Some(Scratch { cgroups, path })
    }

    fn detected() -> Option<Scratch> {
        Scratch::new(Cgroups::detect().unwrap())
    }

    /// The v2 hierarchy alone, as if the node had no other; also one beside v1.
    fn unified() -> Option<Scratch> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let lines: Vec<&str> = mounts.lines().filter(|line| line.contains(" - cgroup2 ")).collect();
        if lines.is_empty() {
            eprintln!("skipped: no cgroup v2 is mounted here");
            return None;
        }
        let known = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
        Scratch::new(Cgroups::with_layout(Layout::from_proc(&lines.join("\n"), &known)))
    }

    fn group(&self, name: &str) -> Cgroup {
        self.cgroups.create(&self.path.join(name).unwrap()).unwrap()
    }

    fn directories(&self) -> Vec<PathBuf> {
        self.cgroups.layout.hierarchies().iter().map(|h| self.path.below(&h.mount)).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = self.cgroups.open(&self.path).kill();
        for directory in self.directories() {
            remove_all(&directory);
            assert!(!directory.exists() || std::thread::panicking(), "left behind: {}", directory.display());
        }
    }
}

fn remove_all(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            remove_all(&entry.path());
        }
    }
    let _ = super::group::remove_directory(directory);
}

/// A process that waits for ever, joined to the group by its number.
fn sleeper(group: &Cgroup) -> Child {
    let child = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    for file in group.procs_files().unwrap() {
        File::from(file).write_all(child.id().to_string().as_bytes()).unwrap();
    }
    child
}

fn value(group: &Cgroup, controller: &str, file: &str) -> String {
    let directory = group.controller_directory(controller).unwrap();
    std::fs::read_to_string(directory.join(file)).unwrap().trim().to_owned()
}

#[test]
fn detection_agrees_with_what_is_mounted() {
    let cgroups = Cgroups::detect().unwrap();
    for name in ["cpu", "memory", "pids", "cpuset", "hugetlb"] {
        let v1 = Path::new("/sys/fs/cgroup").join(name).join("cgroup.procs").exists();
        if v1 {
            assert!(!cgroups.missing().contains(&name), "{name}");
            assert_eq!(cgroups.version(), Version::V1);
        }
        assert_eq!(cgroups.missing().contains(&name), cgroups.absence(name).is_some());
    }
    assert_eq!(cgroups.absence("nonsense"), None);
}

#[test]
fn a_group_is_made_with_its_parents_joined_and_removed_twice() {
    let Some(scratch) = Scratch::detected() else { return };
    let group = scratch.group("container");
    assert!(group.exists());
    // Creating it again is no error: a daemon that was killed in between does so.
    assert!(scratch.group("container").exists());
    let mut child = sleeper(&group);
    assert_eq!(group.processes().unwrap(), [child.id() as i32]);
    let proc_cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    let joined = proc_cgroup.lines().filter(|line| line.ends_with(&group.path().to_string())).count();
    assert_eq!(joined, scratch.cgroups.layout.hierarchies().len(), "{proc_cgroup}");

    let busy = group.remove().unwrap_err();
    assert!(matches!(&busy, CgroupError::Busy { processes, .. } if processes == &[child.id() as i32]), "{busy}");
    group.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    group.remove().unwrap();
    group.remove().unwrap();
    assert!(!group.exists());
    assert!(scratch.cgroups.open(&scratch.path).exists(), "the parent stays");
}

#[test]
fn a_child_that_writes_zero_joins_itself() {
    let Some(scratch) = Scratch::detected() else { return };
    let group = scratch.group("container");
    let files = group.procs_files().unwrap();
    // The shell inherits nothing: the descriptors are close-on-exec, so it opens them through its parent's /proc.
    let mut script = String::new();
    for file in &files {
        use std::os::fd::AsRawFd;
        script += &format!("echo 0 > /proc/{}/fd/{}; ", std::process::id(), file.as_raw_fd());
    }
    let output = Command::new("sh").arg("-c").arg(script + "cat /proc/self/cgroup").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.ends_with("/container")).count(), files.len(), "{text}");
}

#[test]
fn killing_reaches_the_groups_below_and_processes_that_ignore_signals() {
    let Some(scratch) = Scratch::detected() else { return };
    let (outer, inner) = (scratch.group("pod"), scratch.group("pod2"));
    let mut children = vec![sleeper(&inner)];
    let script = "read go; trap '' TERM INT HUP; echo ready; while :; do sleep 1000 & wait; done";
    let mut stubborn = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // It joins before it makes children: those it had already would stay outside.
    for file in outer.procs_files().unwrap() {
        File::from(file).write_all(stubborn.id().to_string().as_bytes()).unwrap();
    }
    stubborn.stdin.take().unwrap().write_all(b"go\n").unwrap();
    stubborn.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
    children.push(stubborn);
    let pod = scratch.cgroups.open(&scratch.path);
    assert!(pod.processes().unwrap().len() >= 2);
    pod.kill().unwrap();
    assert_eq!(pod.processes().unwrap(), [0; 0]);
    for mut child in children {
        assert!(!child.wait().unwrap().success());
    }
}

#[test]
fn the_root_group_is_never_killed_nor_removed() {
    let cgroups = Cgroups::detect().unwrap();
    let root = cgroups.open(&CgroupPath::from_cri("/").unwrap());
    assert!(matches!(root.kill(), Err(CgroupError::Root)));
    assert!(matches!(root.remove(), Err(CgroupError::Root)));
}

#[test]
fn a_group_that_is_not_there_has_no_processes_and_is_dead() {
    let Some(scratch) = Scratch::detected() else { return };
    let group = scratch.cgroups.open(&scratch.path.join("never").unwrap());
    assert!(!group.exists());
    assert_eq!(group.processes().unwrap(), [0; 0]);
    group.kill().unwrap();
    group.remove().unwrap();
    assert!(group.oom_file().is_none());
    assert!(matches!(group.procs_files(), Err(CgroupError::Open { .. })) || group.procs_files().unwrap().is_empty());
    let error = group.apply(&Limits { memory_bytes: Some(1 << 20), ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("never") || matches!(error, CgroupError::MissingController { .. }), "{error}");
}

#[test]
fn a_failed_creation_leaves_nothing_behind() {
    let Some(scratch) = Scratch::detected() else { return };
    // A second hierarchy whose mount point cannot carry groups.
    let nowhere = "9 9 0:9 / /proc/self/cri-wasm rw - cgroup cgroup rw,hugetlb";
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| !line.contains("hugetlb")).collect::<Vec<_>>().join("\n");
    let broken = Cgroups::with_layout(Layout::from_proc(&format!("{mounts}\n{nowhere}\n"), ""));
    if broken.version() != Version::V1 {
        eprintln!("skipped: needs a node with cgroup v1");
        return;
    }
    let error = broken.create(&scratch.path.join("container").unwrap()).unwrap_err();
    assert!(matches!(error, CgroupError::Create { .. }), "{error}");
    for directory in scratch.directories() {
        assert!(!directory.exists(), "{}", directory.display());
    }
}

#[test]
fn limits_are_set_raised_and_lowered_in_any_order() {
    let Some(scratch) = Scratch::detected() else { return };
    if scratch.cgroups.version() != Version::V1 || scratch.cgroups.missing().contains(&"memory") {
        eprintln!("skipped: needs the memory controller on cgroup v1");
        return;
    }
    let group = scratch.group("container");
    let mib = |count: i64| Some(count << 20);
    let swap_counted = group.controller_directory("memory").unwrap().join("memory.memsw.limit_in_bytes").exists();
    let states = [(64, 64), (64, 64), (256, 512), (16, 32), (32, 32), (300, 300)];
    for (memory, swap) in states {
        let limits = Limits { memory_bytes: mib(memory), swap_bytes: mib(swap), ..Limits::default() };
        group.apply(&limits).unwrap();
        group.apply(&limits).unwrap();
        assert_eq!(value(&group, "memory", "memory.limit_in_bytes"), (memory << 20).to_string());
        if swap_counted {
            assert_eq!(value(&group, "memory", "memory.memsw.limit_in_bytes"), (swap << 20).to_string());
        }
    }
    // Memory alone may pass the old sum of memory and swap.
    group.apply(&Limits { memory_bytes: mib(400), ..Limits::default() }).unwrap();
    assert_eq!(value(&group, "memory", "memory.limit_in_bytes"), (400 << 20).to_string());
    group.apply(&Limits { memory_bytes: Some(-1), swap_bytes: Some(-1), ..Limits::default() }).unwrap();
    assert!(value(&group, "memory", "memory.limit_in_bytes").parse::<u64>().unwrap() > 1 << 60);
}

#[test]
fn processor_task_and_cpuset_limits_reach_the_kernel() {
    let Some(scratch) = Scratch::detected() else { return };
    if scratch.cgroups.version() != Version::V1 {
        eprintln!("skipped: needs cgroup v1");
        return;
    }
    let group = scratch.group("container");
    let limits = Limits {
        cpu_shares: Some(1),
        cpu_quota_us: Some(25_000),
        cpu_period_us: Some(50_000),
        cpuset_cpus: Some("0".to_owned()),
        cpuset_mems: Some("0".to_owned()),
        pids: Some(17),
        hugepages: vec![("2MB".to_owned(), 0), ("1GB".to_owned(), 0)],
        ..Limits::default()
    };
    group.apply(&limits).unwrap();
    group.apply(&limits).unwrap();
    assert_eq!(value(&group, "cpu", "cpu.shares"), "2");
    assert_eq!(value(&group, "cpu", "cpu.cfs_quota_us"), "25000");
    assert_eq!(value(&group, "cpu", "cpu.cfs_period_us"), "50000");
    assert_eq!(value(&group, "cpuset", "cpuset.cpus"), "0");
    assert_eq!(value(&group, "pids", "pids.max"), "17");
    group.apply(&Limits { cpu_quota_us: Some(-1), pids: Some(-1), ..Limits::default() }).unwrap();
    assert_eq!(value(&group, "cpu", "cpu.cfs_quota_us"), "-1");
    assert_eq!(value(&group, "pids", "pids.max"), "max");
    let error = group.apply(&Limits { cpuset_cpus: Some("4000".to_owned()), ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("4000"), "{error}");
}

#[test]
fn a_quota_that_only_fits_with_its_new_period_is_set() {
    let Some(scratch) = Scratch::detected() else { return };
    if scratch.cgroups.version() != Version::V1 {
        eprintln!("skipped: needs cgroup v1");
        return;
    }
    let (pod, group) = (scratch.cgroups.create(&scratch.path).unwrap(), scratch.group("container"));
    let set = |group: &Cgroup, quota, period| {
        group.apply(&Limits { cpu_quota_us: Some(quota), cpu_period_us: Some(period), ..Limits::default() }).unwrap();
        let read = |file| value(group, "cpu", file);
        assert_eq!((read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")), (quota.to_string(), period.to_string()));
    };
    set(&pod, 50_000, 100_000);
    // Half a processor each time; the smaller period with the old quota would be more than the pod has.
    set(&group, 50_000, 100_000);
    set(&group, 5_000, 10_000);
    set(&group, 50_000, 100_000);
}

#[test]
fn a_process_over_its_memory_limit_is_killed_and_counted() {
    let Some(scratch) = Scratch::detected() else { return };
    if scratch.cgroups.missing().contains(&"memory") {
        eprintln!("skipped: needs the memory controller");
        return;
    }
    let group = scratch.group("container");
    group.apply(&Limits { memory_bytes: Some(8 << 20), swap_bytes: Some(8 << 20), ..Limits::default() }).unwrap();
    assert_eq!(group.oom_kills(), Some(0));
    // `tail` keeps the only, endless, line of its input in memory.
    let mut child = Command::new("sh").args(["-c", "read go; exec tail -n 1 /dev/zero"]).stdin(Stdio::piped()).spawn().unwrap();
    for file in group.procs_files().unwrap() {
        File::from(file).write_all(child.id().to_string().as_bytes()).unwrap();
    }
    let mut oom = File::from(group.oom_file().unwrap());
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    assert_eq!(group.oom_kills(), Some(1));
    let mut text = String::new();
    oom.read_to_string(&mut text).unwrap();
    assert!(text.lines().any(|line| line == "oom_kill 1"), "{text}");
}

#[test]
fn a_limit_of_a_missing_controller_is_refused_by_name_and_a_preference_left_out() {
    let none = Cgroups::with_layout(Layout::from_proc("", "memory\t0\t1\t0\n"));
    assert_eq!(none.version(), Version::None);
    let group = none.create(&CgroupPath::from_cri("/x").unwrap()).unwrap();
    assert!(group.procs_files().unwrap().is_empty());
    let error = group.apply(&Limits { memory_bytes: Some(1), ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("`memory` (it is switched off at boot"), "{error}");
    let preferences = Limits { cpu_shares: Some(100), hugepages: vec![("2MB".to_owned(), 0)], ..Limits::default() };
    group.apply(&preferences).unwrap();
    group.kill().unwrap();
    group.remove().unwrap();
}

#[test]
fn a_v2_group_gets_the_controllers_of_its_parents_and_is_killed_at_once() {
    let Some(scratch) = Scratch::unified() else { return };
    let root_control = scratch.cgroups.layout.hierarchies()[0].mount.join("cgroup.subtree_control");
    let before = std::fs::read_to_string(&root_control).unwrap();
    let group = scratch.group("container");
    let directory = scratch.directories().remove(0).join("container");
    let controllers = std::fs::read_to_string(directory.join("cgroup.controllers")).unwrap();
    for controller in &scratch.cgroups.layout.hierarchies()[0].controllers {
        assert!(controllers.split_whitespace().any(|name| name == controller.name()), "{controllers}");
    }
    assert!(group.directory().unwrap().is_some());
    let mut child = sleeper(&group);
    assert_eq!(group.processes().unwrap(), [child.id() as i32]);
    group.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    if controllers.contains("hugetlb") {
        group.apply(&Limits { hugepages: vec![("2MB".to_owned(), 2 << 20)], ..Limits::default() }).unwrap();
        assert_eq!(value(&group, "hugetlb", "hugetlb.2MB.max"), (2 << 20).to_string());
    }
    group.remove().unwrap();
    // On a hybrid node nobody else uses v2, and its root is as it was.
    drop(scratch);
    if Cgroups::detect().unwrap().version() == Version::V1 {
        let after = std::fs::read_to_string(&root_control).unwrap();
        for controller in after.split_whitespace().filter(|name| !before.contains(name)) {
            std::fs::write(&root_control, format!("-{controller}")).unwrap();
        }
    }
}

#[test]
fn a_refused_update_leaves_every_limit_as_it_was() {
    let Some(scratch) = Scratch::detected() else { return };
    if scratch.cgroups.version() != Version::V1 {
        eprintln!("skipped: needs cgroup v1");
        return;
    }
    let group = scratch.group("container");
    let first = Limits {
        memory_bytes: Some(64 << 20),
        swap_bytes: Some(64 << 20),
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        cpu_period_us: Some(100_000),
        pids: Some(10),
        ..Limits::default()
    };
    let _ = group.update(&first).unwrap();
    let state = || {
        let files = [
            ("memory", "memory.limit_in_bytes"),
            ("cpu", "cpu.shares"),
            ("cpu", "cpu.cfs_quota_us"),
            ("cpu", "cpu.cfs_period_us"),
            ("pids", "pids.max"),
        ];
        files.map(|(controller, file)| value(&group, controller, file))
    };
    let before = state();
    let second = Limits {
        memory_bytes: Some(128 << 20),
        swap_bytes: Some(256 << 20),
        cpu_shares: Some(77),
        // Of the two only the period is accepted.
        cpu_quota_us: Some(10),
        cpu_period_us: Some(50_000),
        pids: Some(20),
        ..Limits::default()
    };
    assert!(matches!(group.update(&second), Err(CgroupError::Write { .. })));
    assert_eq!(state(), before);
    let change = group.update(&Limits { cpu_quota_us: Some(20_000), ..second }).unwrap();
    assert_ne!(state(), before);
    change.undo();
    assert_eq!(state(), before);
}

#[test]
fn a_limit_below_what_is_in_use_is_refused_with_the_number() {
    let Some(scratch) = Scratch::detected() else { return };
    if scratch.cgroups.version() != Version::V1 || scratch.cgroups.missing().contains(&"memory") {
        eprintln!("skipped: needs the memory controller on cgroup v1");
        return;
    }
    let group = scratch.group("container");
    // A shell that keeps a word of 8 MiB.
    let script = "read go; word=$(head -c 8388608 /dev/zero | tr '\\0' x); echo ready; read go; echo ${#word}";
    let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    group.add(child.id() as i32).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
    let error = group.update(&Limits { memory_bytes: Some(1 << 20), ..Limits::default() }).unwrap_err();
    assert!(matches!(&error, CgroupError::InUse { usage, .. } if *usage > 8 << 20), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Files that look like a v2 hierarchy with one group in it, `/pod/container`.
fn v2_files() -> (tempfile::TempDir, Cgroup) {
    let root = tempfile::tempdir().unwrap();
    let group = root.path().join("pod/container");
    std::fs::create_dir_all(&group).unwrap();
    let controllers = "cpuset cpu io memory hugetlb pids\n";
    for directory in [root.path(), &root.path().join("pod"), &group] {
        std::fs::write(directory.join("cgroup.controllers"), controllers).unwrap();
        std::fs::write(directory.join("cgroup.subtree_control"), controllers).unwrap();
        std::fs::write(directory.join("cgroup.procs"), "").unwrap();
    }
    for (file, text) in [
        ("memory.max", "max\n"),
        ("memory.swap.max", "max\n"),
        ("memory.oom.group", "0\n"),
        ("memory.high", "max\n"),
        ("cpu.weight", "100\n"),
        ("cpu.max", "max 100000\n"),
        ("cpu.idle", "0\n"),
        ("cpuset.cpus", "\n"),
        ("cpuset.mems", "\n"),
        ("pids.max", "max\n"),
        ("hugetlb.2MB.max", "max\n"),
        ("memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"),
    ] {
        std::fs::write(group.join(file), text).unwrap();
    }
    let mounts = format!("2 0 0:2 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
    let cgroups = Cgroups::with_layout(Layout::from_proc(&mounts, ""));
    assert_eq!(cgroups.version(), Version::V2);
    (root, cgroups.open(&CgroupPath::from_cri("/pod/container").unwrap()))
}

#[test]
fn limits_of_v2_are_set_changed_and_taken_back() {
    let (_root, group) = v2_files();
    let read = |file: &str| {
        // A value is written over the start of a file; a real one forgets the rest.
        let text = std::fs::read_to_string(group.controller_directory("memory").unwrap().join(file)).unwrap();
        text.lines().next().unwrap_or_default().to_owned()
    };
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        swap_bytes: Some(64 << 20),
        cpu_shares: Some(1024),
        cpu_quota_us: Some(150_000),
        cpu_period_us: Some(100_000),
        cpuset_cpus: Some("0-1".to_owned()),
        pids: Some(100),
        hugepages: vec![("2MB".to_owned(), 0)],
        unified: [("memory.oom.group", "1"), ("cpu.idle", "1")].map(|(file, value)| (file.to_owned(), value.to_owned())).into(),
        ..Limits::default()
    };
    let change = group.update(&limits).unwrap();
    assert_eq!(read("memory.max"), "67108864");
    assert!(read("memory.swap.max").starts_with('0'));
    assert_eq!(read("cpu.weight"), "100");
    assert_eq!(read("cpu.max"), "150000 100000");
    assert_eq!(read("cpuset.cpus"), "0-1");
    assert_eq!((read("memory.oom.group"), read("cpu.idle")), ("1".to_owned(), "1".to_owned()));
    assert_eq!(group.oom_kills(), Some(2), "the kills, and not how often memory ran out");
    change.undo();
    assert!(read("memory.max").starts_with("max"));
    assert!(read("cpu.max").starts_with("max 100000"));
    assert_eq!(read("cpuset.cpus"), "");
    assert_eq!((read("memory.oom.group"), read("cpu.idle")), ("0".to_owned(), "0".to_owned()));

    // A file that this kernel has not.
    let unknown = [("memory.zswap.max".to_owned(), "0".to_owned())].into();
    let error = group.update(&Limits { memory_bytes: Some(1 << 20), unified: unknown, ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("memory.zswap.max"), "{error}");
    assert!(read("memory.max").starts_with("max"), "{}", read("memory.max"));
}
