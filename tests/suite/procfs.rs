//! /proc for guests of a handler that shows it: PID namespaces of every mode, masked and read-only paths.

use std::sync::OnceLock;

use tonic::Code;

use crate::harness::guests::PROBE;
use crate::harness::image::Layered;
use crate::harness::process;
use crate::harness::registry::Registry;
use crate::harness::{Node, Pod, container, cri, until, words};

fn node() -> Option<Node> {
    let node = Node::with(&[PROBE])?;
    let image = Layered::new().file("/bin/probe", &PROBE.wasm()?).env(&["PATH=/bin"]).build();
    let registry = Registry::shared()?;
    // Once: the registry does not take the same layer twice at a time.
    static PUSHED: OnceLock<String> = OnceLock::new();
    PUSHED.get_or_init(|| registry.push("procfs/probe", "1", &image));
    node.pull(&reference()).expect("the image is pulled");
    Some(node)
}

fn reference() -> String {
    Registry::shared().unwrap().reference("procfs/probe:1")
}

/// A pod of the handler that shows /proc.
fn pod(node: &Node, name: &str) -> Pod {
    let config = node.pod_config(name);
    let request = cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: "wasm-compat".into() };
    Pod { id: node.client.run_pod_sandbox(request).unwrap().pod_sandbox_id, config }
}

fn config(name: &str, pid: cri::NamespaceMode, target: &str) -> cri::ContainerConfig {
    let options = cri::NamespaceOption {
        pid: pid.into(),
        network: cri::NamespaceMode::Node.into(),
        target_id: target.to_owned(),
        ..Default::default()
    };
    let security_context = cri::LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
    cri::ContainerConfig {
        linux: Some(cri::LinuxContainerConfig { security_context: Some(security_context), ..Default::default() }),
        command: ["probe", "sleep", "forever"].map(str::to_owned).to_vec(),
        ..container(&reference(), name, &[])
    }
}

fn said(node: &Node, id: &str, command: &str) -> String {
    let done = node.exec(id, &words(command));
    String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
}

/// The processes that a container sees.
fn pids(node: &Node, id: &str) -> Vec<u32> {
    let mut pids: Vec<u32> =
        said(node, id, "probe ls /proc").lines().filter_map(|name| name.trim_end_matches('/').parse().ok()).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn guests_of_other_handlers_have_no_proc() {
    let Some(node) = node() else { return };
    let pod = node.pod("plain");
    let id = node.launch(&pod, &config("main", cri::NamespaceMode::Pod, ""));
    assert_eq!(said(&node, &id, "probe ls /proc"), "ls: /proc: ENOENT\n");
    assert_eq!(process::namespace(node.guest_pid(&id), "pid"), process::namespace(node.daemon_pid(), "pid"));
    node.finish();
}

#[test]
fn a_container_of_its_own_sees_itself_as_the_first_process_and_can_change_nothing_in_proc() {
    let Some(node) = node() else { return };
    let pod = pod(&node, "own");
    let id = node.launch(&pod, &config("main", cri::NamespaceMode::Container, ""));
    assert_eq!(said(&node, &id, "probe cat /proc/1/cmdline").trim_end_matches('\0'), "probe\0sleep\0forever");
    assert_eq!(said(&node, &id, "probe cat /proc/1/comm"), "probe\n");
    let seen = pids(&node, &id);
    assert!(seen.len() == 2 && seen[0] == 1, "itself, and what looks: {seen:?}");
    for path in ["/proc/self/mem", "/proc/self/oom_score_adj", "/proc/sys/kernel/hostname"] {
        assert_eq!(said(&node, &id, &format!("probe append {path} x")), format!("append: {path}: EROFS\n"));
    }
    // The first process of a namespace is ended by SIGTERM all the same.
    node.stop_container(&id, 30).unwrap();
    assert_eq!(node.status(&id).exit_code, 143);
    node.finish();
}

#[test]
fn containers_of_a_pod_see_each_other_also_after_the_daemon_has_started_again() {
    let Some(mut node) = node() else { return };
    let pod = pod(&node, "shared");
    let first = node.launch(&pod, &config("first", cri::NamespaceMode::Pod, ""));
    node.restart_daemon();
    let second = node.launch(&pod, &config("second", cri::NamespaceMode::Pod, ""));
    assert_eq!(said(&node, &first, "probe cat /proc/1/comm"), "pause\n", "the pod's own process is the first");
    let commands: Vec<String> =
        pids(&node, &second).iter().take(3).map(|pid| said(&node, &second, &format!("probe cat /proc/{pid}/comm"))).collect();
    assert_eq!(commands, ["pause\n", "probe\n", "probe\n"]);
    node.stop_container(&first, 0).unwrap();
    assert_eq!(said(&node, &second, "probe cat /proc/1/comm"), "pause\n", "it does not end with the container that came first");
    node.stop_pod(&pod.id).unwrap();
    node.finish();
}

#[test]
fn a_container_joins_anothers_namespace_or_the_nodes() {
    let Some(node) = node() else { return };
    let (pod, other) = (pod(&node, "target"), pod(&node, "other"));
    let own = node.launch(&pod, &config("own", cri::NamespaceMode::Container, ""));
    let joined = node.launch(&pod, &config("joined", cri::NamespaceMode::Target, &own));
    let namespace = |id: &str| process::namespace(node.guest_pid(id), "pid");
    assert_eq!(namespace(&joined), namespace(&own));
    assert_eq!(pids(&node, &joined)[..2], [1, 2]);
    let of_node = node.launch(&pod, &config("node", cri::NamespaceMode::Node, ""));
    assert!(pids(&node, &of_node).contains(&u32::try_from(node.daemon_pid()).unwrap()));
    let stranger = node.create(&other, &config("stranger", cri::NamespaceMode::Target, &own)).unwrap();
    assert_eq!(node.start_container(&stranger).unwrap_err().code(), Code::InvalidArgument, "of another pod");
    node.stop_container(&own, 0).unwrap();
    until("the other ends with it", || node.status(&joined).state() == cri::ContainerState::ContainerExited);
    let late = node.create(&pod, &config("late", cri::NamespaceMode::Target, &own)).unwrap();
    assert_eq!(node.start_container(&late).unwrap_err().code(), Code::FailedPrecondition);
    node.finish();
}

#[test]
fn masked_paths_are_hidden_and_readonly_paths_cannot_be_changed() {
    let Some(node) = node() else { return };
    for (name, pod, shows_proc) in [("compat", pod(&node, "compat"), true), ("plain", node.pod("plain"), false)] {
        let mut config = config(name, cri::NamespaceMode::Container, "");
        let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.masked_paths = ["/bin/probe", "/etc", "/proc/version", "/nosuch"].map(str::to_owned).to_vec();
        security.readonly_paths = ["/tmp", "/proc/sys", "/nosuch"].map(str::to_owned).to_vec();
        // What is masked cannot be the program that looks.
        config.mounts = vec![];
        let linked =
            Layered::new().file("/bin/probe", b"x").file("/bin/other", &PROBE.wasm().unwrap()).directory("/tmp", 0o1777, 0);
        let repository = format!("procfs/masked-{name}");
        Registry::shared().unwrap().push(&repository, "1", &linked.env(&["PATH=/bin"]).build());
        let image = Registry::shared().unwrap().reference(&format!("{repository}:1"));
        node.pull(&image).unwrap();
        config.image = Some(crate::harness::image_spec(&image));
        config.command = ["other", "sleep", "forever"].map(str::to_owned).to_vec();
        let id = node.launch(&pod, &config);
        let done = node.exec(&id, &["probe"]);
        assert_eq!(
            (done.exit_code, String::from_utf8_lossy(&done.stderr).into_owned()),
            (126, "exec: \"probe\": permission denied\n".into())
        );
        assert_eq!(said(&node, &id, "other ls /etc"), "");
        assert_eq!(said(&node, &id, "other write /tmp/x y"), "write: /tmp/x: EROFS\n");
        assert_eq!(said(&node, &id, "other write /elsewhere y"), "");
        let version = said(&node, &id, "other cat /proc/version");
        assert_eq!(version, if shows_proc { "" } else { "cat: /proc/version: ENOENT\n" });
    }
    node.finish();
}

#[test]
fn every_container_has_the_harmless_devices() {
    let Some(node) = node() else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &config("main", cri::NamespaceMode::Pod, ""));
    assert_eq!(said(&node, &id, "probe ls /dev"), "full\nmqueue/\nnull\npts/\nrandom\nshm/\ntty\nurandom\nzero\n");
    assert_eq!(said(&node, &id, "probe write /dev/null x + cat /dev/null"), "");
    assert_eq!(said(&node, &id, "probe write /dev/full x"), "write: /dev/full: ENOSPC\n");
    node.finish();
}
