//! Plugins that fail, hang or talk nonsense.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::json;

use super::super::{NetworkError, full_text};
use super::Node;

async fn add_fails(node: &Node) -> NetworkError {
    let error = node.network().add(&node.pod("a")).await.unwrap_err();
    assert!(node.records().is_empty(), "no record stays of what was taken back");
    error
}

#[tokio::test]
async fn a_failed_plugin_is_told_by_name_code_and_message_and_the_others_are_undone() {
    let node = Node::with_network("1.0.0");
    let answer = r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"come back later","details":"no lease"}'; exit 1"#;
    node.act("second", "ADD", answer);
    let error = add_fails(&node).await;
    assert_eq!(
        full_text(&error),
        "cannot attach sandbox a to network net: plugin second failed at ADD: code 11: come back later; no lease"
    );
    assert_eq!(node.calls(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    assert_eq!(node.given("first", "DEL")["prevResult"]["by"], "first");
    // The retry succeeds once the plugin does.
    node.act_no_more("second", "ADD");
    node.network().add(&node.pod("a")).await.unwrap();
}

#[tokio::test]
async fn plugins_after_the_failed_one_are_not_called() {
    let node = Node::with_network("1.0.0");
    node.act("first", "ADD", "exit 1");
    add_fails(&node).await;
    assert_eq!(node.calls(), ["ADD first", "DEL first"]);
}

#[tokio::test]
async fn what_cannot_be_undone_keeps_its_record_and_the_first_error_is_told() {
    let node = Node::with_network("1.0.0");
    node.act("second", "ADD", "echo broken >&2; exit 3");
    node.act("second", "DEL", "exit 4");
    let (network, pod) = (node.network(), node.pod("a"));
    let error = full_text(&network.add(&pod).await.unwrap_err());
    assert!(error.ends_with(r#"exit status: 3 without an error in JSON; it wrote "broken""#), "{error}");
    assert_eq!(node.calls(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    assert_eq!(node.records(), ["net-a-eth0"]);
    node.act_no_more("second", "DEL");
    network.remove(&pod).await.unwrap();
    assert_eq!(node.given("second", "DEL")["prevResult"]["by"], "first");
    assert!(node.records().is_empty());
}

#[tokio::test]
async fn a_failed_removal_stops_there_and_can_be_repeated() {
    let node = Node::with_network("1.0.0");
    let (network, pod) = (node.network(), node.pod("a"));
    network.add(&pod).await.unwrap();
    node.act("second", "DEL", r#"echo '{"code":999,"msg":"busy"}'; exit 1"#);
    node.calls();
    let error = full_text(&network.remove(&pod).await.unwrap_err());
    assert_eq!(error, "cannot detach sandbox a from network net: plugin second failed at DEL: code 999: busy");
    assert_eq!(node.calls(), ["DEL second"]);
    assert_eq!(node.records(), ["net-a-eth0"]);
    node.act_no_more("second", "DEL");
    network.remove(&pod).await.unwrap();
    assert_eq!(node.calls(), ["DEL second", "DEL first"]);
    assert!(node.records().is_empty());
}

#[tokio::test]
async fn a_plugin_that_hangs_is_killed_with_all_its_processes() {
    let mut node = Node::with_network("1.0.0");
    node.timeout = Duration::from_secs(3);
    let pids = node.path("notes/pids");
    let hang = format!("sleep 300 & echo $! $$ > {}; wait", pids.display());
    node.act("second", "ADD", &hang);
    let started = Instant::now();
    let error = full_text(&add_fails(&node).await);
    assert!(error.ends_with("plugin second failed at ADD: no answer within 3 s, killed"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
    for pid in fs::read_to_string(pids).unwrap().split_whitespace() {
        let gone = || fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
        let deadline = Instant::now() + Duration::from_secs(5);
        while !gone() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(gone(), "process {pid} is left");
    }
}

#[tokio::test]
async fn a_process_that_a_plugin_leaves_behind_is_not_waited_for() {
    let node = Node::with_network("1.0.0");
    let pid = node.path("notes/pid");
    node.act("second", "DEL", &format!("sleep 30 & echo $! > {}", pid.display()));
    let (network, pod) = (node.network(), node.pod("a"));
    network.add(&pod).await.unwrap();
    let started = Instant::now();
    network.remove(&pod).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(15));
    let pid = fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it is ours to end, and still there");
}

#[tokio::test]
async fn a_plugin_that_answers_nonsense_has_failed() {
    let nonsense = ["echo hello; exit 0", "exit 0", "echo '[]'; exit 0", r#"echo '{"cniVersion":"9.0.0"}'; exit 0"#];
    for act in nonsense {
        let node = Node::with_network("1.0.0");
        node.act("second", "ADD", act);
        let error = full_text(&add_fails(&node).await);
        assert!(error.contains("plugin second failed at ADD: its answer is unusable"), "{act}: {error}");
        assert_eq!(node.calls(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    }
}

#[tokio::test]
async fn a_result_without_an_address_undoes_everything() {
    let node = Node::with_network("1.0.0");
    node.act("second", "ADD", r#"echo '{"interfaces":[]}'; exit 0"#);
    let error = full_text(&add_fails(&node).await);
    assert_eq!(error, "network net gave sandbox a an unusable result: no address for eth0");
    assert_eq!(node.calls(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
}

#[tokio::test]
async fn output_without_end_is_cut_off() {
    let node = Node::with_network("1.0.0");
    node.act("first", "ADD", "cat /dev/zero");
    let error = full_text(&add_fails(&node).await);
    assert!(error.ends_with("it wrote more than 1048576 bytes, killed"), "{error}");
    node.act("first", "ADD", "head -c 5000000 /dev/zero >&2");
    node.network().add(&node.pod("a")).await.unwrap();
}

#[tokio::test]
async fn a_plugin_that_does_not_read_its_configuration_may_succeed() {
    let node = Node::new();
    let path = node.path("bin/first");
    fs::write(&path, "#!/bin/sh\necho '{\"ips\":[{\"address\":\"10.0.0.1/8\"}]}'\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let config = json!({ "cniVersion": "1.0.0", "name": "net", "type": "first", "long": "x".repeat(500_000) });
    node.conf("10-net.conf", &config);
    node.network().add(&node.pod("a")).await.unwrap();
}

#[tokio::test]
async fn a_plugin_that_is_missing_is_told_with_the_directories() {
    let node = Node::with_network("1.0.0");
    fs::remove_file(node.path("bin/second")).unwrap();
    let error = full_text(&add_fails(&node).await);
    let dirs = format!("{} or {}", node.path("nowhere").display(), node.path("bin").display());
    assert!(error.ends_with(&format!("plugin second failed at ADD: it is not in {dirs}")), "{error}");
    assert_eq!(node.calls(), ["ADD first", "DEL first"]);
}

#[tokio::test]
async fn removal_waits_for_a_plugin_that_is_missing() {
    let node = Node::with_network("1.0.0");
    let (network, pod) = (node.network(), node.pod("a"));
    network.add(&pod).await.unwrap();
    fs::remove_file(node.path("bin/first")).unwrap();
    let error = full_text(&network.remove(&pod).await.unwrap_err());
    assert!(error.contains("plugin first failed at DEL: it is not in"), "{error}");
    assert_eq!(node.records(), ["net-a-eth0"]);
    node.plugin("first");
    network.remove(&pod).await.unwrap();
    assert!(node.records().is_empty());
}

#[tokio::test]
async fn a_type_with_a_path_in_it_starts_nothing() {
    let node = Node::new();
    node.conf("10-net.conf", &json!({ "cniVersion": "1.0.0", "name": "net", "type": "../../bin/sh" }));
    let error = node.network().add(&node.pod("a")).await.unwrap_err();
    assert!(full_text(&error).ends_with("its type is not the name of a file"));
}

#[tokio::test]
async fn an_executable_that_is_being_written_is_waited_for() {
    let node = Node::with_network("1.0.0");
    let writer = fs::OpenOptions::new().append(true).open(node.path("bin/first")).unwrap();
    let (network, pod) = (node.network(), node.pod("a"));
    let (added, ()) = tokio::join!(network.add(&pod), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(writer);
    });
    added.unwrap();
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_passed_over() {
    let node = Node::with_network("1.0.0");
    let (network, pod) = (node.network(), node.pod("a"));
    network.add(&pod).await.unwrap();
    for garbage in ["", "{", r#"{"kind":"other"}"#] {
        fs::write(node.path("cache/results/net-a-eth0"), garbage).unwrap();
        node.calls();
        network.remove(&pod).await.unwrap();
        assert_eq!(node.calls(), ["DEL second", "DEL first"]);
        assert!(node.records().is_empty());
    }
}

#[tokio::test]
async fn errors_do_not_repeat_their_causes() {
    let node = Node::with_network("1.0.0");
    node.act("first", "ADD", r#"echo '{"code":7,"msg":"needle"}'; exit 1"#);
    let error = add_fails(&node).await;
    assert!(!error.to_string().contains("needle"));
    assert!(!error.source().unwrap().to_string().contains("needle"));
    assert_eq!(full_text(&error).matches("needle").count(), 1);
}
