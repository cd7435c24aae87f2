//! Pods in slices: their containers are scopes that systemd makes, over a real bus, from a manager that makes real groups.

use crate::harness::guests::PROBE;
use crate::harness::systemd::Mock;
use crate::harness::{Node, Options, Pod, cri, missing};

const MIB: i64 = 1 << 20;

/// A node whose groups are systemd's, and a pod in a slice that the kubelet would have made.
fn node(name: &str) -> Option<(Mock, Node, Pod, tempfile::TempDir)> {
    if !std::path::Path::new("/sys/fs/cgroup/systemd/cgroup.procs").exists() {
        eprintln!("skipped: needs cgroup v1 with systemd's own hierarchy");
        return None;
    }
    missing::program("dbus-daemon", "dbus-daemon")?;
    let directory = tempfile::tempdir().unwrap();
    let mock = Mock::start(directory.path())?;
    let options = Options { config: "[cgroup]\ndriver = 'systemd'\n", bus: Some(&mock.address), ..Options::default() };
    let node = Node::with_options(&options, &[PROBE])?;
    let mut config = node.pod_config("web");
    let parent = format!("criwasmsuite{}{name}.slice/criwasmsuite{}{name}-pod1.slice", std::process::id(), std::process::id());
    config.linux.as_mut().unwrap().cgroup_parent = format!("/{parent}");
    let pod = node.run_pod(&config).unwrap();
    Some((mock, node, pod, directory))
}

fn limited(mut config: cri::ContainerConfig, resources: cri::LinuxContainerResources) -> cri::ContainerConfig {
    config.linux.as_mut().unwrap().resources = Some(resources);
    config
}

fn pid(node: &Node, id: &str) -> i32 {
    let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let info = node.client.container_status(request).unwrap().info;
    let info: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    i32::try_from(info["pid"].as_i64().unwrap()).unwrap()
}

#[test]
fn a_container_of_a_pod_in_a_slice_is_a_scope_from_its_start_to_its_end() {
    let Some((mock, mut node, pod, _directory)) = node("a") else { return };
    let driver = node.client.runtime_config(cri::RuntimeConfigRequest {}).unwrap().linux.unwrap().cgroup_driver();
    assert_eq!(driver, cri::CgroupDriver::Systemd);
    let resources = cri::LinuxContainerResources {
        memory_limit_in_bytes: 64 * MIB,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        cpuset_cpus: "0".into(),
        ..Default::default()
    };
    let id = node.launch(&pod, &limited(PROBE.container("main", &["sleep", "forever"]), resources));
    let name = format!("cri-wasm-{id}.scope");
    let scope = mock.unit(&name).unwrap();
    assert!(scope.text("Slice").unwrap().ends_with("-pod1.slice"), "{scope:?}");
    assert_eq!((scope.number("MemoryLimit"), scope.number("CPUQuotaPerSecUSec")), (Some(64 << 20), Some(500_000)));
    let guest = pid(&node, &id);
    assert_eq!(scope.processes(), [guest], "the guest alone, where systemd looks for it");
    let groups = std::fs::read_to_string(format!("/proc/{guest}/cgroup")).unwrap();
    for controller in ["memory", "cpu", "cpuset", "pids", "name=systemd"] {
        let line = groups.lines().find(|line| line.split(':').nth(1) == Some(controller)).unwrap();
        assert!(line.ends_with(&format!("-pod1.slice/{name}")), "{line}");
    }

    let more = cri::LinuxContainerResources { memory_limit_in_bytes: 128 * MIB, ..Default::default() };
    let request = cri::UpdateContainerResourcesRequest { container_id: id.clone(), linux: Some(more), ..Default::default() };
    node.client.update_container_resources(request).unwrap();
    assert_eq!(mock.unit(&name).unwrap().number("MemoryLimit"), Some(128 << 20));
    node.restart_daemon();
    assert_eq!(pid(&node, &id), guest);
    node.stop_container(&id, 0).unwrap();
    node.remove_container(&id).unwrap();
    assert_eq!(mock.units(), [""; 0]);
    node.finish();
}

#[test]
fn a_guest_in_a_scope_that_outgrows_its_memory_is_oom_killed_and_the_scope_goes() {
    let Some((mock, node, pod, _directory)) = node("b") else { return };
    mock.collect();
    let resources = cri::LinuxContainerResources { memory_limit_in_bytes: 48 * MIB, ..Default::default() };
    for name in ["first", "second", "third", "fourth"] {
        let ended = node.run(&pod, &limited(PROBE.container(name, &["eat-memory", "256M"]), resources.clone())).status;
        assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"), "{}", ended.message);
    }
    let killed = node.launch(&pod, &limited(PROBE.container("killed", &["sleep", "forever"]), resources));
    node.stop_container(&killed, 0).unwrap();
    assert_eq!(node.status(&killed).reason, "Error", "killed, and not for memory");
    node.remove_pod(&pod.id).unwrap();
    assert_eq!(mock.units(), [""; 0]);
    node.finish();
}

#[test]
fn a_scope_that_systemd_does_not_start_is_a_failed_start_that_says_so() {
    let Some((mock, node, pod, _directory)) = node("c") else { return };
    let id = node.create(&pod, &PROBE.container("main", &["sleep", "forever"])).unwrap();
    mock.fail_next();
    let error = node.start_container(&id).unwrap_err();
    assert!(error.message().contains(".scope"), "{error}");
    let status = node.status(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert_eq!(mock.units(), [""; 0]);
    let next = node.launch(&pod, &PROBE.container("next", &["sleep", "forever"]));
    assert_eq!(mock.units(), [format!("cri-wasm-{next}.scope")]);
    node.finish();
}
