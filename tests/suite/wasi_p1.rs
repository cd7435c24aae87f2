//! Every function of WASI preview 1, against what its specification says: the checks are the guest's own (tests/guests/p1).

use crate::harness::guests::{Guest, P1, P1_P2};
use crate::harness::{Ended, Node, cri};

/// How many checks the guest has.
const CHECKS: usize = 54;

/// What wasmtime's adapter does not pass on, or answers with a trap: it has no sockets, a path that is not text has no form in a
/// component, and directories cannot be synced.
const NOT_IN_COMPONENTS: [&str; 6] =
    ["sock_accept", "sock_recv", "sock_send", "sock_shutdown", "path_open_not_text", "fd_sync_directory"];

fn checked(node: &Node, guest: &Guest, name: &str, user: Option<i64>, left_out: &[&str]) -> Ended {
    let pod = node.pod(name);
    let volume = node.place.directory(&format!("volumes/{name}"));
    if let Some(id) = user {
        let id = u32::try_from(id).unwrap();
        std::os::unix::fs::chown(&volume, Some(id), Some(id)).unwrap();
    }
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let variable = |key: &str, value: &str| cri::KeyValue { key: key.into(), value: value.as_bytes().to_vec() };
    let mut config = cri::ContainerConfig {
        mounts: vec![mount],
        envs: vec![variable("P1", "a=b"), variable("EMPTY", ""), variable("LEFT_OUT", &left_out.join(","))],
        ..guest.container("main", &["", "a b", "ü"])
    };
    config.linux.as_mut().unwrap().security_context = Some(cri::LinuxContainerSecurityContext {
        run_as_user: user.map(|value| cri::Int64Value { value }),
        ..Default::default()
    });
    node.run(&pod, &config)
}

/// Fails unless all of so many checks are well.
fn assert_well(ended: &Ended, checks: usize) {
    let out = ended.log.stdout();
    let failed: Vec<&str> = out.lines().filter(|line| line.starts_with("FAIL ")).collect();
    assert!(failed.is_empty(), "{failed:#?}\n{}", ended.log.stderr());
    let well = out.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(well, checks, "{out}\n{}", ended.status.message);
    assert!(out.contains("# written in parts\n"), "{out}");
}

#[test]
fn every_function_of_preview_1_does_what_its_specification_says() {
    let Some(node) = Node::with(&[P1]) else { return };
    for (name, user) in [("root", None), ("user", Some(1234))] {
        let ended = checked(&node, &P1, name, user, &[]);
        assert_well(&ended, CHECKS);
        assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (7, "Error"), "{}", ended.status.message);
    }
    node.finish();
}

#[test]
fn every_function_of_preview_1_does_so_within_a_component() {
    let Some(node) = Node::with(&[P1_P2]) else { return };
    let ended = checked(&node, &P1_P2, "component", None, &NOT_IN_COMPONENTS);
    assert_well(&ended, CHECKS - NOT_IN_COMPONENTS.len());
    // The adapter knows success and failure alone.
    assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (1, "Error"), "{}", ended.status.message);
    node.finish();
}
