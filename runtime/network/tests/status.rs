//! Readiness, and noticing changes.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::super::{Network, NetworkError, NetworkStatus};
use super::Node;

/// Runs a test beside the watching task.
async fn watched<F: Future<Output = ()>>(network: &Network, test: F) {
    let stop = CancellationToken::new();
    let watch = network.watch(stop.clone());
    tokio::join!(watch, async {
        test.await;
        stop.cancel();
    });
}

async fn until(network: &Network, what: impl Fn(&NetworkStatus) -> bool) -> NetworkStatus {
    for _ in 0..1500 {
        let status = network.status();
        if what(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it stays {:?}", network.status());
}

fn write_network(path: &Path, name: &str) {
    let list = json!({ "cniVersion": "1.0.0", "name": name, "plugins": [{ "type": "first" }] });
    fs::write(path, list.to_string()).unwrap();
}

#[tokio::test]
async fn without_configuration_the_network_is_not_ready_and_says_what_to_do() {
    let node = Node::new();
    let network = node.network();
    let status = network.status();
    assert!(!status.ready);
    assert_eq!(status.reason, "NetworkPluginNotReady");
    assert!(status.message.contains(node.path("conf").to_str().unwrap()), "{}", status.message);
    assert!(status.message.contains(".conflist"), "{}", status.message);
    assert!(matches!(network.add(&node.pod("a")).await, Err(NetworkError::NotConfigured(_))));
}

#[tokio::test]
async fn a_broken_file_is_told_beside_the_network_that_is_used() {
    let node = Node::with_network("1.0.0");
    fs::write(node.path("conf/05-broken.conflist"), "{").unwrap();
    let network = node.network();
    network.refresh().await.unwrap();
    let status = network.status();
    assert!(status.ready);
    assert!(status.message.contains("05-broken.conflist: not JSON"), "{}", status.message);
}

#[tokio::test]
async fn plugins_that_are_missing_or_too_old_make_the_network_not_ready() {
    let node = Node::with_network("1.1.0");
    node.act("second", "VERSION", r#"echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}'; exit 0"#);
    let network = node.network();
    assert!(!network.status().ready, "nobody has asked the plugins yet");
    network.refresh().await.unwrap();
    let message = network.status().message;
    assert!(message.ends_with("second speaks CNI 0.4.0, 1.0.0, but network net wants 1.1.0"), "{message}");

    fs::remove_file(node.path("bin/second")).unwrap();
    network.refresh().await.unwrap();
    assert!(network.status().message.contains("plugin second failed at VERSION: it is not in"));

    node.act_no_more("second", "VERSION");
    node.plugin("second");
    network.refresh().await.unwrap();
    assert_eq!(network.status(), NetworkStatus { ready: true, reason: String::new(), message: String::new() });
}

#[tokio::test]
async fn a_plugin_that_does_not_tell_its_versions_is_given_the_benefit_of_the_doubt() {
    let node = Node::with_network("1.0.0");
    node.act("first", "VERSION", "exit 1");
    node.act("second", "VERSION", "echo 7; exit 0");
    let network = node.network();
    network.refresh().await.unwrap();
    assert!(network.status().ready);
}

#[tokio::test]
async fn status_is_asked_from_1_1_0_on_and_decides() {
    let node = Node::with_network("1.0.0");
    node.network().refresh().await.unwrap();
    assert!(node.calls().is_empty());

    let node = Node::with_network("1.1.0");
    let network = node.network();
    network.refresh().await.unwrap();
    assert_eq!(node.calls(), ["STATUS first", "STATUS second"]);
    assert_eq!(node.given("first", "STATUS"), json!({ "type": "first", "color": "red", "name": "net", "cniVersion": "1.1.0" }));
    assert!(network.status().ready);

    node.act("first", "STATUS", r#"echo '{"code":50,"msg":"no addresses left"}'; exit 1"#);
    network.refresh().await.unwrap();
    let status = network.status();
    assert!(!status.ready);
    assert_eq!(status.reason, "NetworkPluginNotReady");
    assert_eq!(status.message, "network net: plugin first failed at STATUS: code 50: no addresses left");

    node.act("first", "STATUS", r#"echo '{"code":51,"msg":"uplink down"}'; exit 1"#);
    network.refresh().await.unwrap();
    assert!(network.status().message.contains("those it has may be cut off: uplink down"));
}

#[tokio::test]
async fn somebody_who_asks_gets_a_new_answer_soon() {
    let node = Node::with_network("1.1.0");
    node.act("first", "STATUS", "exit 1");
    let network = node.network();
    watched(&network, async {
        until(&network, |status| status.message.contains("STATUS")).await;
        node.act_no_more("first", "STATUS");
        until(&network, |status| status.ready).await;
    })
    .await;
}

#[tokio::test]
async fn files_that_come_change_and_go_are_noticed() {
    let node = Node::new();
    node.plugin("first");
    let network = node.network();
    let file = node.path("conf/10-net.conflist");
    watched(&network, async {
        until(&network, |status| !status.ready).await;
        write_network(&file, "one");
        until(&network, |status| status.ready).await;
        fs::write(&file, "{").unwrap();
        until(&network, |status| !status.ready && status.message.contains("10-net.conflist: not JSON")).await;
        write_network(&node.path("draft"), "two");
        fs::rename(node.path("draft"), &file).unwrap();
        until(&network, |status| status.ready && status.message.is_empty()).await;
        assert_eq!(network.add(&node.pod("a")).await.unwrap().network, "two");
        fs::remove_file(&file).unwrap();
        until(&network, |status| !status.ready).await;
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_comes_late_is_noticed() {
    let node = Node::new();
    node.plugin("first");
    fs::remove_dir(node.path("conf")).unwrap();
    let network = network_at(&node, "etc/cni/net.d");
    watched(&network, async {
        until(&network, |status| !status.ready).await;
        for dir in ["etc", "etc/cni", "etc/cni/net.d"] {
            fs::create_dir(node.path(dir)).unwrap();
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
        write_network(&node.path("etc/cni/net.d/10-net.conflist"), "net");
        until(&network, |status| status.ready).await;
        // Everything at once, as packages do it.
        fs::remove_dir_all(node.path("etc")).unwrap();
        until(&network, |status| !status.ready).await;
        fs::create_dir_all(node.path("etc/cni/net.d")).unwrap();
        write_network(&node.path("etc/cni/net.d/10-net.conflist"), "net");
        until(&network, |status| status.ready).await;
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_noticed() {
    let node = Node::new();
    node.plugin("first");
    let network = node.network();
    fs::create_dir(node.path("new")).unwrap();
    write_network(&node.path("new/10-net.conflist"), "net");
    watched(&network, async {
        until(&network, |status| !status.ready).await;
        fs::rename(node.path("conf"), node.path("old")).unwrap();
        fs::rename(node.path("new"), node.path("conf")).unwrap();
        until(&network, |status| status.ready).await;
        fs::remove_file(node.path("conf/10-net.conflist")).unwrap();
        until(&network, |status| !status.ready).await;
    })
    .await;
}

#[tokio::test]
async fn a_link_that_is_turned_to_another_directory_is_noticed() {
    let node = Node::new();
    node.plugin("first");
    fs::create_dir(node.path("with")).unwrap();
    write_network(&node.path("with/10-net.conflist"), "net");
    std::os::unix::fs::symlink(node.path("conf"), node.path("link")).unwrap();
    let network = network_at(&node, "link");
    watched(&network, async {
        until(&network, |status| !status.ready).await;
        std::os::unix::fs::symlink(node.path("with"), node.path("link.new")).unwrap();
        fs::rename(node.path("link.new"), node.path("link")).unwrap();
        until(&network, |status| status.ready).await;
    })
    .await;
}

#[tokio::test]
async fn plugin_files_of_the_network_are_noticed() {
    let node = Node::new();
    node.plugin("first");
    node.conf("10-net.conflist", &json!({ "cniVersion": "1.0.0", "name": "net" }));
    let network = node.network();
    watched(&network, async {
        until(&network, |status| status.message.contains("no plugins")).await;
        fs::create_dir(node.path("conf/net")).unwrap();
        tokio::time::sleep(Duration::from_millis(120)).await;
        fs::write(node.path("conf/net/10-a.conf"), r#"{"type":"first"}"#).unwrap();
        until(&network, |status| status.ready).await;
    })
    .await;
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let node = Node::new();
    let good = node.network().inner.config.clone();
    let mut bad = vec![good.clone(); 5];
    bad[0].conf_dir = "net.d".into();
    bad[1].bin_dirs.clear();
    bad[2].bin_dirs = vec!["/a:b".into()];
    bad[3].plugin_timeout = Duration::ZERO;
    bad[4].cache_dir = "".into();
    for config in bad {
        assert!(matches!(Network::new(config), Err(NetworkError::Setting { .. })));
    }
}

fn network_at(node: &Node, conf_dir: &str) -> Network {
    let mut config = node.network().inner.config.clone();
    config.conf_dir = node.path(conf_dir);
    Network::new(config).unwrap()
}
