//! PortForward: connections into a pod's network, over the older WebSocket protocol, which needs no multiplexing of the
//! test's own: for each port a channel of data and one of errors, each beginning with the port's number.

use std::net::TcpStream;

use tokio_tungstenite::tungstenite::{Message, WebSocket};
use tonic::Code;

use crate::harness::guests::SOCKETS;
use crate::harness::session::socket;
use crate::harness::{Node, cri, netns};
use crate::network::{bridged, run};

/// Opens a session for one port, from the network in which the daemon is.
fn forward(node: &Node, pod: &str, port: u16) -> WebSocket<TcpStream> {
    let request = cri::PortForwardRequest { pod_sandbox_id: pod.to_owned(), port: vec![port.into()] };
    let url = node.client.port_forward(request).unwrap().url;
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_owned();
    let stream = match &node.netns {
        Some(namespace) => netns::inside(namespace, || TcpStream::connect(&address).unwrap()),
        None => TcpStream::connect(&address).unwrap(),
    };
    let mut session = socket(&url, stream, "v4.channel.k8s.io");
    for channel in [0, 1] {
        let Message::Binary(hello) = read(&mut session) else { panic!("the port's number comes first") };
        assert_eq!(hello.to_vec(), [&[channel][..], &port.to_le_bytes()].concat());
    }
    session
}

/// The next message that says something.
fn read(session: &mut WebSocket<TcpStream>) -> Message {
    loop {
        match session.read().unwrap() {
            Message::Binary(bytes) if bytes.len() > 1 => return Message::Binary(bytes),
            Message::Close(frame) => return Message::Close(frame),
            _ => {}
        }
    }
}

fn exchange(node: &Node, pod: &str, port: u16, text: &str) -> String {
    let mut session = forward(node, pod, port);
    session.send(Message::binary([b"\0", text.as_bytes()].concat())).unwrap();
    let mut answer = Vec::new();
    while answer.len() < text.len() {
        let Message::Binary(bytes) = read(&mut session) else { break };
        assert_eq!(bytes[0], 0, "{}", String::from_utf8_lossy(&bytes[1..]));
        answer.extend_from_slice(&bytes[1..]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_connection_reaches_the_pods_loopback_in_its_own_network() {
    let Some(node) = bridged(&[SOCKETS]) else { return };
    let (web, other) = (run(&node, "web"), run(&node, "other"));
    for pod in [&web, &other] {
        let id = node.launch(pod, &SOCKETS.container("main", &["serve", "80"]));
        node.wait_stdout(&id, "listening on 80\n");
    }
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (node, pod) = (&node, if number % 2 == 0 { &web } else { &other });
            scope.spawn(move || {
                let text = format!("{number} ").repeat(10_000);
                assert_eq!(exchange(node, &pod.id, 80, &text), text);
            });
        }
    });
    // Which pod answered.
    assert!(exchange(&node, &web.id, 80, "GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1."));
    node.finish();
}

#[test]
fn a_port_where_nobody_listens_is_told_as_an_error() {
    let Some(node) = bridged(&[SOCKETS]) else { return };
    let pod = run(&node, "web");
    let mut session = forward(&node, &pod.id, 81);
    let Message::Binary(error) = read(&mut session) else { panic!("an error is told") };
    assert_eq!(error[0], 1, "on the channel of errors");
    let text = String::from_utf8_lossy(&error[1..]).into_owned();
    assert!(text.contains("port 81") && text.contains("refused"), "{text}");
    node.finish();
}

#[test]
fn requests_without_sense_are_refused() {
    let Some(node) = Node::start() else { return };
    let pod = node.pod("web");
    let code = |id: &str, port: i32| {
        let request = cri::PortForwardRequest { pod_sandbox_id: id.to_owned(), port: vec![port] };
        node.client.port_forward(request).unwrap_err().code()
    };
    assert_eq!(code("nosuch", 80), Code::NotFound);
    assert_eq!(code(&pod.id, 0), Code::InvalidArgument);
    assert_eq!(code(&pod.id, 65_536), Code::InvalidArgument);
    node.stop_pod(&pod.id).unwrap();
    assert_eq!(code(&pod.id, 80), Code::FailedPrecondition);
    node.finish();
}
