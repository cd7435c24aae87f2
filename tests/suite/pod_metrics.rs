//! What ListMetricDescriptors and ListPodSandboxMetrics tell, by the rules of those who read it.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::guests::{PROBE, TRAP_UNREACHABLE};
use crate::harness::image::Layered;
use crate::harness::registry::Registry;
use crate::harness::{Node, container, cri, until};
use crate::network::{bridged, run};

/// What critest expects of every runtime, each with a value for a running pod.
const EXPECTED: &str = "cpu_cfs_periods_total cpu_cfs_throttled_periods_total cpu_cfs_throttled_seconds_total \
    cpu_system_seconds_total cpu_usage_seconds_total cpu_user_seconds_total file_descriptors fs_inodes_free fs_inodes_total \
    fs_limit_bytes fs_usage_bytes last_seen memory_cache memory_failcnt memory_failures_total memory_kernel_usage \
    memory_mapped_file memory_max_usage_bytes memory_rss memory_swap memory_usage_bytes memory_working_set_bytes \
    network_receive_bytes_total network_receive_errors_total network_receive_packets_dropped_total \
    network_receive_packets_total network_transmit_bytes_total network_transmit_errors_total \
    network_transmit_packets_dropped_total network_transmit_packets_total oom_events_total processes sockets spec_cpu_period \
    spec_cpu_shares spec_memory_limit_bytes spec_memory_swap_limit_bytes start_time_seconds threads threads_max";

/// Those that it wants described, and that have a value only where the kernel counts by device.
const WITHOUT_VALUE: &str = "blkio_device_usage_total fs_reads_bytes_total fs_reads_total fs_writes_bytes_total fs_writes_total";

/// Those that depend on the kernel or on the container and need not be there.
const OPTIONAL: &str = "pressure_cpu_stalled_seconds_total pressure_cpu_waiting_seconds_total pressure_io_stalled_seconds_total \
    pressure_io_waiting_seconds_total pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total spec_cpu_quota";

fn names(list: &str) -> BTreeSet<String> {
    list.split_whitespace().map(|name| format!("container_{name}")).collect()
}

fn descriptors(node: &Node) -> BTreeMap<String, Vec<String>> {
    let described = node.client.list_metric_descriptors(Default::default()).expect("ListMetricDescriptors").descriptors;
    let mut found = BTreeMap::new();
    for descriptor in described {
        assert!(!descriptor.help.is_empty() && !descriptor.label_keys.is_empty(), "{}", descriptor.name);
        assert!(found.insert(descriptor.name.clone(), descriptor.label_keys).is_none(), "{} twice", descriptor.name);
    }
    found
}

fn all(node: &Node) -> Vec<cri::PodSandboxMetrics> {
    node.client.list_pod_sandbox_metrics(Default::default()).expect("ListPodSandboxMetrics").pod_metrics
}

/// The metrics of everybody, a line each.
fn lines(pods: &[cri::PodSandboxMetrics]) -> impl Iterator<Item = &cri::Metric> {
    pods.iter().flat_map(|pod| pod.metrics.iter().chain(pod.container_metrics.iter().flat_map(|of| &of.metrics)))
}

/// Values of one metric of a container.
fn values(node: &Node, container: &str, name: &str) -> Vec<u64> {
    let pods = all(node);
    let of = pods.iter().flat_map(|pod| &pod.container_metrics).find(|metrics| metrics.container_id == container);
    let of = of.expect("the container has metrics");
    of.metrics.iter().filter(|metric| metric.name == name).map(|metric| metric.value.as_ref().expect("a value").value).collect()
}

fn value(node: &Node, container: &str, name: &str) -> u64 {
    let found = values(node, container, name);
    let [value] = found[..] else { panic!("one {name}, not {found:?}") };
    value
}

#[test]
fn every_metric_is_described_and_has_a_value_for_a_running_pod() {
    let Some(node) = bridged(&[PROBE]) else { return };
    let pods = [run(&node, "web"), run(&node, "db")];
    let mut ids = Vec::new();
    for pod in &pods {
        ids.push(node.launch(pod, &PROBE.container("main", &["write", "/file", "text", "+", "sleep", "forever"])));
        ids.push(node.launch(pod, &PROBE.container("side", &["sleep", "forever"])));
    }
    let described = descriptors(&node);
    let known: BTreeSet<String> = described.keys().cloned().collect();
    let expected: BTreeSet<String> = names(EXPECTED).union(&names(WITHOUT_VALUE)).cloned().collect();
    assert_eq!(expected.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "critest wants them described");

    let pods = all(&node);
    assert_eq!(pods.len(), 2);
    let mut seen = BTreeSet::new();
    for metric in lines(&pods) {
        let keys = described.get(&metric.name).unwrap_or_else(|| panic!("{} is described", metric.name));
        // The kubelet gives the whole scrape up for one of these.
        assert_eq!(metric.label_values.len(), keys.len(), "{metric:?}");
        assert!(seen.insert((metric.name.clone(), metric.label_values.clone())), "twice: {metric:?}");
        assert!(metric.value.is_some(), "{metric:?}");
    }
    let may_lack: BTreeSet<String> = names(OPTIONAL).union(&names(WITHOUT_VALUE)).cloned().collect();
    for pod in &pods {
        let told: BTreeSet<String> = lines(std::slice::from_ref(pod)).map(|metric| metric.name.clone()).collect();
        let lacking: Vec<_> = known.difference(&told).filter(|name| !may_lack.contains(*name)).collect();
        assert!(lacking.is_empty(), "without a value: {lacking:?}");
        let mut of: Vec<_> = pod.container_metrics.iter().map(|metrics| metrics.container_id.clone()).collect();
        of.sort();
        assert!(of.iter().all(|id| ids.contains(id)) && of.len() == 2);
    }
    let cpu = lines(&pods).find(|metric| metric.name == "container_cpu_usage_seconds_total").unwrap();
    let labels: BTreeMap<_, _> = described[&cpu.name].iter().zip(&cpu.label_values).collect();
    let label = |key: &str| labels[&key.to_owned()].as_str();
    assert_eq!((label("namespace"), label("cpu")), ("suite", "total"));
    assert!(["web", "db"].contains(&label("pod")) && ["main", "side"].contains(&label("container")), "{labels:?}");
    assert!(label("image").contains("probe") && ids.contains(&label("name").to_owned()), "{labels:?}");

    node.stop_pod(&pods[0].pod_sandbox_id).unwrap();
    assert_eq!(all(&node).len(), 1, "only pods that are ready");
    node.finish();
}

#[test]
fn metrics_of_a_container_are_its_own() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let mut config = PROBE.container("main", &["eat-memory", "20M"]);
    config.linux.as_mut().unwrap().resources = Some(cri::LinuxContainerResources {
        memory_limit_in_bytes: 256 << 20,
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        ..Default::default()
    });
    let id = node.launch(&pod, &config);
    node.wait_stdout(&id, "ate 20971520 bytes\n");
    assert_eq!(value(&node, &id, "container_spec_memory_limit_bytes"), 256 << 20);
    assert_eq!(value(&node, &id, "container_spec_cpu_shares"), 512);
    assert_eq!(value(&node, &id, "container_spec_cpu_quota"), 50_000);
    assert_eq!(value(&node, &id, "container_spec_cpu_period"), 100_000);
    assert!(value(&node, &id, "container_memory_max_usage_bytes") >= 20 << 20);
    assert_eq!(value(&node, &id, "container_processes"), 1);
    assert!(value(&node, &id, "container_threads") >= 1);
    assert!(value(&node, &id, "container_file_descriptors") >= 3);
    assert!(value(&node, &id, "container_sockets") >= 1, "its control socket");
    assert_eq!(value(&node, &id, "container_oom_events_total"), 0);
    let started = u64::try_from(node.status(&id).started_at).unwrap() / 1_000_000_000;
    assert_eq!(value(&node, &id, "container_start_time_seconds"), started);
    assert_eq!(values(&node, &id, "container_memory_failures_total").len(), 2);
    node.finish();
}

#[test]
fn linear_memory_instances_and_traps_of_guests_are_counted() {
    let Some(mut node) = Node::with(&[PROBE, TRAP_UNREACHABLE]) else { return };
    let pod = node.pod("wasm");
    let small = node.launch(&pod, &PROBE.container("small", &["sleep", "forever"]));
    let large = node.launch(&pod, &PROBE.container("large", &["eat-memory", "20M"]));
    node.wait_stdout(&large, "ate 20971520 bytes\n");
    let memory = |node: &Node, id: &str| value(node, id, "container_wasm_linear_memory_bytes");
    assert!((20 << 20..40 << 20).contains(&memory(&node, &large)), "{}", memory(&node, &large));
    let first = memory(&node, &small);
    assert!(first > 0 && first < 20 << 20 && first.is_multiple_of(65_536), "{first}");
    assert!(value(&node, &small, "container_wasm_table_elements") > 0, "Rust has a table of functions");
    // What its own process said is there for another daemon, too.
    node.restart_daemon();
    assert_eq!(memory(&node, &small), first);

    let image = Layered::new().file("/bin/probe", &PROBE.wasm().unwrap()).env(&["PATH=/bin"]).build();
    let registry = Registry::shared().unwrap();
    registry.push("metrics/tools", "1", &image);
    node.pull(&registry.reference("metrics/tools:1")).unwrap();
    let config = container(&registry.reference("metrics/tools:1"), "tools", &["probe", "sleep", "forever"]);
    let tools = node.launch(&pod, &config);
    let instances = || value(&node, &tools, "container_wasm_instances");
    assert_eq!(instances(), 1);
    std::thread::scope(|scope| {
        let command = scope.spawn(|| node.try_exec(&tools, &["probe", "sleep", "forever"], 3));
        until("the command is counted", || instances() == 2);
        assert!(command.join().unwrap().is_err(), "it takes too long");
    });
    until("it has ended", || instances() == 1);

    let mut crash = TRAP_UNREACHABLE.container("crash", &[]);
    for attempt in 0..2 {
        crash.metadata.as_mut().unwrap().attempt = attempt;
        let ended = node.run(&pod, &crash);
        assert_eq!(ended.status.reason, "Trap");
    }
    let mut running = PROBE.container("crash", &["sleep", "forever"]);
    running.metadata.as_mut().unwrap().attempt = 2;
    let running = node.launch(&pod, &running);
    assert_eq!(value(&node, &running, "container_wasm_traps_total"), 2);
    assert_eq!(value(&node, &small, "container_wasm_traps_total"), 0);
    node.finish();
}
