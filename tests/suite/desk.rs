//! What people do at a desk: call a function of a library, serve a component until ^C.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::guests::{FIRST_LINE, Guest, REACTOR, REACTOR_P2, WEB};
use crate::harness::node::PROGRAM;
use crate::harness::process::Process;
use crate::harness::{Node, eventually};

fn program(node: &Node, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg(arguments[0]).arg("--socket").arg(node.place.state.join("cri.sock")).args(&arguments[1..]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn invoke(node: &Node, guest: Guest, function: &str, args: &[&str]) -> Output {
    let reference = guest.reference();
    program(node, &[&["run", "--invoke", function, reference.as_str(), "--"], args].concat()).output().unwrap()
}

#[test]
fn run_calls_a_function_of_a_module_and_prints_its_results() {
    let Some(node) = Node::with(&[REACTOR, FIRST_LINE]) else { return };
    for (function, args, code, said) in [
        ("initialized", &[][..], 0, "1\n"),
        ("_initialize", &[], 0, ""),
        ("add", &["-2", "0x10"], 0, "14\n"),
        ("both", &["1.5", "-0.25"], 0, "-0.25\n1.5\n"),
        ("says", &[], 0, "called\n"),
        ("exits", &[], 9, ""),
    ] {
        let output = invoke(&node, REACTOR, function, args);
        let told = (output.status.code(), text(&output.stdout));
        assert_eq!(told, (Some(code), said.to_owned()), "{function}: {}", text(&output.stderr));
    }
    let output = invoke(&node, REACTOR, "traps", &[]);
    assert_eq!(output.status.code(), Some(134));
    assert!(text(&output.stderr).contains("inner"), "{}", text(&output.stderr));
    for (function, args, said) in [
        ("none", &[][..], "there is no exported function none; there is: "),
        ("memory", &[], "there is no exported function memory"),
        ("add", &["1"], "add takes 2 arguments; it was given 1"),
        ("add", &["one", "2"], "\"one\" is no i32"),
        ("takes-a-reference", &["x"], "ref null extern"),
    ] {
        let output = invoke(&node, REACTOR, function, args);
        assert!(!output.status.success() && text(&output.stderr).contains(said), "{function}: {}", text(&output.stderr));
    }
    // A command has functions too; without the wish, a reactor is told of it.
    assert_eq!(text(&invoke(&node, FIRST_LINE, "_start", &[]).stdout), "hello\n");
    let output = program(&node, &["run", &REACTOR.reference()]).output().unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("--invoke"), "{}", text(&output.stderr));
    node.finish();
}

#[test]
fn run_calls_a_function_of_a_component_with_values_as_text() {
    let Some(node) = Node::with(&[REACTOR_P2, WEB]) else { return };
    for (function, args, said) in [
        ("add", &["1", "-2"][..], "-1\n"),
        ("add(1, -2)", &[], "-1\n"),
        ("echo", &["plain words"], "\"plain words\"\n"),
        ("echo(\"quoted\\n\")", &[], "\"quoted\\n\"\n"),
        ("flip", &["{x: 1, y: -2}"], "{x: -2, y: 1}\n"),
        ("half", &["10"], "ok(5)\n"),
        ("half(5)", &[], "err\n"),
        ("halve", &["4"], "ok(2)\n"),
        ("demo:numbers/ops#halve", &["4"], "ok(2)\n"),
        ("demo:numbers/ops@1.2.0#halve(4)", &[], "ok(2)\n"),
        ("nothing", &[], "()\n"),
    ] {
        let output = invoke(&node, REACTOR_P2, function, args);
        let told = (output.status.code(), text(&output.stdout));
        assert_eq!(told, (Some(0), said.to_owned()), "{function}: {}", text(&output.stderr));
    }
    let output = invoke(&node, REACTOR_P2, "traps", &[]);
    assert_eq!(output.status.code(), Some(134));
    assert!(text(&output.stderr).contains("inner"), "{}", text(&output.stderr));
    for (function, args, said) in [
        ("none", &[][..], "demo:numbers/ops@1.2.0#halve"),
        ("add", &["1"], "add takes 2 arguments; it was given 1"),
        ("add", &["-1", "2"], "add: -1: "),
        ("add(1", &[], "add: (1: "),
        ("flip", &["{x: 1}"], "flip: {x: 1}: "),
    ] {
        let output = invoke(&node, REACTOR_P2, function, args);
        assert!(!output.status.success() && text(&output.stderr).contains(said), "{function}: {}", text(&output.stderr));
    }
    let output = invoke(&node, WEB, "handle", &[]);
    assert!(!output.status.success() && text(&output.stderr).contains("HTTP"), "{}", text(&output.stderr));
    node.finish();
}

/// A free port; somebody else may take it, as any port that is named beforehand.
fn port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// `serve-http`, once it says that it serves.
fn serving(node: &Node, guest: Guest, address: SocketAddr) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = program(node, &["serve-http", "--addr", &address.to_string(), &guest.reference()]).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains(&format!("on http://{address}/")), "{line}");
    (child, said)
}

fn asked(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn serve_http_serves_a_component_until_it_is_interrupted_and_lets_it_finish() {
    let Some(node) = Node::with(&[WEB, FIRST_LINE]) else { return };
    let address = port();
    let (mut child, _said) = serving(&node, WEB, address);
    assert!(answer(asked(address, "/")).starts_with("HTTP/1.0 200"), "it answers");
    // A request that is under way when ^C comes.
    let slow = asked(address, "/slow?1500");
    std::thread::sleep(Duration::from_millis(300));
    Process::look(i32::try_from(child.id()).unwrap()).unwrap().signal(Signal::INT);
    assert!(answer(slow).starts_with("HTTP/1.0 200"), "it is finished");
    let status = eventually("it ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(TcpStream::connect(address).is_err());
    // What serves nothing is told so, and an address that is none.
    let output = program(&node, &["serve-http", &FIRST_LINE.reference()]).output().unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("`cri-wasm run`"), "{}", text(&output.stderr));
    let output = program(&node, &["serve-http", "--addr", "nowhere", &WEB.reference()]).output().unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("\"nowhere\""), "{}", text(&output.stderr));
    assert!(node.pods(None).is_empty());
    node.finish();
}
