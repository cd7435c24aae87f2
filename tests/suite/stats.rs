//! What containers and pods are said to use, beside what the kernel counts about them.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};

use tonic::Code;

use crate::harness::guests::{PROBE, SPIN};
use crate::harness::{Node, cri, eventually, leak, netns, until};
use crate::network::{bridged, pod_netns, run};

const UNKNOWN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn stats(node: &Node, id: &str) -> cri::ContainerStats {
    let request = cri::ContainerStatsRequest { container_id: id.to_owned() };
    node.client.container_stats(request).expect("ContainerStats").stats.expect("stats")
}

fn list(node: &Node, filter: Option<cri::ContainerStatsFilter>) -> Vec<cri::ContainerStats> {
    node.client.list_container_stats(cri::ListContainerStatsRequest { filter }).expect("ListContainerStats").stats
}

fn pod_stats(node: &Node, id: &str) -> cri::PodSandboxStats {
    let request = cri::PodSandboxStatsRequest { pod_sandbox_id: id.to_owned() };
    node.client.pod_sandbox_stats(request).expect("PodSandboxStats").stats.expect("stats")
}

fn list_pods(node: &Node, filter: Option<cri::PodSandboxStatsFilter>) -> Vec<cri::PodSandboxStats> {
    node.client.list_pod_sandbox_stats(cri::ListPodSandboxStatsRequest { filter }).expect("ListPodSandboxStats").stats
}

fn value(number: Option<cri::UInt64Value>) -> u64 {
    number.expect("a value").value
}

fn ids(stats: &[cri::ContainerStats]) -> Vec<String> {
    let mut ids: Vec<_> = stats.iter().map(|stats| stats.attributes.as_ref().expect("attributes").id.clone()).collect();
    ids.sort();
    ids
}

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A file of a container's group, on either version.
fn counter(node: &Node, id: &str, v1: &str, v2: &str) -> Option<String> {
    let groups = leak::cgroups_of_container(&node.place, id);
    groups.iter().find_map(|group| [v1, v2].iter().find_map(|name| std::fs::read_to_string(group.join(name)).ok()))
}

fn number(text: &str) -> u64 {
    text.trim().parse().expect("a number")
}

#[test]
fn a_guest_that_computes_shows_the_kernels_time_and_a_rate_at_the_second_look() {
    let Some(node) = Node::with(&[SPIN, PROBE]) else { return };
    let pod = node.pod("busy");
    let busy = node.launch(&pod, &SPIN.container("busy", &[]));
    let idle = node.launch(&pod, &PROBE.container("idle", &["sleep", "forever"]));
    let first = stats(&node, &busy).cpu.expect("cpu");
    assert!(first.timestamp > 1_700_000_000_000_000_000, "nanoseconds since the epoch");
    assert_eq!(first.usage_nano_cores, None, "one sample is no rate");

    // The kernel's own count, before and after.
    let kernel = || counter(&node, &busy, "cpuacct.usage", "cpu.stat").expect("the group counts time");
    if let Ok(before) = kernel().trim().parse::<u64>() {
        let told = value(stats(&node, &busy).cpu.unwrap().usage_core_nano_seconds);
        assert!((before..=number(&kernel())).contains(&told), "{told}");
    }
    let rate = eventually("a rate", || stats(&node, &busy).cpu.unwrap().usage_nano_cores).value;
    assert!((10_000_000..=1_100_000_000).contains(&rate), "one thread computes: {rate}");
    let idle = eventually("a rate of the idle one", || stats(&node, &idle).cpu.unwrap().usage_nano_cores).value;
    assert!(idle < rate / 2, "{idle} beside {rate}");

    let of_pod = pod_stats(&node, &pod.id);
    let linux = of_pod.linux.expect("linux");
    assert!(value(linux.cpu.expect("cpu").usage_core_nano_seconds) >= value(first.usage_core_nano_seconds));
    assert_eq!(linux.containers.len(), 2);
    assert!(linux.network.is_none(), "it has the node's network");
    assert!(value(linux.process.expect("processes").process_count) >= 2);
    node.finish();
}

#[test]
fn a_guest_that_allocates_shows_it_and_what_its_limit_leaves() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("memory");
    let small = node.launch(&pod, &PROBE.container("small", &["sleep", "forever"]));
    let mut config = PROBE.container("large", &["eat-memory", "48M"]);
    config.linux.as_mut().unwrap().resources =
        Some(cri::LinuxContainerResources { memory_limit_in_bytes: 256 << 20, ..Default::default() });
    let large = node.launch(&pod, &config);
    node.wait_stdout(&large, "ate 50331648 bytes\n");

    let (small, memory) = (stats(&node, &small).memory.expect("memory"), stats(&node, &large).memory.expect("memory"));
    let (used, working) = (value(memory.usage_bytes), value(memory.working_set_bytes));
    assert!(((48 << 20)..(256 << 20)).contains(&working), "{working}");
    assert!(used >= working, "{used} {working}");
    assert!(value(memory.rss_bytes) >= 48 << 20);
    assert!(value(memory.page_faults) >= (48 << 20) / 4096, "each page was touched");
    assert!(value(small.working_set_bytes) < 48 << 20);
    assert_eq!(value(memory.available_bytes), (256 << 20) - working);
    assert!(small.available_bytes.is_none(), "without a limit there is nothing to be left");

    let kernel = number(&counter(&node, &large, "memory.usage_in_bytes", "memory.current").expect("the group counts memory"));
    assert!(kernel.abs_diff(used) < 4 << 20, "{kernel} beside {used}");
    let of_pod = pod_stats(&node, &pod.id).linux.unwrap().memory.expect("memory");
    assert!(value(of_pod.working_set_bytes) >= working);
    node.finish();
}

#[test]
fn a_file_that_is_written_shows_in_the_writable_layer() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("files");
    let go = node.place.directory("go");
    let mut config = PROBE.container(
        "writer",
        &[
            "wait-for",
            "/go/now",
            "+",
            "mkdir",
            "/made",
            "+",
            "fill",
            "/made/file",
            "3M",
            "+",
            "echo",
            "written",
            "+",
            "sleep",
            "forever",
        ],
    );
    config.mounts = vec![cri::Mount {
        host_path: go.display().to_string(),
        container_path: "/go".into(),
        readonly: true,
        ..Default::default()
    }];
    let id = node.launch(&pod, &config);
    let before = stats(&node, &id).writable_layer.expect("a new layer is measured at once");
    let mountpoint = PathBuf::from(before.fs_id.expect("a file system").mountpoint);
    assert!(mountpoint.is_dir(), "{}", mountpoint.display());
    assert!(value(before.used_bytes) < 1 << 20);
    std::fs::write(go.join("now"), "").unwrap();
    node.wait_stdout(&id, "written\n");
    let after = eventually("the file is counted", || {
        let layer = stats(&node, &id).writable_layer.expect("a layer");
        (value(layer.used_bytes) >= 3 << 20).then_some(layer)
    });
    assert!(after.timestamp > before.timestamp, "a value says when it was measured");
    assert_eq!(value(after.inodes_used), value(before.inodes_used) + 2);

    // What has ended uses its layer and nothing else.
    node.stop_container(&id, 0).unwrap();
    assert!(list(&node, None).is_empty());
    let ended = stats(&node, &id);
    assert!(ended.cpu.is_none() && ended.memory.is_none());
    assert!(value(ended.writable_layer.expect("a layer").used_bytes) >= 3 << 20);
    node.finish();
}

#[test]
fn lists_are_filtered_by_id_pod_and_labels_together() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pods = [node.pod("one"), node.pod("two")];
    let launch = |pod: usize, name: &str, app: &str| {
        let mut config = PROBE.container(name, &["sleep", "forever"]);
        config.labels = labels(&[("app", app), ("name", name)]);
        config.annotations = labels(&[("note", name)]);
        node.launch(&pods[pod], &config)
    };
    let (a, b, c) = (launch(0, "a", "web"), launch(0, "b", "db"), launch(1, "c", "web"));
    let created = node.create(&pods[1], &PROBE.container("created", &[])).unwrap();
    let some = |id: &str, pod: &str, pairs: &[(&str, &str)]| {
        let filter = cri::ContainerStatsFilter { id: id.into(), pod_sandbox_id: pod.into(), label_selector: labels(pairs) };
        ids(&list(&node, Some(filter)))
    };
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let all = sorted(vec![a.clone(), b.clone(), c.clone()]);
    assert_eq!(ids(&list(&node, None)), all, "only what runs");
    assert_eq!(some("", "", &[]), all);
    assert_eq!(some(&a, "", &[]), vec![a.clone()]);
    assert_eq!(some(&a[..13], "", &[]), vec![a.clone()], "as crictl names it");
    assert_eq!(some("", &pods[0].id, &[]), sorted(vec![a.clone(), b.clone()]));
    assert_eq!(some("", "", &[("app", "web")]), sorted(vec![a.clone(), c.clone()]));
    assert_eq!(some("", &pods[0].id, &[("app", "web")]), vec![a.clone()]);
    assert_eq!(some(&b, &pods[1].id, &[]), Vec::<String>::new());
    assert_eq!(some(&b, "", &[("app", "web")]), Vec::<String>::new());
    assert_eq!(some(UNKNOWN, "", &[]), Vec::<String>::new());
    assert_eq!(some("", UNKNOWN, &[]), Vec::<String>::new());

    let attributes = stats(&node, &b).attributes.expect("attributes");
    assert_eq!((attributes.id.as_str(), attributes.metadata.expect("a name").name.as_str()), (b.as_str(), "b"));
    assert_eq!(attributes.labels, labels(&[("app", "db"), ("name", "b")]));
    assert_eq!(attributes.annotations, labels(&[("note", "b")]));
    let not_started = stats(&node, &created);
    assert!(not_started.attributes.is_some() && not_started.cpu.is_none());
    let code = |id: &str| node.client.container_stats(cri::ContainerStatsRequest { container_id: id.into() }).unwrap_err().code();
    assert_eq!((code(UNKNOWN), code("")), (Code::NotFound, Code::InvalidArgument));
    node.finish();
}

#[test]
fn pods_are_filtered_by_id_and_labels_and_only_ready_ones_are_listed() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let make = |name: &str, app: &str| {
        let mut config = node.pod_config(name);
        config.labels = labels(&[("app", app)]);
        node.run_pod(&config).unwrap()
    };
    let (one, two) = (make("one", "web"), make("two", "db"));
    let container = node.launch(&one, &PROBE.container("main", &["sleep", "forever"]));
    let some = |id: &str, pairs: &[(&str, &str)]| {
        let filter = cri::PodSandboxStatsFilter { id: id.into(), label_selector: labels(pairs) };
        let found = list_pods(&node, Some(filter)).into_iter().map(|stats| stats.attributes.expect("attributes"));
        let mut names: Vec<_> = found.map(|attributes| attributes.metadata.expect("a name").name).collect();
        names.sort();
        names
    };
    assert_eq!(some("", &[]), ["one", "two"]);
    assert_eq!(some(&one.id, &[]), ["one"]);
    assert_eq!(some("", &[("app", "db")]), ["two"]);
    assert_eq!(some(&one.id, &[("app", "db")]), Vec::<String>::new());
    let of_one = pod_stats(&node, &one.id);
    let attributes = of_one.attributes.expect("attributes");
    assert_eq!(attributes.metadata, one.config.metadata);
    assert_eq!(attributes.labels, one.config.labels);
    assert_eq!(ids(&of_one.linux.expect("linux").containers), [container]);

    node.stop_pod(&two.id).unwrap();
    assert_eq!(some("", &[]), ["one"]);
    let stopped = pod_stats(&node, &two.id);
    assert!(stopped.attributes.is_some() && stopped.linux.expect("linux").cpu.is_none());
    let unknown = node.client.pod_sandbox_stats(cri::PodSandboxStatsRequest { pod_sandbox_id: UNKNOWN.into() });
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    node.finish();
}

#[test]
fn a_pod_below_a_group_that_others_may_share_is_counted_by_its_containers() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let under = |name: &str| {
        let mut config = node.pod_config(name);
        config.linux.as_mut().unwrap().cgroup_parent = node.place.cgroup();
        node.run_pod(&config).unwrap()
    };
    let (large, small) = (under("large"), under("small"));
    let id = node.launch(&large, &PROBE.container("main", &["eat-memory", "48M"]));
    node.launch(&small, &PROBE.container("main", &["sleep", "forever"]));
    node.wait_stdout(&id, "ate 50331648 bytes\n");
    let working = |pod: &str| value(pod_stats(&node, pod).linux.unwrap().memory.expect("memory").working_set_bytes);
    assert!(working(&large.id) >= 48 << 20);
    assert!(working(&small.id) < 48 << 20);
    node.finish();
}

#[test]
fn bytes_on_the_pods_interface_are_counted_and_the_namespace_goes_with_the_pod() {
    let Some(node) = bridged(&[PROBE]) else { return };
    let pod = run(&node, "web");
    let network = |node: &Node| pod_stats(node, &pod.id).linux.unwrap().network.expect("a network");
    let before = network(&node).default_interface.expect("eth0");
    assert_eq!(before.name, "eth0");
    let inside = pod_netns(&node);
    netns::inside(&inside, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..100 {
            socket.send_to(&[7; 1000], "10.88.0.1:9").unwrap();
        }
    });
    let kernel = |direction: &str| {
        let output = netns::inside(&inside, || {
            std::process::Command::new("ip").args(["-j", "-s", "link", "show", "eth0"]).output().expect("ip runs")
        });
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).expect("its output");
        links[0]["stats64"][direction]["bytes"].as_u64().expect("a counter")
    };
    let (low, after, high) = (kernel("tx"), network(&node), kernel("tx"));
    let interface = after.default_interface.expect("eth0");
    assert!((low..=high).contains(&value(interface.tx_bytes)), "{low} {interface:?} {high}");
    assert!(value(interface.tx_bytes) >= value(before.tx_bytes) + 100_000, "{interface:?} after {before:?}");
    assert_eq!((value(interface.tx_errors), value(interface.rx_errors)), (0, 0));
    assert!(after.interfaces.is_empty(), "the loopback does not count");
    assert!(after.timestamp > 0);

    let held = || {
        crate::harness::process::descriptors(node.daemon_pid())
            .into_iter()
            .filter(|path| path.ends_with("net/dev"))
            .collect::<Vec<_>>()
    };
    assert_eq!(held().len(), 1, "the file stays open while the pod is ready");
    node.stop_pod(&pod.id).unwrap();
    assert_eq!(held(), Vec::<PathBuf>::new());
    node.finish();
}

#[test]
fn descriptors_of_containers_are_closed_with_their_end() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let open = || {
        let below = Path::new("/sys/fs/cgroup");
        let all = crate::harness::process::descriptors(node.daemon_pid());
        all.into_iter().filter(|path| path.starts_with(below)).collect::<Vec<_>>()
    };
    let before = open();
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
    list(&node, None);
    list_pods(&node, None);
    let while_it_runs = open();
    assert!(while_it_runs.len() > before.len(), "{while_it_runs:?}");
    list(&node, None);
    list_pods(&node, None);
    assert_eq!(open().len(), while_it_runs.len(), "a second look opens nothing");
    node.stop_container(&id, 0).unwrap();
    until("the container's are closed", || !open().iter().any(|path| path.display().to_string().contains(&id)));
    node.stop_pod(&pod.id).unwrap();
    assert_eq!(open(), before);
    node.finish();
}

#[test]
fn a_daemon_that_starts_again_counts_on_from_the_kernels_counters() {
    let Some(mut node) = Node::with(&[SPIN]) else { return };
    let pod = node.pod("busy");
    let id = node.launch(&pod, &SPIN.container("main", &[]));
    eventually("a rate", || stats(&node, &id).cpu.unwrap().usage_nano_cores);
    let before = value(stats(&node, &id).cpu.unwrap().usage_core_nano_seconds);
    node.restart_daemon();
    let after = stats(&node, &id).cpu.expect("cpu");
    assert!(value(after.usage_core_nano_seconds) >= before);
    assert_eq!(after.usage_nano_cores, None);
    eventually("a rate again", || stats(&node, &id).cpu.unwrap().usage_nano_cores);
    assert_eq!(list_pods(&node, None).len(), 1);
    node.finish();
}

#[test]
fn fifty_containers_are_measured_at_once_while_others_come_and_go() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pods: Vec<_> = (0..5).map(|pod| node.pod(&format!("p{pod}"))).collect();
    let mut kept = Vec::new();
    for pod in &pods {
        for container in 0..10 {
            kept.push(node.launch(pod, &PROBE.container(&format!("c{container}"), &["sleep", "forever"])));
        }
    }
    kept.sort();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0..15 {
                let id = node.launch(&pods[turn % 5], &PROBE.container(&format!("short{turn}"), &["echo", "hi"]));
                node.wait_exit(&id);
                node.remove_container(&id).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let all = list(&node, None);
            for stats in &all {
                let name = &stats.attributes.as_ref().expect("attributes").metadata.as_ref().expect("a name").name;
                assert!(stats.cpu.is_some() && stats.memory.is_some(), "{name}");
            }
            let found = ids(&all);
            assert!(kept.iter().all(|id| found.contains(id)), "all of those that stay are there");
            let in_pods: usize = list_pods(&node, None).iter().map(|stats| stats.linux.as_ref().unwrap().containers.len()).sum();
            assert!(in_pods >= 50, "{in_pods}");
        }
    });
    assert_eq!(ids(&list(&node, None)), kept);
    node.finish();
}
