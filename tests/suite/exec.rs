//! Exec: a command between a client's streams, with and without a terminal.

use tonic::Code;

use crate::harness::guests::PROBE;
use crate::harness::{Node, Streams, cri, until, words};

const STDIN: Streams = Streams { stdin: true, tty: false };
const TTY: Streams = Streams { stdin: true, tty: true };

/// A node with a container that waits, and the path of its module.
fn waiting() -> Option<(Node, String, String)> {
    let node = Node::with(&[PROBE])?;
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &words("args + sleep forever")));
    node.wait_stdout(&id, "0: ");
    let path = node.log(&id).stdout().lines().next().unwrap().strip_prefix("0: ").unwrap().to_owned();
    Some((node, id, path))
}

#[test]
fn streams_and_exit_code_are_the_commands_own() {
    let Some((node, id, probe)) = waiting() else { return };
    let command = [probe.as_str(), "echo", "out", "+", "err", "oops", "+", "exit", "7"];
    let mut session = node.open_exec(&id, &command, Streams::default());
    assert_eq!(session.finish(), Ok(7));
    assert_eq!((session.stdout.as_slice(), session.stderr.as_slice()), (&b"out\n"[..], &b"oops\n"[..]));
    let mut session = node.open_exec(&id, &[&probe, "tty"], Streams::default());
    assert_eq!(session.finish(), Ok(0));
    assert_eq!(session.stdout, b"stdin not a terminal\nstdout not a terminal\nstderr not a terminal\n");
    node.finish();
}

#[test]
fn input_reaches_the_command_with_its_end() {
    let Some((node, id, probe)) = waiting() else { return };
    let mut session = node.open_exec(&id, &[&probe, "stdin"], STDIN);
    session.write(b"one\n");
    session.wait_for("one\n");
    session.write(b"two\n");
    session.end_input();
    assert_eq!(session.finish(), Ok(0));
    assert_eq!(session.stdout, b"one\ntwo\nread 8 bytes\n");
    node.finish();
}

#[test]
fn what_cannot_run_is_told_on_stderr_with_the_exit_code_of_a_shell() {
    let Some((node, id, _)) = waiting() else { return };
    let mut session = node.open_exec(&id, &["nosuch"], Streams::default());
    assert_eq!(session.finish(), Ok(127));
    assert_eq!(session.stderr, b"exec: \"nosuch\": executable file not found in $PATH\r\n");
    let mut session = node.open_exec(&id, &["/dev/null"], TTY);
    assert_eq!(session.finish(), Ok(126));
    assert_eq!(session.stdout, b"exec: \"/dev/null\": permission denied\r\n");
    node.finish();
}

#[test]
fn a_terminal_echoes_edits_lines_and_interrupts() {
    let Some((node, id, probe)) = waiting() else { return };
    let mut session = node.open_exec(&id, &[&probe, "tty", "+", "stdin"], TTY);
    session.wait_for("stdin terminal\r\nstdout terminal\r\nstderr terminal\r\n");
    session.resize(100, 30);
    session.write(b"hallo\x7fp\r");
    // Echoed as it was typed, and written by the guest as it was edited.
    session.wait_for("hallo\x08 \x08p\r\nhallp\r\n");
    session.write(b"\x04");
    assert_eq!(session.finish(), Ok(0));
    assert!(String::from_utf8_lossy(&session.stdout).ends_with("read 6 bytes\r\n"));
    let mut session = node.open_exec(&id, &[&probe, "echo", "ready", "+", "sleep", "forever"], TTY);
    session.wait_for("ready\r\n");
    session.write(b"\x03");
    assert_eq!(session.finish(), Ok(130), "^C");
    node.finish();
}

#[test]
fn a_client_that_goes_away_takes_its_command_along() {
    let Some((node, id, probe)) = waiting() else { return };
    for streams in [STDIN, TTY] {
        let mut session = node.open_exec(&id, &[&probe, "echo", "ready", "+", "sleep", "forever"], streams);
        session.wait_for("ready");
        assert_eq!(node.container_pids(&id).len(), 2);
        drop(session);
        until("the command has ended", || node.container_pids(&id).len() == 1);
    }
    node.finish();
}

#[test]
fn twenty_megabytes_go_through_unharmed_each_way() {
    let Some((node, id, probe)) = waiting() else { return };
    let mut session = node.open_exec(&id, &[&probe, "stdin"], STDIN);
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (number, chunk) in bytes.chunks(100_000).enumerate() {
        session.write(chunk);
        // As much comes back as goes in; who only writes would wait for ever.
        if number % 4 == 3 {
            let so_far = (number - 2) * 100_000;
            while session.stdout.len() < so_far {
                session.read_some();
            }
        }
    }
    session.end_input();
    assert_eq!(session.finish(), Ok(0));
    assert!(session.stdout.starts_with(&bytes), "all of it came back");
    node.finish();
}

#[test]
fn requests_without_sense_are_refused_and_a_url_is_good_once() {
    let Some((node, id, probe)) = waiting() else { return };
    let request =
        cri::ExecRequest { container_id: id.clone(), cmd: vec![probe, "echo".into()], stdout: true, ..Default::default() };
    let code = |request: cri::ExecRequest| node.client.exec(request).unwrap_err().code();
    assert_eq!(code(cri::ExecRequest { container_id: "nosuch".into(), ..request.clone() }), Code::NotFound);
    assert_eq!(code(cri::ExecRequest { cmd: vec![], ..request.clone() }), Code::InvalidArgument);
    assert_eq!(code(cri::ExecRequest { stdout: false, ..request.clone() }), Code::InvalidArgument);
    assert_eq!(code(cri::ExecRequest { tty: true, stderr: true, ..request.clone() }), Code::InvalidArgument);
    let url = node.client.exec(request.clone()).unwrap().url;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    assert_eq!(crate::harness::session::Session::open(&url).finish(), Ok(0));
    assert!(std::panic::catch_unwind(|| crate::harness::session::Session::open(&url)).is_err(), "it is used up");
    node.stop_container(&id, 0).unwrap();
    assert_eq!(code(request), Code::FailedPrecondition);
    node.finish();
}
