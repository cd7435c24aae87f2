//! ExecSync: other programs beside a container's own, in its namespaces, its files and its limits.

use rustix::process::Signal;
use tonic::Code;

use crate::harness::guests::{NO_START, PROBE, PROBE_P2};
use crate::harness::image::{Image, Layered};
use crate::harness::process::{self, Process};
use crate::harness::registry::Registry;
use crate::harness::{Node, Pod, container, cri, until, words};

/// A node with an image that has the probe as programs of several names, and a container of it that waits for ever.
fn node_with_tools(name: &str) -> Option<(Node, Pod, String)> {
    let (probe, component) = (PROBE.wasm()?, PROBE_P2.wasm()?);
    let node = Node::with(&[PROBE])?;
    let image: Image = Layered::new()
        .file("/bin/probe", &probe)
        .file("/bin/component", &component)
        .file("/bin/no-start", &NO_START.wasm()?)
        .link("/usr/bin/named", "../../bin/probe")
        .file("/bin/broken", b"\0asm\x01\0\0\0broken")
        .file("/bin/native", b"\x7fELF and so on")
        .file("/bin/script", b"#!/bin/probe args\n")
        .file("/bin/lost-script", b"#!/bin/perl\n")
        .file_of("/bin/secret", &probe, 0o600, 0)
        .file("/readme", b"text")
        .env(&["PATH=/usr/bin:/bin", "A=image"])
        .working_dir("/srv")
        .entrypoint(&["probe", "sleep", "forever"])
        .build();
    Registry::shared()?.push(name, "1", &image);
    let reference = Registry::shared()?.reference(&format!("{name}:1"));
    node.pull(&reference).expect("the image is pulled");
    let pod = node.pod("web");
    let id = node.launch(&pod, &container(&reference, "main", &[]));
    Some((node, pod, id))
}

#[test]
fn a_command_tells_its_output_and_its_exit_code() {
    let Some((node, _, id)) = node_with_tools("exec/output") else { return };
    let done = node.exec(&id, &words("probe echo out + err oops + exit 7"));
    assert_eq!((done.exit_code, done.stdout.as_slice(), done.stderr.as_slice()), (7, &b"out\n"[..], &b"oops\n"[..]));
    assert_eq!(node.exec(&id, &words("probe partial hello")).stdout, b"hello");
    assert_eq!(node.exec(&id, &words("probe exit 137")).exit_code, 137);
    let trapped = node.exec(&id, &words("probe trap"));
    assert_eq!(trapped.exit_code, 134);
    assert!(String::from_utf8_lossy(&trapped.stderr).contains("outer"), "the backtrace is the command's own output");
    assert_eq!(node.log(&id).stdout(), "", "the container's log has none of it");
    assert_eq!(node.exec(&id, &words("probe stdin")).stdout, b"read 0 bytes\n", "its input is at its end");
    node.finish();
}

#[test]
fn a_program_is_found_as_a_shell_finds_it() {
    let Some((node, _, id)) = node_with_tools("exec/found") else { return };
    for (command, wanted) in [
        (&["probe", "args", "a b"][..], "0: probe\n1: args\n2: a b\n"),
        (&["/bin/probe", "args"], "0: /bin/probe\n1: args\n"),
        (&["../bin/probe", "args"], "0: ../bin/probe\n1: args\n"),
        // A link keeps its name, for programs that are many.
        (&["named", "args"], "0: named\n1: args\n"),
        (&["component", "args"], "0: component\n1: args\n"),
        (&["script", "x"], "0: /bin/probe\n1: args\n2: /bin/script\n3: x\n"),
    ] {
        let done = node.exec(&id, command);
        assert_eq!(String::from_utf8_lossy(&done.stdout), wanted, "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
    node.finish();
}

#[test]
fn what_cannot_run_is_told_as_a_shell_tells_it() {
    let Some((node, _, id)) = node_with_tools("exec/refused") else { return };
    for (command, code, wanted) in [
        ("nosuch", 127, "exec: \"nosuch\": executable file not found in $PATH\n"),
        ("/nosuch", 127, "exec: \"/nosuch\": no such file or directory\n"),
        ("/bin", 126, "exec: \"/bin\": is a directory\n"),
        ("/readme", 126, "exec: \"/readme\": is no WebAssembly binary\n"),
        ("native", 126, "is a native Linux program"),
        ("broken", 126, "exec: \"broken\": "),
        ("no-start", 126, "exec: \"no-start\": it is a module of the world"),
        ("lost-script", 126, "its interpreter cannot be run: exec: \"/bin/perl\": no such file"),
        ("/dev/null", 126, "exec: \"/dev/null\": permission denied\n"),
    ] {
        let done = node.exec(&id, &[command]);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.exit_code == code && said.contains(wanted), "{command}: {} {said}", done.exit_code);
    }
    node.finish();
}

#[test]
fn a_bare_artifact_can_be_run_again_by_its_path() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &words("args + sleep forever")));
    node.wait_stdout(&id, "0: ");
    let log = node.log(&id).stdout();
    let path = log.lines().next().unwrap().strip_prefix("0: ").unwrap().to_owned();
    let done = node.exec(&id, &[&path, "echo", "again"]);
    assert_eq!(done.stdout, b"again\n", "{}", String::from_utf8_lossy(&done.stderr));
    node.finish();
}

#[test]
fn a_program_that_a_volume_brings_or_the_container_has_written_is_compiled_when_it_is_first_run() {
    let Some(probe) = PROBE.wasm() else { return };
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volumes/tools");
    std::fs::write(volume.join("tool"), &probe).unwrap();
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/tools".into(), ..Default::default() };
    let config = cri::ContainerConfig { mounts: vec![mount], ..PROBE.container("main", &words("sleep forever")) };
    let id = node.launch(&pod, &config);
    for _ in 0..2 {
        assert_eq!(node.exec(&id, &words("/tools/tool echo from a volume")).stdout, b"from a volume\n");
    }
    // Another program under the same name is another program.
    std::fs::write(volume.join("tool"), PROBE_P2.wasm().unwrap()).unwrap();
    assert_eq!(node.exec(&id, &words("/tools/tool exit 7")).exit_code, 1, "a component says 0 or 1");
    std::fs::write(volume.join("tool"), wat::parse_str(r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32))) (memory (export "memory") 1) (func (export "_start") i32.const 42 call $exit))"#).unwrap()).unwrap();
    assert_eq!(node.exec(&id, &["/tools/tool"]).exit_code, 42);
    // No image keeps this code, so it goes with the daemon that knew the files.
    node.restart_daemon();
    assert_eq!(node.exec(&id, &["/tools/tool"]).exit_code, 42);
    node.restart_daemon();
    node.finish();
}

#[test]
fn a_command_is_where_the_container_is_and_who_it_is() {
    let Some((node, pod, _)) = node_with_tools("exec/places") else { return };
    let user = cri::LinuxContainerSecurityContext {
        run_as_user: Some(cri::Int64Value { value: 1000 }),
        run_as_group: Some(cri::Int64Value { value: 2000 }),
        supplemental_groups: vec![3000],
        ..Default::default()
    };
    let image = Registry::shared().unwrap().reference("exec/places:1");
    let env = vec![cri::KeyValue { key: "B".into(), value: b"pod".to_vec() }];
    let linux = Some(cri::LinuxContainerConfig { security_context: Some(user), ..Default::default() });
    let config = cri::ContainerConfig {
        envs: env,
        linux,
        command: vec!["probe".into()],
        ..container(&image, "user", &words("sleep forever"))
    };
    let id = node.launch(&pod, &config);
    let main = node.guest_pid(&id);
    assert_eq!(node.exec(&id, &words("probe env A B + pwd")).stdout, b"A=image\nB=pod\nPWD=/srv\ncurrent directory /\n");
    assert_eq!(node.exec(&id, &["secret"]).exit_code, 126, "a file that the user may not read");
    // A long one, to be looked at.
    std::thread::scope(|scope| {
        let sleeping = scope.spawn(|| node.exec(&id, &words("probe sleep forever")));
        let pids = || node.container_pids(&id);
        until("the command runs", || pids().len() == 2);
        let command = pids().into_iter().find(|pid| *pid != main).unwrap();
        for kind in ["mnt", "net", "ipc", "uts"] {
            assert_eq!(process::namespace(command, kind), process::namespace(main, kind), "{kind}");
        }
        let status = |pid| {
            let all = process::status(pid);
            ["Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"].map(|key| all.get(key).cloned())
        };
        assert_eq!(status(command), status(main));
        Process::look(command).unwrap().signal(Signal::KILL);
        assert_eq!(sleeping.join().unwrap().exit_code, 137);
    });
    assert!(process::status(main).contains_key("Uid"), "the container runs on");
    node.finish();
}

#[test]
fn a_command_that_takes_too_long_is_killed_and_the_call_says_so() {
    let Some((node, _, id)) = node_with_tools("exec/timeout") else { return };
    let refused = node.try_exec(&id, &words("probe sleep forever"), 1).unwrap_err();
    assert_eq!(refused.code(), Code::DeadlineExceeded, "the kubelet takes no other code for a probe's time-out");
    assert!(refused.message().contains("timed out after 1 s"), "{}", refused.message());
    assert_eq!(node.container_pids(&id).len(), 1, "it is gone when the call has ended");
    assert_eq!(node.try_exec(&id, &words("probe echo in time"), 60).unwrap().stdout, b"in time\n");
    node.finish();
}

#[test]
fn output_beyond_what_a_message_holds_is_cut_and_the_command_goes_on() {
    let Some((node, _, id)) = node_with_tools("exec/bound") else { return };
    let done = node.exec(&id, &words("probe long 20000000 + err done + exit 3"));
    assert_eq!((done.exit_code, done.stderr.as_slice()), (3, &b"done\n"[..]));
    assert!(done.stdout.len() > 8_000_000 && done.stdout.len() < 8 << 20, "{}", done.stdout.len());
    node.finish();
}

#[test]
fn commands_end_with_their_container() {
    let Some((node, _, id)) = node_with_tools("exec/end") else { return };
    std::thread::scope(|scope| {
        let sleeping = scope.spawn(|| node.exec(&id, &words("probe write /begun x + sleep forever")));
        // Earlier it might be told that there is no container to run it in, although its process is there.
        until("the command runs", || node.exec(&id, &words("probe cat /begun")).exit_code == 0);
        node.stop_container(&id, 0).unwrap();
        assert_eq!(sleeping.join().unwrap().exit_code, 137);
    });
    let refused = node.try_exec(&id, &["probe"], 0).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{}", refused.message());
    assert_eq!(node.status(&id).exit_code, 137);
    node.finish();
}

#[test]
fn a_daemon_that_starts_again_ends_what_nobody_waits_for_and_keeps_the_container() {
    let Some((mut node, _, id)) = node_with_tools("exec/restart") else { return };
    let main = node.guest_pid(&id);
    std::thread::scope(|scope| {
        let sleeping = scope.spawn(|| node.try_exec(&id, &words("probe sleep forever"), 0));
        until("the command runs", || node.container_pids(&id).len() == 2);
        let pid = node.daemon_pid();
        Process::look(pid).unwrap().signal(Signal::KILL);
        assert!(sleeping.join().unwrap().is_err());
    });
    node.restart_daemon();
    until("the command has ended", || node.container_pids(&id) == [main]);
    assert_eq!(node.exec(&id, &words("probe echo again")).stdout, b"again\n");
    node.finish();
}

#[test]
fn requests_without_sense_are_refused() {
    let Some((node, _, id)) = node_with_tools("exec/invalid") else { return };
    let code = |id: &str, command: &[&str], timeout| node.try_exec(id, command, timeout).unwrap_err().code();
    assert_eq!(code("nosuch", &["probe"], 0), Code::NotFound);
    assert_eq!(code(&id, &[], 0), Code::InvalidArgument);
    assert_eq!(code(&id, &["probe"], -1), Code::InvalidArgument);
    node.finish();
}

#[test]
fn many_commands_at_once_are_all_answered() {
    let Some((node, _, id)) = node_with_tools("exec/many") else { return };
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (node, id) = (&node, &id);
            scope.spawn(move || {
                for number in 0..10 {
                    let word = format!("{thread}-{number}");
                    assert_eq!(node.exec(id, &["probe", "echo", &word]).stdout, format!("{word}\n").into_bytes());
                }
            });
        }
    });
    assert_eq!(node.container_pids(&id).len(), 1);
    node.finish();
}
