//! The forms that a guest can have: a core module of WASI preview 1, and components of 0.2 and 0.3.

use crate::harness::guests::{P3, PROBE, PROBE_P2};
use crate::harness::{Node, cri};

#[test]
fn a_command_component_of_wasi_0_2_runs_as_a_module_does() {
    let Some(node) = Node::with(&[PROBE, PROBE_P2]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    for (name, guest) in [("p1", PROBE), ("p2", PROBE_P2)] {
        let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
        let file = format!("/data/{name}");
        let args = [
            "args",
            "a b",
            "",
            "+",
            "env",
            "A",
            "+",
            "write",
            &file,
            "text",
            "+",
            "cat",
            &file,
            "+",
            "echo",
            "+",
            "err",
            "to stderr",
            "+",
            "sleep",
            "0.01",
            "+",
            "ls",
            "/etc",
        ];
        let config = cri::ContainerConfig {
            mounts: vec![mount],
            envs: vec![cri::KeyValue { key: "A".into(), value: b"1".to_vec() }],
            ..guest.container(name, &args)
        };
        let ended = node.run(&pod, &config);
        assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (0, "Completed"), "{name}: {}", ended.log.stderr());
        let out = ended.log.stdout();
        let (_, rest) = out.split_once('\n').unwrap();
        assert!(rest.starts_with("1: args\n2: a b\n3: \n4: +\n") || rest.starts_with("1: args\n2: a b\n3: \n"), "{name}: {out}");
        assert!(out.contains("A=1\ntext\n"), "{name}: {out}");
        assert!(out.contains("hosts\n") && out.contains("resolv.conf\n"), "{name}: {out}");
        assert_eq!(ended.log.stderr(), "to stderr\n", "{name}");
        assert_eq!(std::fs::read_to_string(volume.join(name)).unwrap(), "text");
    }
    node.finish();
}

#[test]
fn a_component_of_wasi_0_2_ends_well_or_with_1() {
    let Some(node) = Node::with(&[PROBE_P2]) else { return };
    let pod = node.pod("web");
    // wasi:cli/exit knows success and failure; the adapter turns every other code into failure.
    for (code, told, reason) in [("0", 0, "Completed"), ("1", 1, "Error"), ("7", 1, "Error")] {
        let status = node.run(&pod, &PROBE_P2.container(&format!("c{code}"), &["exit", code])).status;
        assert_eq!((status.exit_code, status.reason.as_str()), (told, reason), "{code}");
    }
    let ended = node.run(&pod, &PROBE_P2.container("trap", &["trap"]));
    assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (134, "Trap"));
    assert!(ended.status.message.contains("outer") && ended.log.stderr().contains("outer"), "{}", ended.status.message);
    node.finish();
}

#[test]
fn a_command_component_of_wasi_0_3_runs() {
    let Some(node) = Node::with(&[P3]) else { return };
    let pod = node.pod("web");
    for (name, args, out, err, code, reason) in [
        ("hello", &[][..], "hello from WASI 0.3\n", "", 0, "Completed"),
        ("ok", &["ok", "fine"], "fine\n", "", 0, "Completed"),
        ("error", &["error", "sorry"], "", "sorry\n", 1, "Error"),
        ("exit", &["exit", "42"], "", "", 42, "Error"),
        ("wait", &["wait", "0.05"], "waiting\nwaited\n", "", 0, "Completed"),
    ] {
        let ended = node.run(&pod, &P3.container(name, args));
        let told = (ended.status.exit_code, ended.status.reason.as_str());
        assert_eq!(
            (ended.log.stdout().as_str(), ended.log.stderr().as_str(), told),
            (out, err, (code, reason)),
            "{name}: {}",
            ended.status.message
        );
    }
    let ended = node.run(&pod, &P3.container("trap", &["trap"]));
    assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (134, "Trap"));
    let config = cri::ContainerConfig {
        envs: vec![cri::KeyValue { key: "A".into(), value: b"b".to_vec() }],
        ..P3.container("env", &["env"])
    };
    assert!(node.run(&pod, &config).log.stdout().contains("A=b\n"));
    node.finish();
}

#[test]
fn a_guest_without_input_finds_its_end() {
    let Some(node) = Node::with(&[PROBE, PROBE_P2, P3]) else { return };
    let pod = node.pod("web");
    for (name, guest, said) in [("p1", PROBE, "read 0 bytes\n"), ("p2", PROBE_P2, "read 0 bytes\n"), ("p3", P3, "")] {
        let ended = node.run(&pod, &guest.container(name, &["stdin"]));
        assert_eq!((ended.status.exit_code, ended.log.stdout().as_str()), (0, said), "{name}: {}", ended.log.stderr());
    }
    node.finish();
}

#[test]
fn clocks_and_random_bytes_are_those_of_the_node() {
    let Some(node) = Node::with(&[PROBE, PROBE_P2]) else { return };
    let pod = node.pod("web");
    for (name, guest) in [("p1", PROBE), ("p2", PROBE_P2)] {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let out = node.run(&pod, &guest.container(name, &["clock", "+", "random", "16", "+", "random", "16"])).log.stdout();
        let lines: Vec<&str> = out.lines().collect();
        let wall: u64 = lines[0].strip_prefix("wall ").unwrap().parse().unwrap();
        assert!((wall / 1_000_000_000).abs_diff(now) <= 5, "{name}: {out}");
        assert!(lines[2].len() == 32 && lines[2] != lines[3], "{name}: {out}");
    }
    node.finish();
}
