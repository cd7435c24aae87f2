//! Attach: who looks at a container's own streams, and writes to them.

use tonic::Code;

use crate::harness::guests::PROBE;
use crate::harness::{Node, Pod, Streams, cri, until, words};

const STDIN: Streams = Streams { stdin: true, tty: false };
const TTY: Streams = Streams { stdin: true, tty: true };

/// A container with standard input; `once`: it ends with its first client.
fn launch(node: &Node, pod: &Pod, name: &str, args: &str, once: bool, tty: bool) -> String {
    let config = cri::ContainerConfig { stdin: true, stdin_once: once, tty, ..PROBE.container(name, &words(args)) };
    node.launch(pod, &config)
}

#[test]
fn everybody_who_is_attached_sees_all_that_is_written_from_then_on() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volumes/go");
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let args = words("echo before + wait-for /data/go + lines 1000 + err oops + partial end + exit 3");
    let id = node.launch(&pod, &cri::ContainerConfig { mounts: vec![mount], ..PROBE.container("main", &args) });
    node.wait_stdout(&id, "before\n");
    let mut sessions = [(); 3].map(|()| node.open_attach(&id, Streams::default()));
    // One that goes away at once disturbs nobody.
    drop(node.open_attach(&id, Streams::default()));
    std::fs::write(volume.join("go"), "").unwrap();
    let expected: String = (1..=1000).map(|number| format!("line {number}\n")).chain(["end".to_owned()]).collect();
    for session in &mut sessions {
        assert_eq!(session.finish(), Ok(0), "an attachment ends well, however the container did");
        assert_eq!(String::from_utf8_lossy(&session.stdout), expected);
        assert_eq!(session.stderr, b"oops\n");
    }
    let ended = node.wait_exit(&id);
    assert_eq!((ended.status.exit_code, ended.log.stdout()), (3, format!("before\n{expected}")));
    node.finish();
}

#[test]
fn input_with_stdin_once_ends_when_its_client_ends_it() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = launch(&node, &pod, "once", "stdin", true, false);
    let mut session = node.open_attach(&id, STDIN);
    session.write(b"typed\n");
    session.wait_for("typed\n");
    session.end_input();
    assert_eq!(session.finish(), Ok(0));
    assert_eq!(session.stdout, b"typed\nread 6 bytes\n");
    assert_eq!(node.wait_exit(&id).status.exit_code, 0);
    node.finish();
}

#[test]
fn input_without_stdin_once_goes_on_with_the_next_client() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = launch(&node, &pod, "many", "stdin", false, false);
    for text in ["first\n", "second\n"] {
        let mut session = node.open_attach(&id, STDIN);
        session.write(text.as_bytes());
        session.wait_for(text);
        session.end_input();
    }
    // A client sees it a moment before the log has it.
    node.wait_stdout(&id, "first\nsecond\n");
    node.stop_container(&id, 0).unwrap();
    assert_eq!(node.log(&id).stdout(), "first\nsecond\n");
    node.finish();
}

#[test]
fn a_client_that_reads_nothing_holds_up_neither_the_guest_nor_others() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = launch(&node, &pod, "chatty", "stdin + lines 400000", true, false);
    let _stalled = node.open_attach(&id, Streams::default());
    let mut reader = node.open_attach(&id, STDIN);
    reader.write(b"go\n");
    reader.end_input();
    assert_eq!(reader.finish(), Ok(0));
    assert!(reader.stdout.ends_with(b"line 400000\n"), "it has all of it");
    assert_eq!(node.wait_exit(&id).status.exit_code, 0);
    node.finish();
}

#[test]
fn a_terminal_shows_a_newcomer_what_is_on_it_and_outlives_the_daemon() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = launch(&node, &pod, "tty", "tty + partial prompt + stdin", false, true);
    until("the prompt is there", || node.log(&id).stdout().contains("stderr terminal"));
    let mut session = node.open_attach(&id, TTY);
    session.wait_for("stdin terminal\r\nstdout terminal\r\nstderr terminal\r\nprompt");
    session.resize(90, 20);
    session.write(b"one\r");
    session.wait_for("one\r\none\r\n");
    drop(session);
    node.restart_daemon();
    let mut session = node.open_attach(&id, TTY);
    session.write(b"two\r");
    session.wait_for("two\r\ntwo\r\n");
    let mut other = node.open_attach(&id, TTY);
    other.write(b"three\r");
    session.wait_for("three\r\n");
    other.wait_for("three\r\n");
    session.write(b"\x04");
    assert_eq!((session.finish(), other.finish()), (Ok(0), Ok(0)));
    let ended = node.wait_exit(&id);
    assert_eq!(ended.status.exit_code, 0);
    let log = ended.log.stdout();
    assert!(log.contains("promptone\r\none\r\n") && log.ends_with("read 14 bytes\r\n"), "{log:?}");
    node.finish();
}

#[test]
fn an_interrupt_ends_a_terminals_guest_and_its_whole_output_is_in_the_log() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = launch(&node, &pod, "tty", "echo ready + sleep forever", false, true);
    let mut session = node.open_attach(&id, TTY);
    session.wait_for("ready\r\n");
    session.write(b"\x03");
    assert_eq!(session.finish(), Ok(0));
    assert_eq!(node.wait_exit(&id).status.exit_code, 130);
    let id = launch(&node, &pod, "lines", "lines 3000", false, true);
    let ended = node.wait_exit(&id);
    assert!(ended.log.stdout().ends_with("line 3000\r\n"), "nothing is lost at the end");
    assert_eq!(ended.log.stdout().lines().count(), 3000);
    node.finish();
}

#[test]
fn attach_wants_a_running_container_and_the_terminal_that_it_has() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = launch(&node, &pod, "main", "sleep forever", false, false);
    let request = cri::AttachRequest { container_id: id.clone(), stdout: true, ..Default::default() };
    let code = |request: cri::AttachRequest| node.client.attach(request).unwrap_err().code();
    assert_eq!(code(cri::AttachRequest { tty: true, ..request.clone() }), Code::InvalidArgument);
    assert_eq!(code(cri::AttachRequest { container_id: "nosuch".into(), ..request.clone() }), Code::NotFound);
    node.stop_container(&id, 0).unwrap();
    assert_eq!(code(request), Code::FailedPrecondition);
    node.finish();
}
