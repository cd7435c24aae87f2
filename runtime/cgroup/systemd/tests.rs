//! Orders to a manager on a real bus, whose units are real groups.

use super::mock::Mock;
use super::*;
use crate::cgroup::{CgroupError, Cgroups, unit};

/// A bus, a manager and groups under a slice of this test's own; `None` after the test was skipped.
fn node(name: &str) -> Option<(tempfile::TempDir, Mock, Cgroups, String)> {
    let directory = tempfile::tempdir().unwrap();
    let cgroups = Cgroups::detect().unwrap();
    let usable = cgroups.version() == Version::V1 && rustix::process::geteuid().is_root();
    let mock = if usable { Mock::start(directory.path()) } else { None };
    let Some(mock) = mock else {
        assert!(std::env::var_os("CRI_WASM_REQUIRE_ALL").is_none(), "needs root, cgroup v1 and dbus-daemon");
        eprintln!("skipped: needs root, cgroup v1 and dbus-daemon");
        return None;
    };
    // It is called with an argument that means nothing to it, and reads its input to the end.
    let holder = directory.path().join("holder");
    std::fs::write(&holder, "#!/bin/sh\nexec cat\n").unwrap();
    rustix::fs::chmod(&holder, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    let cgroups = cgroups.with_systemd(Systemd::at(&mock.address, holder));
    Some((directory, mock, cgroups, format!("criwasmtest{}{name}.slice", std::process::id())))
}

fn limits() -> Limits {
    Limits {
        memory_bytes: Some(64 << 20),
        swap_bytes: Some(64 << 20),
        cpu_shares: Some(512),
        cpu_quota_us: Some(25_300),
        cpu_period_us: Some(100_000),
        cpuset_cpus: Some("0".to_owned()),
        ..Limits::default()
    }
}

#[test]
fn a_scope_is_kept_for_its_guest_limited_changed_and_stopped() {
    let Some((_directory, mock, cgroups, slice)) = node("a") else { return };
    let parent = unit::slice_path(&slice).unwrap();
    let path = unit::below(&parent, "abc").unwrap();
    let made = cgroups.make(&path, &limits()).unwrap();
    let scope = mock.unit("cri-wasm-abc.scope").unwrap();
    assert_eq!((scope.text("Slice"), scope.flag("Delegate")), (Some(slice.as_str()), true));
    assert_eq!((scope.number("MemoryLimit"), scope.number("CPUShares")), (Some(64 << 20), Some(512)));
    assert_eq!(scope.number("CPUQuotaPerSecUSec"), Some(260_000), "whole percents, and never less");
    assert_eq!(scope.processes().len(), 1, "the holder");
    let read = |controller: &str, file: &str| {
        let directory = made.group.controller_directory(controller).unwrap();
        std::fs::read_to_string(directory.join(file)).unwrap().trim().to_owned()
    };
    // What systemd has no words for, and what it would round.
    assert_eq!((read("cpuset", "cpuset.cpus"), read("cpu", "cpu.cfs_quota_us")), ("0".to_owned(), "25300".to_owned()));
    assert_eq!(read("memory", "memory.limit_in_bytes"), (64 << 20).to_string());

    let null = std::process::Stdio::null;
    let mut command = std::process::Command::new("sleep");
    let mut guest = command.arg("60").stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
    made.group.add(guest.id() as i32).unwrap();
    let group = made.group.clone();
    drop(made);
    assert_eq!(scope.processes(), [guest.id() as i32], "the guest is where systemd looks, and the holder has gone");
    let change = group.update(&Limits { memory_bytes: Some(128 << 20), swap_bytes: Some(128 << 20), ..limits() }).unwrap();
    let scope = mock.unit("cri-wasm-abc.scope").unwrap();
    assert_eq!(scope.number("MemoryLimit"), Some(128 << 20));
    drop(change);
    // What the kernel refuses is not told.
    let wrong = Limits { memory_bytes: Some(256 << 20), swap_bytes: Some(256 << 20), cpu_quota_us: Some(1), ..limits() };
    group.update(&wrong).unwrap_err();
    assert_eq!(mock.unit("cri-wasm-abc.scope").unwrap().number("MemoryLimit"), Some(128 << 20));

    group.kill().unwrap();
    guest.wait().unwrap();
    group.remove().unwrap();
    group.remove().unwrap();
    assert_eq!(mock.units(), [""; 0]);
    assert!(!group.exists());
    remove_slice(&cgroups, &parent);
}

/// The kubelet's, or systemd's when the last unit in it has gone.
fn remove_slice(cgroups: &Cgroups, path: &crate::cgroup::CgroupPath) {
    for directory in crate::cgroup::tests::directories(cgroups, path) {
        let _ = std::fs::remove_dir(directory);
    }
}

#[test]
fn what_a_start_left_behind_goes_before_the_next_and_a_failed_job_leaves_nothing() {
    let Some((_directory, mock, cgroups, slice)) = node("b") else { return };
    let parent = unit::slice_path(&slice).unwrap();
    let path = unit::below(&parent, "abc").unwrap();
    let first = cgroups.make(&path, &Limits::default()).unwrap();
    // The daemon was killed here.
    drop(first);
    let second = cgroups.make(&path, &Limits::default()).unwrap();
    assert_eq!(mock.unit("cri-wasm-abc.scope").unwrap().processes().len(), 1);
    let group = second.group.clone();
    drop(second);
    group.remove().unwrap();

    mock.fail_next();
    let error = cgroups.make(&path, &Limits::default()).unwrap_err();
    let text = crate::store::chain(&error);
    assert!(text.contains("cri-wasm-abc.scope") && text.contains("`failed`"), "{text}");
    assert_eq!(mock.calls().last().map(String::as_str), Some("ResetFailedUnit cri-wasm-abc.scope"));
    assert!(!group.exists());
    // A limit that only the file refuses.
    let wrong = Limits { cpuset_cpus: Some("4000".to_owned()), ..Limits::default() };
    assert!(matches!(cgroups.make(&path, &wrong).unwrap_err(), CgroupError::Write { .. }));
    assert_eq!((mock.units(), group.exists()), (Vec::new(), false));
    remove_slice(&cgroups, &parent);
}

#[test]
fn a_pods_own_slice_is_started_with_its_limits_and_stopped() {
    let Some((_directory, mock, cgroups, slice)) = node("c") else { return };
    let parent = unit::slice_path(&slice).unwrap();
    let path = unit::of_pod(&parent, "p1").unwrap();
    let made = cgroups.make(&path, &limits()).unwrap();
    // Again, as by a daemon that was killed in between.
    let again = cgroups.make(&path, &Limits { memory_bytes: Some(32 << 20), swap_bytes: None, ..limits() });
    let unit = mock.unit(path.name()).unwrap();
    assert_eq!((unit.number("MemoryLimit"), unit.flag("Delegate")), (Some(32 << 20), false));
    drop(again.unwrap());
    made.group.remove().unwrap();
    assert_eq!(mock.units(), [""; 0]);
    remove_slice(&cgroups, &parent);
}

#[test]
fn a_bus_that_is_not_there_is_named() {
    let systemd = Systemd::at("unix:path=/nonexistent/bus", PathBuf::from("/bin/cat"));
    let text = crate::store::chain(&systemd.ping().unwrap_err());
    assert!(text.contains("unix:path=/nonexistent/bus") && text.contains("No such file"), "{text}");
    assert!(Systemd::at("tcp:host=localhost", PathBuf::from("/bin/cat")).ping().is_err());
}
