//! How guests end, and how the runtime tells it: codes, reasons, messages, the log and the termination message.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::guests::{
    EXIT_CODE, GROW, Guest, PROBE, TRAP_BOUNDS, TRAP_CALL_TYPE, TRAP_DIVIDE, TRAP_STACK, TRAP_START, TRAP_UNREACHABLE,
};
use crate::harness::process::Process;
use crate::harness::{Node, cri, words};

/// Where the kubelet says which file holds the termination message, and where that file is by default.
const TERMINATION_PATH: (&str, &str) = ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log");

/// The container with a termination message file, as the kubelet gives it one.
fn with_termination_log(node: &Node, mut config: cri::ContainerConfig) -> (cri::ContainerConfig, PathBuf) {
    let name = config.metadata.as_ref().unwrap().name.clone();
    let file = node.place.directory("termination").join(name);
    std::fs::write(&file, "").unwrap();
    // As the kubelet makes it, since guests have all sorts of users.
    rustix::fs::chmod(&file, rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
    config.annotations.insert(TERMINATION_PATH.0.into(), TERMINATION_PATH.1.into());
    let host_path = file.display().to_string();
    config.mounts.push(cri::Mount { host_path, container_path: TERMINATION_PATH.1.into(), ..Default::default() });
    (config, file)
}

fn with_memory(mut config: cri::ContainerConfig, bytes: i64) -> cri::ContainerConfig {
    let resources = cri::LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() };
    config.linux.as_mut().unwrap().resources = Some(resources);
    config
}

#[test]
fn each_of_the_256_exit_codes_is_told_as_it_is() {
    let Some(node) = Node::with(&[EXIT_CODE]) else { return };
    let pod = node.pod("web");
    std::thread::scope(|scope| {
        for first in 0..8 {
            let (node, pod) = (&node, &pod);
            scope.spawn(move || {
                for code in (first..256).step_by(8) {
                    let config = EXIT_CODE.container(&format!("c{code}"), &[&code.to_string()]);
                    let status = node.run(pod, &config).status;
                    let reason = if code == 0 { "Completed" } else { "Error" };
                    assert_eq!((status.exit_code, status.reason.as_str(), status.message.as_str()), (code, reason, ""));
                    node.remove_container(&status.id).unwrap();
                }
            });
        }
    });
    node.finish();
}

#[test]
fn of_a_larger_code_the_low_eight_bits_count() {
    let Some(node) = Node::with(&[EXIT_CODE]) else { return };
    let pod = node.pod("web");
    for (asked, told, reason) in
        [("256", 0, "Completed"), ("257", 1, "Error"), ("65535", 255, "Error"), ("4294967295", 255, "Error")]
    {
        let status = node.run(&pod, &EXIT_CODE.container(&format!("c{asked}"), &[asked])).status;
        assert_eq!((status.exit_code, status.reason.as_str()), (told, reason), "{asked}");
    }
    node.finish();
}

#[test]
fn a_trap_is_told_with_its_backtrace_in_the_status_the_log_and_the_termination_message() {
    let Some(node) = Node::with(&[TRAP_UNREACHABLE]) else { return };
    let pod = node.pod("web");
    let (config, termination) = with_termination_log(&node, TRAP_UNREACHABLE.container("main", &[]));
    let ended = node.run(&pod, &config);
    assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (134, "Trap"));
    let message = std::fs::read_to_string(termination).unwrap();
    for text in [ended.status.message.as_str(), &ended.log.stderr(), &message] {
        assert!(text.contains("unreachable"), "{text}");
        let at = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name} in {text}"));
        assert!(at("inner") < at("middle") && at("middle") < at("outer"), "{text}");
        assert!(!text.contains("wasmtime::") && !text.contains("tokio"), "nothing of the host's own stack: {text}");
    }
    assert_eq!(ended.log.stdout(), "before the trap\n");
    let entries = &ended.log.0;
    assert!(entries[0].stream == "stdout" && entries[1..].iter().all(|entry| entry.stream == "stderr"), "in order: {entries:?}");
    node.finish();
}

#[test]
fn what_a_guest_left_as_its_termination_message_stands() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let last_words = ["write", TERMINATION_PATH.1, "my own words", "+", "trap"];
    let (config, termination) = with_termination_log(&node, PROBE.container("main", &last_words));
    let status = node.run(&pod, &config).status;
    assert_eq!((status.exit_code, status.reason.as_str()), (134, "Trap"));
    assert_eq!(std::fs::read_to_string(termination).unwrap(), "my own words");
    let (config, termination) = with_termination_log(&node, PROBE.container("well", &["exit", "5"]));
    assert_eq!(node.run(&pod, &config).status.exit_code, 5);
    assert_eq!(std::fs::read_to_string(termination).unwrap(), "", "only a trap has anything to add");
    node.finish();
}

#[test]
fn every_kind_of_trap_is_named() {
    let guests: [(Guest, &str); 5] = [
        (TRAP_BOUNDS, "out of bounds memory access"),
        (TRAP_CALL_TYPE, "indirect call type mismatch"),
        (TRAP_DIVIDE, "integer divide by zero"),
        (TRAP_STACK, "call stack exhausted"),
        (TRAP_START, "unreachable"),
    ];
    let Some(node) = Node::with(&guests.map(|(guest, _)| guest)) else { return };
    let pod = node.pod("web");
    for (guest, said) in guests {
        let name = said.replace(' ', "-");
        let ended = node.run(&pod, &guest.container(&name, &[]));
        assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (134, "Trap"), "{said}: {}", ended.status.message);
        assert!(ended.status.message.contains(said), "{said}: {}", ended.status.message);
        assert!(ended.log.stderr().contains(said), "{said}: {}", ended.log.stderr());
    }
    node.finish();
}

#[test]
fn a_panic_leaves_its_words_and_the_trap_in_the_log() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    for (name, args, said) in [
        ("panic", &["panic"][..], "the probe panics, as asked"),
        ("abort", &["abort"], "unreachable"),
        ("trap", &["trap"], "outer"),
    ] {
        let ended = node.run(&pod, &PROBE.container(name, args));
        assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (134, "Trap"), "{name}");
        assert!(ended.log.stderr().contains(said), "{name}: {}", ended.log.stderr());
        assert!(ended.log.stderr().contains("wasm backtrace"), "{name}: {}", ended.log.stderr());
    }
    node.finish();
}

#[test]
fn a_guest_beyond_its_memory_limit_is_oom_killed_and_its_neighbour_lives() {
    let Some(node) = Node::with(&[GROW, PROBE]) else { return };
    let pod = node.pod("web");
    let neighbour = node.launch(&pod, &with_memory(PROBE.container("neighbour", &["sleep", "forever"]), 64 << 20));
    for (name, config) in [
        ("grow", with_memory(GROW.container("grow", &[]), 32 << 20)),
        // critest's limit.
        ("small", with_memory(GROW.container("small", &[]), 15 << 20)),
        ("eat", with_memory(PROBE.container("eat", &words("echo hungry + eat-memory 256M")), 32 << 20)),
    ] {
        let ended = node.run(&pod, &config);
        assert_eq!(
            (ended.status.exit_code, ended.status.reason.as_str()),
            (137, "OOMKilled"),
            "{name}: {}",
            ended.status.message
        );
        if name == "eat" {
            assert_eq!(ended.log.stdout(), "hungry\n", "what it wrote before is there");
        }
    }
    assert_eq!(node.status(&neighbour).state(), cri::ContainerState::ContainerRunning);
    let well = node.launch(&pod, &with_memory(PROBE.container("well", &["eat-memory", "8M"]), 64 << 20));
    node.wait_stdout(&well, "ate 8388608 bytes\n");
    node.finish();
}

#[test]
fn a_guest_killed_from_outside_is_137_and_no_oom() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    for (name, signal, code) in [("kill", Signal::KILL, 137), ("term", Signal::TERM, 143)] {
        let config = with_memory(PROBE.container(name, &words("echo here + sleep forever")), 64 << 20);
        let id = node.launch(&pod, &config);
        node.wait_stdout(&id, "here\n");
        Process::look(node.guest_pid(&id)).unwrap().signal(signal);
        let ended = node.wait_exit(&id);
        assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (code, "Error"), "{name}");
        assert!(ended.status.finished_at >= ended.status.started_at);
    }
    node.finish();
}
