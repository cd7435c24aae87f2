//! Every function of WASI preview 1, against what its specification says: the checks are the guest's own (tests/guests/p1).

use crate::harness::guests::{Guest, P1, P1_P2};
use crate::harness::{Ended, Node, cri};

/// How many checks the guest has.
const CHECKS: usize = 52;

fn checked(node: &Node, guest: &Guest, name: &str, user: Option<i64>) -> Ended {
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
        envs: vec![variable("P1", "a=b"), variable("EMPTY", "")],
        ..guest.container("main", &["", "a b", "ü"])
    };
    config.linux.as_mut().unwrap().security_context = Some(cri::LinuxContainerSecurityContext {
        run_as_user: user.map(|value| cri::Int64Value { value }),
        ..Default::default()
    });
    node.run(&pod, &config)
}

/// Fails unless every check is well, but for those that are named.
fn assert_well(ended: &Ended, but: &[&str]) {
    let out = ended.log.stdout();
    let failed: Vec<&str> = out.lines().filter(|line| line.starts_with("FAIL ")).collect();
    let unexpected: Vec<&&str> =
        failed.iter().filter(|line| !but.iter().any(|name| line.starts_with(&format!("FAIL {name}: ")))).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}\n{}", ended.log.stderr());
    assert_eq!(failed.len(), but.len(), "fewer checks fail than are named: {failed:#?}");
    let well = out.lines().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(well, CHECKS - but.len(), "{out}\n{} {}", ended.log.stderr(), ended.status.message);
    assert_eq!(out.matches("# written in parts\n").count(), 1, "{out}");
}

#[test]
fn every_function_of_preview_1_does_what_its_specification_says() {
    let Some(node) = Node::with(&[P1]) else { return };
    for (name, user) in [("root", None), ("user", Some(1234))] {
        let ended = checked(&node, &P1, name, user);
        assert_well(&ended, &[]);
        assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (7, "Error"), "{}", ended.status.message);
    }
    node.finish();
}

#[test]
fn every_function_of_preview_1_does_so_within_a_component() {
    let Some(node) = Node::with(&[P1_P2]) else { return };
    let ended = checked(&node, &P1_P2, "component", None);
    assert_well(&ended, &[]);
    // The adapter knows success and failure alone.
    assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (1, "Error"), "{}", ended.status.message);
    node.finish();
}
