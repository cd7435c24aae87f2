//! The daemon's own numbers over HTTP: that they are there where the configuration says so, and that they count what happens.

use std::net::SocketAddr;

use crate::harness::guests::{FIRST_LINE, TRAP_UNREACHABLE};
use crate::harness::http::{Answer, request};
use crate::harness::wait::eventually;
use crate::harness::{Node, Options, cri};

const ON: &str = "[metrics]\naddress = '127.0.0.1:0'\n";

fn options() -> Options<'static> {
    Options { config: ON, ..Default::default() }
}

/// Where the daemon says that it serves them; of several starts the last.
fn address(node: &Node) -> SocketAddr {
    eventually("the metrics are served", || {
        let log = node.daemon_log();
        let line = log.lines().rev().find(|line| line.contains("serving metrics"))?;
        line.split("address=").nth(1)?.split_whitespace().next()?.parse().ok()
    })
}

fn scrape(node: &Node) -> Answer {
    let answer = request(address(node), "GET", "/metrics", &[], &[]);
    assert_eq!(answer.status, 200);
    answer
}

/// The value of a series, written as it is served; 0 where it is not there yet.
fn value(node: &Node, series: &str) -> f64 {
    let text = String::from_utf8(scrape(node).body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn metrics_are_served_in_openmetrics_only_where_they_are_asked_for() {
    let Some(node) = Node::start_with(&options()) else { return };
    let answer = scrape(&node);
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0"));
    let text = String::from_utf8(answer.body).unwrap();
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains(&format!("cri_wasm_build_info{{version=\"{}\"}} 1\n", env!("CARGO_PKG_VERSION"))), "{text}");
    assert_eq!(request(address(&node), "GET", "/", &[], &[]).status, 404);
    assert_eq!(request(address(&node), "POST", "/metrics", &[], &[]).status, 405);
    node.finish();
    let Some(silent) = Node::start() else { return };
    assert!(!silent.daemon_log().contains("serving metrics"));
    silent.finish();
}

#[test]
fn a_life_of_a_pod_is_counted() {
    let Some(node) = Node::with_options(&options(), &[FIRST_LINE, TRAP_UNREACHABLE]) else { return };
    let pods = "cri_wasm_sandboxes{state=\"ready\"}";
    let exited = "cri_wasm_containers{state=\"exited\"}";
    assert_eq!((value(&node, pods), value(&node, exited)), (0.0, 0.0));
    let pod = node.pod("counted");
    assert_eq!(node.run(&pod, &FIRST_LINE.container("hello", &[])).status.exit_code, 0);
    assert_eq!((value(&node, pods), value(&node, exited)), (1.0, 1.0));
    assert_eq!(value(&node, "cri_wasm_containers{state=\"running\"}"), 0.0);
    assert_eq!(value(&node, "cri_wasm_guests_exited_total{reason=\"Completed\"}"), 1.0);
    node.run(&pod, &TRAP_UNREACHABLE.container("trap", &[]));
    assert_eq!(value(&node, "cri_wasm_guests_exited_total{reason=\"Trap\"}"), 1.0);
    assert_eq!(value(&node, exited), 2.0);
    assert_eq!(value(&node, "cri_wasm_guests_started_total"), 2.0);
    assert_eq!(value(&node, "cri_wasm_guest_launch_duration_seconds_count"), 2.0);
    assert_eq!(value(&node, "cri_wasm_rpcs_total{method=\"RunPodSandbox\",code=\"OK\"}"), 1.0);
    assert_eq!(value(&node, "cri_wasm_rpc_duration_seconds_count{method=\"StartContainer\"}"), 2.0);
    assert_eq!(value(&node, "cri_wasm_rpcs_in_flight"), 0.0);
    assert_eq!(value(&node, "cri_wasm_supervisor_up"), 1.0);
    assert!(value(&node, "cri_wasm_record_commits_total") >= 4.0);
    assert!(value(&node, "process_resident_memory_bytes") > 1e6);
    assert!(value(&node, "process_open_fds") > 3.0);
    assert!(node.pod_status("none").is_err());
    assert_eq!(value(&node, "cri_wasm_rpcs_total{method=\"PodSandboxStatus\",code=\"NotFound\"}"), 1.0);
    node.remove_pod(&pod.id).unwrap();
    assert_eq!((value(&node, pods), value(&node, exited)), (0.0, 0.0));
    eventually("the mirror has everything", || (value(&node, "cri_wasm_record_mirror_pending") == 0.0).then_some(()));
    assert_eq!(value(&node, "cri_wasm_record_mirror_lag_seconds"), 0.0);
    node.finish();
}

#[test]
fn pulls_and_code_are_counted_and_the_store_is_measured() {
    let Some(node) = Node::with_options(&options(), &[FIRST_LINE]) else { return };
    assert_eq!(value(&node, "cri_wasm_pulls_total{result=\"ok\"}"), 1.0);
    assert_eq!(value(&node, "cri_wasm_compiles_total{result=\"ok\"}"), 1.0);
    assert_eq!(value(&node, "cri_wasm_code_lookups_total{result=\"miss\"}"), 1.0);
    let received = value(&node, "cri_wasm_pull_received_bytes_total");
    assert!(received > 100.0, "{received}");
    eventually("the store is measured after a pull", || (value(&node, "cri_wasm_image_store_bytes") > received).then_some(()));
    assert_eq!(value(&node, "cri_wasm_images"), 1.0);
    assert!(node.pull("127.0.0.1:1/nobody:1").is_err());
    assert_eq!(value(&node, "cri_wasm_pulls_total{result=\"error\"}"), 1.0);
    let pod = node.pod("again");
    node.run(&pod, &FIRST_LINE.container("hello", &[]));
    // One of CreateContainer, which looks what it is, and one of StartContainer.
    assert_eq!(value(&node, "cri_wasm_code_lookups_total{result=\"hit\"}"), 2.0);
    assert_eq!(value(&node, "cri_wasm_code_lookups_total{result=\"miss\"}"), 1.0);
    node.finish();
}

#[test]
fn objects_that_a_restarted_daemon_finds_are_counted_again() {
    let Some(mut node) = Node::start_with(&options()) else { return };
    let pod = node.pod("kept");
    node.restart_daemon();
    eventually("the new daemon serves them", || (node.daemon_log().matches("serving metrics").count() == 2).then_some(()));
    assert_eq!(value(&node, "cri_wasm_sandboxes{state=\"ready\"}"), 1.0);
    assert_eq!(value(&node, "cri_wasm_rpcs_total{method=\"RunPodSandbox\",code=\"OK\"}"), 0.0);
    node.stop_pod(&pod.id).unwrap();
    assert_eq!(value(&node, "cri_wasm_sandboxes{state=\"not_ready\"}"), 1.0);
    node.finish();
}

#[test]
fn a_port_that_is_taken_keeps_no_pod_from_running() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!("[metrics]\naddress = '{}'\n", taken.local_addr().unwrap());
    let Some(node) = Node::start_with(&Options { config: &config, ..Default::default() }) else { return };
    node.pod("runs");
    eventually("it is told", || node.daemon_log().contains("metrics are not served").then_some(()));
    node.client.version(cri::VersionRequest::default()).unwrap();
    node.finish();
}
