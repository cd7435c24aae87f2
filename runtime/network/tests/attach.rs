//! ADD, CHECK and DEL as plugins see them.

use std::fs;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::{NetworkError, PortMapping, Protocol, netns};
use super::{Node, is_root, skip};

#[tokio::test]
async fn plugins_are_called_in_order_and_each_gets_the_result_before_it() {
    let node = Node::with_network("1.0.0");
    let pod = node.pod("a");
    let attachment = node.network().add(&pod).await.unwrap();
    assert_eq!(attachment.ips, ["10.0.0.9".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((attachment.network.as_str(), attachment.interface.as_str()), ("net", "eth0"));
    assert_eq!(node.calls(), ["ADD first", "ADD second"]);
    let first = json!({ "type": "first", "color": "red", "name": "net", "cniVersion": "1.0.0" });
    assert_eq!(node.given("first", "ADD"), first);
    let second = node.given("second", "ADD");
    assert_eq!(second["prevResult"]["by"], "first");
    assert_eq!(second["prevResult"]["cniVersion"], "1.0.0");
    assert_eq!(second.get("capabilities"), None);
    assert_eq!(second.get("runtimeConfig"), None);
}

#[tokio::test]
async fn plugins_see_the_pod_in_their_environment() {
    let node = Node::with_network("1.0.0");
    node.network().add(&node.pod("a")).await.unwrap();
    let path = node.path("");
    let path = path.to_str().unwrap();
    assert_eq!(
        node.environment("first", "ADD"),
        [
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-a;\
             K8S_POD_INFRA_CONTAINER_ID=a;K8S_POD_UID=uid-a"
                .to_owned(),
            "CNI_COMMAND=ADD".to_owned(),
            "CNI_CONTAINERID=a".to_owned(),
            "CNI_IFNAME=eth0".to_owned(),
            format!("CNI_NETNS={path}netns/cri-wasm-a"),
            format!("CNI_PATH={path}nowhere:{path}bin"),
        ]
    );
}

#[tokio::test]
async fn a_plugin_gets_the_capability_arguments_that_it_asks_for_and_no_others() {
    let node = Node::with_network("1.0.0");
    let mut pod = node.pod("a");
    pod.port_mappings = vec![PortMapping { protocol: Protocol::Udp, container_port: 53, host_port: 5353, host_ip: None }];
    pod.ingress_bps = Some(1_000_000);
    let network = node.network();
    network.add(&pod).await.unwrap();
    let expected = json!({ "portMappings": [{ "hostPort": 5353, "containerPort": 53, "protocol": "udp" }] });
    assert_eq!(node.given("second", "ADD")["runtimeConfig"], expected);
    assert_eq!(node.given("first", "ADD").get("runtimeConfig"), None);
    // Those of ADD, even if the caller does not know them any more.
    network.remove(&node.pod("a")).await.unwrap();
    assert_eq!(node.given("second", "DEL")["runtimeConfig"], expected);
}

#[tokio::test]
async fn the_record_is_libcnis_and_goes_with_the_attachment() {
    let node = Node::with_network("1.0.0");
    let mut pod = node.pod("a");
    pod.egress_bps = Some(1_000_000);
    let network = node.network();
    network.add(&pod).await.unwrap();
    assert_eq!(node.records(), ["net-a-eth0"]);
    let record: Value = serde_json::from_slice(&fs::read(node.path("cache/results/net-a-eth0")).unwrap()).unwrap();
    let file = fs::read(node.path("conf/10-net.conflist")).unwrap();
    assert_eq!(
        record,
        json!({
            "kind": "cniCacheV1",
            "containerId": "a",
            "config": STANDARD.encode(file),
            "ifName": "eth0",
            "networkName": "net",
            "netns": pod.netns,
            "cniArgs": [
                ["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "pod-a"],
                ["K8S_POD_INFRA_CONTAINER_ID", "a"], ["K8S_POD_UID", "uid-a"],
            ],
            "capabilityArgs": { "bandwidth": { "egressRate": 1_000_000, "egressBurst": 4_294_967_295_u64 } },
            "result": {
                "cniVersion": "1.0.0", "by": "second",
                "interfaces": [{ "name": "eth0", "sandbox": "x" }],
                "ips": [{ "address": "10.0.0.9/24", "interface": 0 }],
            },
        })
    );
    network.remove(&pod).await.unwrap();
    assert!(node.records().is_empty());
}

#[tokio::test]
async fn removal_goes_backwards_with_the_cached_result_and_can_be_repeated() {
    let node = Node::with_network("0.4.0");
    let (network, pod) = (node.network(), node.pod("a"));
    network.add(&pod).await.unwrap();
    node.calls();
    network.remove(&pod).await.unwrap();
    assert_eq!(node.calls(), ["DEL second", "DEL first"]);
    for plugin in ["first", "second"] {
        assert_eq!(node.given(plugin, "DEL")["prevResult"]["by"], "second");
    }
    network.remove(&pod).await.unwrap();
    assert_eq!(node.given("first", "DEL").get("prevResult"), None);
}

#[tokio::test]
async fn networks_before_0_4_0_get_no_result_at_removal_and_no_check() {
    let node = Node::with_network("0.3.1");
    let (network, pod) = (node.network(), node.pod("a"));
    network.add(&pod).await.unwrap();
    assert_eq!(node.given("second", "ADD")["prevResult"]["cniVersion"], "0.3.1");
    node.calls();
    network.check(&pod).await.unwrap();
    assert!(node.calls().is_empty());
    network.remove(&pod).await.unwrap();
    assert_eq!(node.given("second", "DEL").get("prevResult"), None);
}

#[tokio::test]
async fn removal_uses_the_configuration_of_the_attachment_after_it_changed_or_went() {
    let node = Node::with_network("1.0.0");
    let (network, pod) = (node.network(), node.pod("a"));
    network.add(&pod).await.unwrap();
    fs::remove_dir_all(node.path("conf")).unwrap();
    drop(network);
    // After a restart, with nothing in memory and nothing in the directory.
    let network = node.network();
    assert!(!network.status().ready);
    node.calls();
    network.remove(&pod).await.unwrap();
    assert_eq!(node.calls(), ["DEL second", "DEL first"]);
    assert_eq!(node.given("first", "DEL")["color"], "red");
    assert!(node.records().is_empty());

    fs::create_dir(node.path("conf")).unwrap();
    node.conf("10-a.conf", &json!({ "cniVersion": "1.0.0", "name": "old", "type": "first" }));
    let network = node.network();
    network.add(&pod).await.unwrap();
    fs::remove_file(node.path("conf/10-a.conf")).unwrap();
    node.conf("10-b.conf", &json!({ "cniVersion": "1.0.0", "name": "new", "type": "second" }));
    node.calls();
    node.network().remove(&pod).await.unwrap();
    assert_eq!(node.calls(), ["DEL first"]);
    assert!(node.records().is_empty());
}

#[tokio::test]
async fn removal_of_a_sandbox_without_record_asks_the_plugins_all_the_same() {
    let node = Node::with_network("1.0.0");
    node.network().remove(&node.pod("a")).await.unwrap();
    assert_eq!(node.calls(), ["DEL second", "DEL first"]);
    let node = Node::new();
    node.network().remove(&node.pod("a")).await.unwrap();
}

#[tokio::test]
async fn removal_tells_whether_the_namespace_is_still_there() {
    if !is_root() {
        return skip("removal_tells_whether_the_namespace_is_still_there", "root");
    }
    let node = Node::with_network("1.0.0");
    let (network, pod) = (node.network(), node.pod("a"));
    let path = netns::create(&node.path("netns"), &netns::name("a"), &[]).unwrap();
    assert_eq!(path, pod.netns);
    network.add(&pod).await.unwrap();
    network.remove(&pod).await.unwrap();
    assert!(node.environment("first", "DEL").contains(&format!("CNI_NETNS={}", path.display())));
    netns::remove(&path).unwrap();
    network.remove(&pod).await.unwrap();
    assert!(node.environment("first", "DEL").contains(&"CNI_NETNS=".to_owned()));
}

#[tokio::test]
async fn check_asks_forwards_with_the_cached_result() {
    let node = Node::with_network("1.0.0");
    let (network, pod) = (node.network(), node.pod("a"));
    assert!(matches!(network.check(&pod).await, Err(NetworkError::NotAttached(_))));
    network.add(&pod).await.unwrap();
    assert_eq!(node.calls(), ["ADD first", "ADD second"], "CHECK is never called unasked");
    network.check(&pod).await.unwrap();
    assert_eq!(node.calls(), ["CHECK first", "CHECK second"]);
    assert_eq!(node.given("first", "CHECK")["prevResult"]["by"], "second");
    node.act("second", "CHECK", r#"echo '{"code":100,"msg":"no route"}'; exit 1"#);
    assert!(matches!(network.check(&pod).await, Err(NetworkError::Check { .. })));
}

#[tokio::test]
async fn check_can_be_forbidden_by_the_configuration() {
    let node = Node::new();
    node.plugin("first");
    let list = json!({ "cniVersion": "1.0.0", "name": "net", "disableCheck": "true", "plugins": [{ "type": "first" }] });
    node.conf("10-net.conflist", &list);
    let (network, pod) = (node.network(), node.pod("a"));
    network.add(&pod).await.unwrap();
    node.calls();
    network.check(&pod).await.unwrap();
    assert!(node.calls().is_empty());
}

#[tokio::test]
async fn a_sandbox_is_attached_once() {
    let node = Node::with_network("1.0.0");
    let (network, pod) = (node.network(), node.pod("a"));
    network.add(&pod).await.unwrap();
    node.calls();
    assert!(matches!(network.add(&pod).await, Err(NetworkError::AlreadyAttached { .. })));
    assert!(node.calls().is_empty());
    assert_eq!(node.records(), ["net-a-eth0"]);
}

#[tokio::test]
async fn calls_for_one_sandbox_wait_for_each_other_and_sandboxes_do_not() {
    let node = Node::with_network("1.0.0");
    node.act("first", "ADD", "sleep 0.4");
    let network = node.network();
    let (one, other) = (node.pod("a"), node.pod("b"));
    let started = std::time::Instant::now();
    let (added, removed, beside) = tokio::join!(
        network.add(&one),
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            network.remove(&one).await
        },
        network.add(&other),
    );
    added.unwrap();
    removed.unwrap();
    beside.unwrap();
    let calls = node.calls();
    let place = |call: &str| calls.iter().position(|found| found == call).unwrap();
    assert!(place("DEL second") > place("ADD second"), "{calls:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(node.records(), ["net-b-eth0"]);
}

#[tokio::test]
async fn an_add_that_is_broken_off_can_be_removed_by_the_next_daemon() {
    let node = Node::with_network("1.0.0");
    node.act("second", "ADD", "sleep 60");
    let (network, pod) = (node.network(), node.pod("a"));
    let started = async {
        while !node.path("notes/second.ADD.env").exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = network.add(&pod) => panic!("the plugin sleeps"),
        () = started => {}
    }
    assert_eq!(node.records(), ["net-a-eth0"]);
    node.calls();
    node.network().remove(&pod).await.unwrap();
    assert_eq!(node.calls(), ["DEL second", "DEL first"]);
    assert!(node.records().is_empty());
}
