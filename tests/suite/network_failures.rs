//! Networks that fail: plugins that break, hang or are slow, and namespaces that are torn away.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tonic::Code;

use crate::harness::guests::PROBE;
use crate::harness::process::Process;
use crate::harness::{Node, cri, missing, until};
use crate::network::{DEBIAN, bridge, bridged, configure, leftovers, node, pinned, pod_config, pod_netns, run, wait_ready};

/// A plugin of the test's own, before Debian's in the search path.
fn write_plugin(directory: &Path, name: &str, script: &str) {
    let draft = directory.join(format!(".{name}"));
    std::fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Renamed over the old one: a file that is being executed cannot be written to.
    std::fs::rename(draft, directory.join(name)).unwrap();
}

/// A node whose network ends in a plugin that the test writes.
fn with_own_plugin() -> Option<(Node, PathBuf)> {
    if !missing::plugins(Path::new(DEBIAN), &["bridge", "host-local"]) || missing::program("iptables", "iptables").is_none() {
        return None;
    }
    let node = node("[network]\nplugin_timeout_seconds = 5\n", &[])?;
    let directory = node.place.directory("plugins");
    write_plugin(&directory, "last", ANSWERS);
    let mut config = bridge(&node);
    config["plugins"][1] = json!({ "type": "last" });
    configure(&node, "10-last.conflist", &config);
    wait_ready(&node);
    Some((node, directory))
}

/// Succeeds at everything and does nothing.
const ANSWERS: &str = r#"case $CNI_COMMAND in
VERSION) echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.3.1", "0.4.0", "1.0.0"]}' ;;
ADD) cat >/dev/null; echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.88.0.77/16"}]}' ;;
*) cat >/dev/null ;;
esac"#;

#[test]
fn a_plugin_that_fails_is_quoted_leaves_nothing_and_the_retry_succeeds() {
    let Some((node, plugins)) = with_own_plugin() else { return };
    let pod = run(&node, "warm");
    node.remove_pod(&pod.id).unwrap();
    let before = node.holdings();
    for (script, said) in [
        (
            r#"[ "$CNI_COMMAND" != ADD ] || { echo '{"cniVersion": "1.0.0", "code": 111, "msg": "no room at the inn"}'; exit 1; }"#,
            "no room at the inn",
        ),
        (r#"[ "$CNI_COMMAND" != ADD ] || { echo 'segmentation fault' >&2; exit 139; }"#, "segmentation fault"),
        (r#"[ "$CNI_COMMAND" != ADD ] || echo 'this is no JSON'"#, "this is no JSON"),
    ] {
        write_plugin(&plugins, "last", script);
        let refused = node.run_pod(&pod_config(&node, "web")).unwrap_err();
        assert!(refused.message().contains(said) && refused.message().contains("last"), "{said}: {refused}");
        assert!(node.pods(None).is_empty(), "{said}");
        assert!(pinned(&node).is_empty(), "{said}");
        assert_eq!(leftovers(&node), Vec::<String>::new(), "{said}: the plugins before it took back what they had done");
        node.assert_nothing_leaked(&before);
    }
    std::fs::remove_file(plugins.join("last")).unwrap();
    let refused = node.run_pod(&pod_config(&node, "web")).unwrap_err();
    assert!(refused.message().contains("last") && refused.message().contains(&plugins.display().to_string()), "{refused}");
    write_plugin(&plugins, "last", ANSWERS);
    run(&node, "web");
    node.finish();
}

#[test]
fn a_plugin_that_never_answers_is_killed_and_the_error_says_so() {
    let Some((node, plugins)) = with_own_plugin() else { return };
    write_plugin(&plugins, "last", "[ \"$CNI_COMMAND\" != ADD ] || sleep 600");
    let before = node.holdings();
    let begin = std::time::Instant::now();
    let refused = node.run_pod(&pod_config(&node, "web")).unwrap_err();
    // Five seconds are configured.
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
    assert!(refused.message().contains("5 s"), "{refused}");
    node.assert_nothing_leaked(&before);
    assert_eq!(leftovers(&node), Vec::<String>::new());
    node.finish();
}

#[test]
fn a_pod_whose_caller_gave_up_is_finished_and_handed_to_the_retry() {
    let Some((node, plugins)) = with_own_plugin() else { return };
    write_plugin(&plugins, "last", &format!("[ \"$CNI_COMMAND\" != ADD ] || sleep 1\n{ANSWERS}"));
    let config = pod_config(&node, "web");
    let request = cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
    let gave_up = node.client.run_pod_sandbox_within(Duration::from_millis(200), request).unwrap_err();
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&gave_up.code()), "{gave_up:?}");
    let pod = node.run_pod(&config).expect("the retry");
    assert_eq!(node.pods(None).len(), 1);
    assert_eq!(node.pods(None)[0].id, pod.id);
    assert_eq!(node.run_pod(&config).unwrap_err().code(), Code::AlreadyExists, "it has been handed over now");
    node.finish();
}

#[test]
fn a_pod_can_be_removed_although_its_plugin_fails_once_and_nothing_is_left_after_the_retry() {
    let Some((node, plugins)) = with_own_plugin() else { return };
    let pod = run(&node, "web");
    write_plugin(
        &plugins,
        "last",
        r#"[ "$CNI_COMMAND" != DEL ] || { echo '{"cniVersion": "1.0.0", "code": 11, "msg": "try again later"}'; exit 1; }"#,
    );
    let refused = node.stop_pod(&pod.id).unwrap_err();
    assert!(refused.message().contains("try again later"), "{refused}");
    assert_eq!(node.pods(None).len(), 1, "what is not given back stays listed");
    write_plugin(&plugins, "last", ANSWERS);
    node.stop_pod(&pod.id).unwrap();
    node.remove_pod(&pod.id).unwrap();
    assert_eq!(leftovers(&node), Vec::<String>::new());
    node.finish();
}

#[test]
fn a_pod_whose_namespace_was_torn_away_has_no_address_and_can_still_be_removed() {
    let Some(node) = bridged(&[PROBE]) else { return };
    let pod = run(&node, "web");
    let pin = pod_netns(&node);
    rustix::mount::unmount(&pin, rustix::mount::UnmountFlags::DETACH).unwrap();
    std::fs::remove_file(&pin).unwrap();
    // As containerd tells it; the kubelet gives a pod without an address a new sandbox.
    assert_eq!(node.pod_status(&pod.id).unwrap().network, Some(cri::PodSandboxNetworkStatus::default()));
    node.stop_pod(&pod.id).unwrap();
    node.remove_pod(&pod.id).unwrap();
    // Debian's bridge plugin cannot find its masquerading rules any more; the addresses are free.
    until("nothing but rules of the pod is left", || leftovers(&node).iter().all(|left| left.starts_with(['-', ':'])));
    node.finish();
}

/// Calls something that does not come back before the daemon is killed in the midst of it, and starts the daemon again.
fn kill_in_the_midst(node: &mut Node, call: impl FnOnce(&Node) + Send, is_there: impl Fn(&Node) -> bool) {
    let daemon = Process::look(node.daemon_pid()).expect("the daemon runs");
    std::thread::scope(|scope| {
        let node = &*node;
        scope.spawn(move || call(node));
        until("the call is under way", || is_there(node));
        daemon.signal(Signal::KILL);
    });
    node.restart_daemon();
}

#[test]
fn a_pod_half_made_when_the_daemon_was_killed_is_undone() {
    let Some((mut node, plugins)) = with_own_plugin() else { return };
    let mark = node.place.files.join("mark");
    let slow = format!("[ \"$CNI_COMMAND\" != ADD ] || {{ touch {}; sleep 3; }}\n{ANSWERS}", mark.display());
    write_plugin(&plugins, "last", &slow);
    let config = pod_config(&node, "web");
    kill_in_the_midst(&mut node, |node| drop(node.run_pod(&config)), |_| mark.exists());
    write_plugin(&plugins, "last", ANSWERS);
    until("its network is taken back", || pinned(&node).is_empty() && leftovers(&node).is_empty());
    assert!(node.pods(None).is_empty(), "nobody was told of it");
    node.run_pod(&config).expect("the retry");
    node.finish();
}

#[test]
fn a_pod_half_stopped_when_the_daemon_was_killed_can_be_stopped() {
    let Some((mut node, plugins)) = with_own_plugin() else { return };
    let pod = run(&node, "web");
    let mark = node.place.files.join("mark");
    let slow = format!("[ \"$CNI_COMMAND\" != DEL ] || {{ touch {}; sleep 3; }}\n{ANSWERS}", mark.display());
    write_plugin(&plugins, "last", &slow);
    kill_in_the_midst(&mut node, |node| drop(node.stop_pod(&pod.id)), |_| mark.exists());
    write_plugin(&plugins, "last", ANSWERS);
    node.stop_pod(&pod.id).unwrap();
    assert_eq!(node.pod_status(&pod.id).unwrap().state(), cri::PodSandboxState::SandboxNotready);
    assert!(pinned(&node).is_empty());
    assert_eq!(leftovers(&node), Vec::<String>::new());
    node.finish();
}
