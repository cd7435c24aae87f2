//! What the runtime says of itself: Version, Status, RuntimeConfig, and what it does not do yet.

use tonic::Code;

use crate::harness::node::PROGRAM;
use crate::harness::{Node, cri};

fn status(node: &Node, verbose: bool) -> cri::StatusResponse {
    node.client.status(cri::StatusRequest { verbose }).expect("Status")
}

fn condition(status: &cri::StatusResponse, kind: &str) -> cri::RuntimeCondition {
    let conditions = &status.status.as_ref().expect("a status").conditions;
    conditions.iter().find(|condition| condition.r#type == kind).cloned().expect("the condition")
}

#[test]
fn version_names_the_runtime_and_the_api_that_kubelets_ask_for() {
    let Some(node) = Node::start() else { return };
    for asked in ["", "0.1.0", "v1"] {
        let version = node.client.version(cri::VersionRequest { version: asked.into() }).unwrap();
        // With anything else in `version` a kubelet ends at its start.
        assert_eq!(version.version, "0.1.0");
        assert_eq!(version.runtime_api_version, "v1");
        assert_eq!(version.runtime_name, "cri-wasm");
        assert_eq!(version.runtime_version, env!("CARGO_PKG_VERSION"));
    }
    node.finish();
}

#[test]
fn status_has_both_conditions_and_the_reason_of_the_one_that_is_not_met() {
    let Some(node) = Node::start() else { return };
    let status = status(&node, false);
    assert!(condition(&status, "RuntimeReady").status);
    let network = condition(&status, "NetworkReady");
    // The test's CNI directory is empty.
    assert!(!network.status);
    assert!(!network.reason.is_empty() && !network.reason.contains(' '), "{network:?}");
    assert!(network.message.contains(&node.place.files.join("cni").display().to_string()), "{network:?}");
    assert!(status.info.is_empty(), "only where verbose is asked for");
    node.finish();
}

#[test]
fn status_lists_the_default_handlers_and_only_features_that_are_there() {
    let Some(node) = Node::start() else { return };
    let status = status(&node, false);
    let mut names: Vec<&str> = status.runtime_handlers.iter().map(|handler| handler.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["", "wasm", "wasm-compat"]);
    let features = status.features.expect("features");
    assert!(features.supplemental_groups_policy);
    for handler in &status.runtime_handlers {
        let of_handler = handler.features.expect("features");
        assert!(of_handler.recursive_read_only_mounts);
        // Whether it is so depends on the kernel, which is asked once; tests/suite/userns.rs uses it.
        assert_eq!(of_handler.user_namespaces, features.user_namespaces_host_network);
    }
    node.finish();
}

#[test]
fn handlers_come_from_the_configuration() {
    let options = crate::harness::Options { config: "[handlers.edge]\n", ..Default::default() };
    let Some(node) = Node::start_with(&options) else { return };
    let names: Vec<String> = status(&node, false).runtime_handlers.into_iter().map(|handler| handler.name).collect();
    assert_eq!(names, ["edge"]);
    let config = node.pod_config("web");
    let run = |handler: &str| {
        node.client.run_pod_sandbox(cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.into() })
    };
    assert!(run("").is_err(), "the default handler is not configured");
    let id = run("edge").unwrap().pod_sandbox_id;
    assert_eq!(node.pod_status(&id).unwrap().runtime_handler, "edge");
    assert_eq!(node.pods(None)[0].runtime_handler, "edge");
    node.finish();
}

#[test]
fn verbose_status_tells_more_as_json() {
    let Some(node) = Node::start() else { return };
    let status = status(&node, true);
    assert!(!status.info.is_empty());
    for (topic, text) in &status.info {
        assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{topic} is JSON: {text}");
    }
    node.finish();
}

#[test]
fn the_cgroup_driver_is_cgroupfs_and_said_so() {
    let Some(node) = Node::start() else { return };
    let config = node.client.runtime_config(cri::RuntimeConfigRequest {}).unwrap();
    // An empty message would mean systemd, the enum's zero, and end a kubelet here.
    assert_eq!(config.linux.expect("Linux").cgroup_driver(), cri::CgroupDriver::Cgroupfs);
    node.finish();
}

#[test]
fn the_nodes_pod_range_is_taken_note_of() {
    let Some(node) = Node::start() else { return };
    for network in [None, Some(cri::NetworkConfig { pod_cidr: "10.1.2.0/24".into() })] {
        let runtime_config = Some(cri::RuntimeConfig { network_config: network });
        node.client.update_runtime_config(cri::UpdateRuntimeConfigRequest { runtime_config }).unwrap();
    }
    node.finish();
}

#[test]
fn what_is_not_there_yet_is_unimplemented_and_nothing_else() {
    let Some(node) = Node::start() else { return };
    let code = |result: Result<(), tonic::Status>| result.expect_err("not implemented yet").code();
    assert_eq!(code(node.client.checkpoint_container(Default::default()).map(drop)), Code::Unimplemented);
    node.finish();
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused_and_the_first_lives_on() {
    let Some(node) = Node::start() else { return };
    let output = std::process::Command::new(PROGRAM).args(["serve", "--config"]).arg(node.config_file()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("another daemon"), "{said}");
    node.client.version(Default::default()).unwrap();
    node.finish();
}

#[test]
fn sigterm_ends_the_daemon_well_and_takes_its_socket_along() {
    let Some(mut node) = Node::start() else { return };
    assert!(node.terminate_daemon().success());
    assert!(!node.place.state.join("cri.sock").exists());
    node.start_daemon();
    node.finish();
}
