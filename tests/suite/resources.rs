//! Limits of containers and pods: set, changed while a guest runs, kept over the daemon's end, and read back from the kernel.

use std::path::PathBuf;

use crate::harness::guests::{EAT_MEMORY_P3, PROBE, PROBE_P2};
use crate::harness::image::{Image, Layered};
use crate::harness::leak::cgroups_of_container;
use crate::harness::place::cgroups_of;
use crate::harness::registry::Registry;
use crate::harness::{Node, Options, Pod, container, cri, words};

const MIB: i64 = 1 << 20;

fn memory(bytes: i64) -> cri::LinuxContainerResources {
    cri::LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() }
}

fn with(mut config: cri::ContainerConfig, resources: cri::LinuxContainerResources) -> cri::ContainerConfig {
    config.linux.as_mut().unwrap().resources = Some(resources);
    config
}

fn update(node: &Node, id: &str, resources: cri::LinuxContainerResources) -> Result<(), tonic::Status> {
    let request =
        cri::UpdateContainerResourcesRequest { container_id: id.to_owned(), linux: Some(resources), ..Default::default() };
    node.client.update_container_resources(request).map(drop)
}

/// What the record says.
fn told(node: &Node, id: &str) -> cri::LinuxContainerResources {
    node.status(id).resources.and_then(|resources| resources.linux).unwrap_or_default()
}

/// A control file of one of these groups, by its name on v1 or on v2.
fn read(groups: &[PathBuf], v1: &str, v2: &str) -> String {
    let found = [v1, v2].iter().find_map(|name| groups.iter().find_map(|group| std::fs::read_to_string(group.join(name)).ok()));
    found.unwrap_or_else(|| panic!("neither {v1} nor {v2} in {groups:?}")).trim().to_owned()
}

fn of_container(node: &Node, id: &str, v1: &str, v2: &str) -> String {
    read(&cgroups_of_container(&node.place, id), v1, v2)
}

fn memory_limit(node: &Node, id: &str) -> i64 {
    of_container(node, id, "memory.limit_in_bytes", "memory.max").parse().unwrap()
}

fn score(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().to_owned()
}

/// A container that waits for a file in its volume and then does the rest.
fn waiting(node: &Node, name: &str, then: &[&str]) -> (cri::ContainerConfig, PathBuf) {
    let volume = node.place.directory(&format!("volumes/{name}"));
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let args = [&words("echo here + wait-for /data/go +"), then].concat();
    (cri::ContainerConfig { mounts: vec![mount], ..PROBE.container(name, &args) }, volume.join("go"))
}

#[test]
fn limits_of_a_running_guest_change_at_once_and_stay_over_the_daemons_end() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let first = cri::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        oom_score_adj: 500,
        ..memory(64 * MIB)
    };
    let id = node.launch(&pod, &with(PROBE.container("main", &["sleep", "forever"]), first));
    let pid = node.guest_pid(&id);
    let quota = |node: &Node| of_container(node, &id, "cpu.cfs_quota_us", "cpu.max");
    assert!(quota(&node).starts_with("50000"), "{}", quota(&node));

    let more = cri::LinuxContainerResources { cpu_quota: 150_000, oom_score_adj: 600, ..memory(256 * MIB) };
    update(&node, &id, more).unwrap();
    assert_eq!(memory_limit(&node, &id), 256 * MIB);
    assert!(quota(&node).starts_with("150000"), "{}", quota(&node));
    assert_eq!(score(pid), "600");
    let recorded = told(&node, &id);
    assert_eq!((recorded.memory_limit_in_bytes, recorded.cpu_quota, recorded.oom_score_adj), (256 * MIB, 150_000, 600));
    assert_eq!((recorded.cpu_period, recorded.cpu_shares), (100_000, 512), "what was not given stays");

    node.restart_daemon();
    assert_eq!(told(&node, &id), recorded);
    assert_eq!(memory_limit(&node, &id), 256 * MIB);
    // Down again, and without a bound of processor time.
    let less = cri::LinuxContainerResources { cpu_quota: -1, cpu_shares: 2, cpuset_cpus: "0".into(), ..memory(32 * MIB) };
    update(&node, &id, less).unwrap();
    assert_eq!(memory_limit(&node, &id), 32 * MIB);
    assert!(["-1", "max 100000"].contains(&quota(&node).as_str()), "{}", quota(&node));
    assert_eq!(of_container(&node, &id, "cpuset.cpus", "cpuset.cpus"), "0");
    assert!(["1", "2"].contains(&of_container(&node, &id, "cpu.shares", "cpu.weight").as_str()));
    assert_eq!(node.guest_pid(&id), pid, "it is the same guest all the time");
    node.finish();
}

#[test]
fn swap_is_bounded_by_the_memory_limit_unless_it_is_given() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &with(PROBE.container("main", &["sleep", "forever"]), memory(64 * MIB)));
    let groups = cgroups_of_container(&node.place, &id);
    if !groups.iter().any(|group| group.join("memory.memsw.limit_in_bytes").exists()) {
        eprintln!("skipped: swap is not accounted for here, or on v2");
        return node.finish();
    }
    let both = || read(&groups, "memory.memsw.limit_in_bytes", "memory.swap.max").parse::<i64>().unwrap();
    assert_eq!(both(), 64 * MIB);
    // Up with a bound of its own, up without, and down: each needs another order of the two writes.
    for (limit, swap, expected) in [(128, 512, 512), (256, 0, 256), (32, 0, 32), (16, 24, 24), (0, 100, 100)] {
        let resources = cri::LinuxContainerResources { memory_swap_limit_in_bytes: swap * MIB, ..memory(limit * MIB) };
        update(&node, &id, resources).unwrap();
        assert_eq!(both(), expected * MIB, "{limit} {swap}");
    }
    assert_eq!(memory_limit(&node, &id), 16 * MIB);
    node.finish();
}

#[test]
fn an_update_before_the_start_is_what_the_guest_starts_with() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.create(&pod, &PROBE.container("main", &["sleep", "forever"])).unwrap();
    let resources =
        cri::LinuxContainerResources { cpu_quota: 20_000, cpu_period: 50_000, oom_score_adj: 700, ..memory(48 * MIB) };
    update(&node, &id, resources.clone()).unwrap();
    assert_eq!(cgroups_of_container(&node.place, &id), Vec::<PathBuf>::new());
    node.restart_daemon();
    assert_eq!(told(&node, &id), resources);
    node.start_container(&id).unwrap();
    assert_eq!(memory_limit(&node, &id), 48 * MIB);
    assert_eq!(score(node.guest_pid(&id)), "700");
    assert!(of_container(&node, &id, "cpu.cfs_quota_us", "cpu.max").starts_with("20000"));
    node.finish();
}

#[test]
fn a_refused_update_leaves_limits_and_record_as_they_were() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let first = cri::LinuxContainerResources { cpu_quota: 50_000, cpu_period: 100_000, ..memory(64 * MIB) };
    let id = node.launch(&pod, &with(PROBE.container("main", &["eat-memory", "24M"]), first.clone()));
    node.wait_stdout(&id, "ate");
    let files = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.shares", "cpu.cfs_quota_us", "cpuset.cpus"];
    let state = || {
        let groups = cgroups_of_container(&node.place, &id);
        files.map(|file| groups.iter().find_map(|group| std::fs::read_to_string(group.join(file)).ok()))
    };
    let before = state();
    let unified = |file: &str| std::collections::HashMap::from([(file.to_owned(), "1".to_owned())]);
    let all = cri::LinuxContainerResources { cpu_shares: 77, cpu_quota: 70_000, ..memory(128 * MIB) };
    for (wrong, code) in [
        // A processor that is not there; the kernel says so.
        (cri::LinuxContainerResources { cpuset_cpus: "4000".into(), ..all.clone() }, tonic::Code::InvalidArgument),
        (cri::LinuxContainerResources { cpuset_cpus: "all".into(), ..all.clone() }, tonic::Code::InvalidArgument),
        // Written last, when everything else has been: less than the kernel's least, 1 ms.
        (cri::LinuxContainerResources { cpu_quota: 10, ..all.clone() }, tonic::Code::InvalidArgument),
        (cri::LinuxContainerResources { unified: unified("cgroup.procs"), ..all.clone() }, tonic::Code::InvalidArgument),
        (cri::LinuxContainerResources { cpu_shares: -1, ..all.clone() }, tonic::Code::InvalidArgument),
        (cri::LinuxContainerResources { memory_swap_limit_in_bytes: MIB, ..all }, tonic::Code::InvalidArgument),
    ] {
        let error = update(&node, &id, wrong.clone()).unwrap_err();
        assert_eq!(error.code(), code, "{wrong:?}: {error}");
        assert_eq!(state(), before, "{wrong:?}");
        assert_eq!(told(&node, &id), first, "{wrong:?}");
    }
    if before[0].is_some() {
        // v1 refuses what it cannot reach; v2 would kill.
        let error = update(&node, &id, memory(8 * MIB)).unwrap_err();
        assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
        assert!(error.message().contains("in use"), "{error}");
        assert_eq!((state(), told(&node, &id)), (before, first));
    }
    assert_eq!(node.status(&id).state(), cri::ContainerState::ContainerRunning);
    node.finish();
}

#[test]
fn an_update_asks_for_a_container_that_is_there() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    assert_eq!(update(&node, "missing", memory(MIB)).unwrap_err().code(), tonic::Code::NotFound);
    assert_eq!(update(&node, "", memory(MIB)).unwrap_err().code(), tonic::Code::InvalidArgument);
    let ended = node.run(&pod, &PROBE.container("main", &["exit", "0"])).status.id;
    // As containerd has it: recorded, and of no effect.
    update(&node, &ended, memory(64 * MIB)).unwrap();
    assert_eq!(told(&node, &ended).memory_limit_in_bytes, 64 * MIB);
    let nothing = cri::UpdateContainerResourcesRequest { container_id: ended.clone(), ..Default::default() };
    node.client.update_container_resources(nothing).unwrap();
    assert_eq!(told(&node, &ended).memory_limit_in_bytes, 64 * MIB);
    node.finish();
}

#[test]
fn a_guest_may_use_the_memory_that_it_was_given_later_and_no_more() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let (config, go) = waiting(&node, "raised", &["eat-memory", "96M"]);
    let raised = node.launch(&pod, &with(config, memory(48 * MIB)));
    let (config, go_too) = waiting(&node, "lowered", &["eat-memory", "96M"]);
    let lowered = node.launch(&pod, &with(config, memory(256 * MIB)));
    [&raised, &lowered].iter().for_each(|id| node.wait_stdout(id, "here\n"));
    update(&node, &raised, memory(256 * MIB)).unwrap();
    update(&node, &lowered, memory(48 * MIB)).unwrap();
    [go, go_too].iter().for_each(|path| std::fs::write(path, "").unwrap());
    node.wait_stdout(&raised, "here\nate 100663296 bytes\n");
    let ended = node.wait_exit(&lowered).status;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
    assert_eq!(node.status(&raised).state(), cri::ContainerState::ContainerRunning);
    node.finish();
}

fn update_pod(node: &Node, pod: &Pod, resources: cri::LinuxContainerResources) -> Result<(), tonic::Status> {
    let overhead = Some(memory(8 * MIB));
    let request = cri::UpdatePodSandboxResourcesRequest { pod_sandbox_id: pod.id.clone(), overhead, resources: Some(resources) };
    node.client.update_pod_sandbox_resources(request).map(drop)
}

/// What PodSandboxStatus tells of a pod's resources.
fn recorded(node: &Node, pod: &Pod) -> serde_json::Value {
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let info = node.client.pod_sandbox_status(request).unwrap().info;
    serde_json::from_str::<serde_json::Value>(&info["info"]).unwrap()["resources"].clone()
}

#[test]
fn a_pods_own_group_has_the_pods_limits_and_they_change_at_once() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let mut config = node.pod_config("web");
    let linux = config.linux.as_mut().unwrap();
    linux.resources = Some(memory(64 * MIB));
    linux.overhead = Some(memory(16 * MIB));
    let pod = node.run_pod(&config).unwrap();
    let groups: Vec<PathBuf> = cgroups_of(&node.place.name).into_iter().filter(|path| path.ends_with(&pod.id)).collect();
    let limit = || read(&groups, "memory.limit_in_bytes", "memory.max").parse::<i64>().unwrap();
    assert_eq!(limit(), 80 * MIB);
    let id = node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
    update_pod(&node, &pod, cri::LinuxContainerResources { cpu_quota: 200_000, cpu_period: 100_000, ..memory(128 * MIB) })
        .unwrap();
    assert_eq!(limit(), 136 * MIB);
    assert!(read(&groups, "cpu.cfs_quota_us", "cpu.max").starts_with("200000"));
    // Less than the kernel's least, 1 ms.
    let refused = update_pod(&node, &pod, cri::LinuxContainerResources { cpu_quota: 10, ..memory(256 * MIB) }).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    assert_eq!(limit(), 136 * MIB);
    node.restart_daemon();
    let told = recorded(&node, &pod);
    assert_eq!((&told["resources"]["memory_limit"], &told["overhead"]["memory_limit"]), (&(128 * MIB).into(), &(8 * MIB).into()));
    assert_eq!(node.status(&id).state(), cri::ContainerState::ContainerRunning);
    node.finish();
}

#[test]
fn resources_of_a_pod_in_the_kubelets_group_are_recorded_and_the_group_is_left_alone() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let mut config = node.pod_config("web");
    let parent = format!("{}/kubepods", node.place.cgroup());
    config.linux.as_mut().unwrap().cgroup_parent = parent.clone();
    let pod = node.run_pod(&config).unwrap();
    let id = node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
    let groups: Vec<PathBuf> = cgroups_of(&node.place.name).into_iter().filter(|path| path.ends_with("kubepods")).collect();
    let limit = || read(&groups, "memory.limit_in_bytes", "memory.max");
    let before = limit();
    update_pod(&node, &pod, memory(64 * MIB)).unwrap();
    assert_eq!(limit(), before);
    node.restart_daemon();
    assert_eq!(recorded(&node, &pod)["resources"]["memory_limit"], 64 * MIB);
    assert_eq!(node.status(&id).state(), cri::ContainerState::ContainerRunning);
    node.stop_pod(&pod.id).unwrap();
    update_pod(&node, &pod, memory(32 * MIB)).unwrap();
    node.remove_pod(&pod.id).unwrap();
    assert_eq!(update_pod(&node, &pod, memory(MIB)).unwrap_err().code(), tonic::Code::NotFound);
    // The kubelet would take its group away; here it is the test's.
    groups.iter().for_each(|group| std::fs::remove_dir(group).unwrap());
    node.finish();
}

#[test]
fn a_guest_of_wasi_0_2_that_outgrows_its_memory_is_oom_killed() {
    let Some(node) = Node::with(&[PROBE_P2]) else { return };
    let pod = node.pod("web");
    let ended = node.run(&pod, &with(PROBE_P2.container("main", &["eat-memory", "256M"]), memory(32 * MIB)));
    assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (137, "OOMKilled"), "{}", ended.status.message);
    node.finish();
}

#[test]
fn a_command_that_eats_the_containers_memory_is_killed_alone_and_says_so() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let Some(probe) = PROBE.wasm() else { return };
    let image: Image = Layered::new().file("/bin/probe", &probe).entrypoint(&["/bin/probe"]).build();
    let Some(registry) = Registry::shared() else { return };
    registry.push("resources/tools", "1", &image);
    let reference = registry.reference("resources/tools:1");
    node.pull(&reference).unwrap();
    let pod = node.pod("web");
    let id = node.launch(&pod, &with(container(&reference, "main", &["sleep", "forever"]), memory(48 * MIB)));
    let pid = node.guest_pid(&id);
    let eaten = node.exec(&id, &["probe", "eat-memory", "256M"]);
    assert_eq!(eaten.exit_code, 137, "{eaten:?}");
    assert!(String::from_utf8_lossy(&eaten.stderr).contains("no memory left"), "{eaten:?}");
    assert_eq!(node.status(&id).state(), cri::ContainerState::ContainerRunning);
    assert_eq!(node.guest_pid(&id), pid);
    assert_eq!(node.exec(&id, &["probe", "echo", "well"]).stdout, b"well\n");
    // The kill was the command's: the container's own end, later and by force, is none for memory.
    node.stop_container(&id, 0).unwrap();
    let status = node.status(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    node.finish();
}

#[test]
fn a_command_of_wasi_0_3_that_outgrows_its_memory_is_oom_killed() {
    let Some(node) = Node::with(&[EAT_MEMORY_P3]) else { return };
    let pod = node.pod("web");
    let ended = node.run(&pod, &with(EAT_MEMORY_P3.container("main", &[]), memory(48 * MIB))).status;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"), "{}", ended.message);
    node.finish();
}

#[test]
fn files_in_memory_count_as_the_guests_own() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    // As an emptyDir of medium Memory: a directory of a tmpfs.
    let volume = node.place.state.join("volume");
    std::fs::create_dir(&volume).unwrap();
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let config = cri::ContainerConfig { mounts: vec![mount], ..PROBE.container("main", &words("fill /data/file 128M")) };
    let ended = node.run(&pod, &with(config, memory(48 * MIB))).status;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"), "{}", ended.message);
    std::fs::remove_dir_all(volume).unwrap();
    // Pages of files on a disk are given back instead.
    let ended = node.run(&pod, &with(PROBE.container("disk", &words("fill /file 128M")), memory(48 * MIB))).status;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (0, "Completed"), "{}", ended.message);
    node.finish();
}

#[test]
fn a_guest_that_outgrows_its_pods_memory_is_oom_killed() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let mut config = node.pod_config("web");
    config.linux.as_mut().unwrap().resources = Some(memory(96 * MIB));
    let pod = node.run_pod(&config).unwrap();
    // None of the two has a limit of its own, or a lower score than the other.
    let calm = node.launch(&pod, &PROBE.container("calm", &["sleep", "forever"]));
    let ended = node.run(&pod, &PROBE.container("hungry", &["eat-memory", "256M"])).status;
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"), "{}", ended.message);
    assert_eq!(node.status(&calm).state(), cri::ContainerState::ContainerRunning);
    node.finish();
}

#[test]
fn a_memory_limit_in_which_nothing_can_start_is_named_as_the_reason() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.create(&pod, &with(PROBE.container("main", &["echo", "hello"]), memory(1))).unwrap();
    let error = node.start_container(&id).unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
    assert!(error.message().contains("memory limit is too low"), "{error}");
    assert_eq!(node.status(&id).reason, "StartError");
    node.finish();
}

#[test]
fn the_tasks_of_each_container_are_bounded_where_the_configuration_says_so() {
    let options = Options { config: "[cgroup]\nmax_tasks = 40\n", ..Options::default() };
    let Some(node) = Node::with_options(&options, &[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
    assert_eq!(of_container(&node, &id, "pids.max", "pids.max"), "40");
    update(&node, &id, memory(64 * MIB)).unwrap();
    assert_eq!(of_container(&node, &id, "pids.max", "pids.max"), "40");
    node.finish();
}
