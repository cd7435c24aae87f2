//! What is freed, and what is left alone.

use std::fs;

use serde_json::{Value, json};

use super::super::cache::Record;
use super::super::full_text;
use super::Node;

fn valid(ids: &[&str]) -> Vec<(String, String)> {
    ids.iter().map(|id| ((*id).to_owned(), "eth0".to_owned())).collect()
}

fn told(node: &Node, plugin: &str) -> Value {
    let given = node.given(plugin, "GC");
    assert_eq!(given["cni.dev/valid-attachments"], given["cni.dev/attachments"]);
    given["cni.dev/valid-attachments"].clone()
}

#[tokio::test]
async fn stale_attachments_are_detached_before_plugins_are_told_the_valid_ones() {
    let node = Node::with_network("1.1.0");
    let network = node.network();
    for id in ["a", "b", "c"] {
        network.add(&node.pod(id)).await.unwrap();
    }
    node.calls();
    // The next daemon knows of a and c only.
    node.network().collect(&valid(&["a", "c"])).await.unwrap();
    assert_eq!(node.calls(), ["DEL second", "DEL first", "GC first", "GC second"]);
    assert!(node.environment("first", "DEL").contains(&"CNI_CONTAINERID=b".to_owned()));
    let expected = json!([{ "containerID": "a", "ifname": "eth0" }, { "containerID": "c", "ifname": "eth0" }]);
    assert_eq!(told(&node, "first"), expected);
    assert_eq!(node.given("first", "GC")["color"], "red");
    assert_eq!(node.records(), ["net-a-eth0", "net-c-eth0"]);
}

#[tokio::test]
async fn what_this_daemon_has_attached_is_valid_without_being_named() {
    let node = Node::with_network("1.1.0");
    let network = node.network();
    network.add(&node.pod("a")).await.unwrap();
    network.collect(&[]).await.unwrap();
    assert_eq!(told(&node, "second"), json!([{ "containerID": "a", "ifname": "eth0" }]));
    assert_eq!(node.records(), ["net-a-eth0"]);
    network.remove(&node.pod("a")).await.unwrap();
    network.collect(&[]).await.unwrap();
    assert_eq!(told(&node, "second"), json!([]));
}

#[tokio::test]
async fn other_runtimes_attachments_are_valid_and_left_alone() {
    let node = Node::with_network("1.1.0");
    let network = node.network();
    let mut theirs = Record::new("theirs".into(), "eth0".into(), "net".into(), b"{}".to_vec());
    theirs.netns = "/var/run/netns/cni-1234".to_owned();
    network.inner.cache.write(&theirs).unwrap();
    network.collect(&[]).await.unwrap();
    assert_eq!(node.calls(), ["GC first", "GC second"]);
    assert_eq!(told(&node, "first"), json!([{ "containerID": "theirs", "ifname": "eth0" }]));
    assert_eq!(node.records(), ["net-theirs-eth0"]);
}

#[tokio::test]
async fn networks_before_1_1_0_are_cleared_of_stale_attachments_only() {
    let node = Node::with_network("1.0.0");
    node.network().add(&node.pod("a")).await.unwrap();
    node.calls();
    node.network().collect(&[]).await.unwrap();
    assert_eq!(node.calls(), ["DEL second", "DEL first"]);
    assert!(node.records().is_empty());
}

#[tokio::test]
async fn stale_attachments_of_a_network_that_is_gone_are_detached_too() {
    let node = Node::with_network("1.0.0");
    node.network().add(&node.pod("a")).await.unwrap();
    fs::remove_file(node.path("conf/10-net.conflist")).unwrap();
    node.calls();
    node.network().collect(&[]).await.unwrap();
    assert_eq!(node.calls(), ["DEL second", "DEL first"]);
    assert!(node.records().is_empty());
}

#[tokio::test]
async fn collection_can_be_forbidden_by_the_configuration() {
    let node = Node::new();
    node.plugin("first");
    let list = json!({ "cniVersion": "1.1.0", "name": "net", "disableGC": "true", "plugins": [{ "type": "first" }] });
    node.conf("10-net.conflist", &list);
    node.network().add(&node.pod("a")).await.unwrap();
    node.calls();
    node.network().collect(&[]).await.unwrap();
    assert!(node.calls().is_empty());
    assert_eq!(node.records(), ["net-a-eth0"]);
}

#[tokio::test]
async fn one_failure_does_not_keep_the_rest_from_being_collected() {
    let node = Node::with_network("1.1.0");
    let network = node.network();
    for id in ["a", "b"] {
        network.add(&node.pod(id)).await.unwrap();
    }
    node.act("first", "DEL", r#"if [ $CNI_CONTAINERID = a ]; then echo '{"code":100,"msg":"stuck"}'; exit 1; fi"#);
    node.act("first", "GC", r#"echo '{"code":101,"msg":"locked"}'; exit 1"#);
    node.calls();
    let error = full_text(&node.network().collect(&[]).await.unwrap_err());
    assert!(
        error.starts_with("2 leftovers") && error.contains("code 100: stuck") && error.contains("code 101: locked"),
        "{error}"
    );
    assert_eq!(node.calls(), ["DEL second", "DEL first", "DEL second", "DEL first", "GC first", "GC second"]);
    assert_eq!(node.records(), ["net-a-eth0"]);
}
