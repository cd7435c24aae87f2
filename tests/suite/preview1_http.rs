//! Go's web server on the sockets of WASI 0.1: many clients at once, connections that stay, clients that vanish, a pod's own address.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::guests::HTTP_GO;
use crate::harness::image::digest;
use crate::harness::until;
use crate::network::{bridged, pod_config};
use crate::preview1_sockets::{Server, TWO, declaring, large, server, vanish};

/// One request, with its answer in one piece: status line, and body.
fn request(stream: &mut TcpStream, head: &str, body: &[u8]) -> (String, Vec<u8>) {
    let length = body.len();
    stream.write_all(format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let (mut answer, mut part) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..count]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
        if answer.len() - end - 4 == length.parse::<usize>().unwrap() {
            return (head.lines().next().unwrap().to_owned(), answer.split_off(end + 4));
        }
    }
}

fn text(answer: (String, Vec<u8>)) -> String {
    assert_eq!(answer.0, "HTTP/1.1 200 OK");
    String::from_utf8(answer.1).unwrap()
}

#[test]
fn gos_web_server_serves_many_clients_at_once_over_connections_that_stay() {
    let Some(server) = server(HTTP_GO, &[], TWO) else { return };
    server.says("ready\n");
    let before = server.descriptors();
    let mut web = server.local(8000);
    let mut admin = server.connect((Ipv6Addr::LOCALHOST, 8001));
    for _ in 0..100 {
        assert!(text(request(&mut web, "GET /", b"")).starts_with("web of "));
        assert!(text(request(&mut admin, "GET /", b"")).starts_with("admin of "));
    }
    // Who is slow keeps nobody waiting, and nor does a listener on which nobody comes.
    let mut slow = server.local(8000);
    slow.write_all(b"GET /slow?ms=3000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert!(text(request(&mut web, "GET /", b"")).starts_with("web of "));
    slow.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let early = slow.read(&mut [0]).unwrap_err();
    assert!(matches!(early.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{early}");
    slow.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(slow.read(&mut [0]).unwrap(), 1);
    drop(slow);

    let bytes = large();
    let hex = digest(&bytes).replace("sha256:", "");
    assert_eq!(text(request(&mut web, "POST /digest", &bytes)), format!("{} {hex}\n", bytes.len()));
    let counted = request(&mut web, "GET /large?bytes=10000000", b"").1;
    let wanted: Vec<u8> = (0..10_000_000_u32).map(|place| place.to_le_bytes()[0]).collect();
    assert_eq!(digest(&counted), digest(&wanted));

    std::thread::scope(|scope| {
        for client in 0..30 {
            let mut stream = server.local(if client % 2 == 0 { 8000 } else { 8001 });
            scope.spawn(move || {
                for number in 0..20 {
                    let body = format!("{client} says {number}");
                    assert_eq!(text(request(&mut stream, "POST /echo", body.as_bytes())), body);
                }
            });
        }
    });
    // Clients that vanish: with nothing asked, in the middle of a question, in the middle of an answer.
    for number in 0..60 {
        let mut stream = server.local(8000);
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"POST /digest HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nsome").unwrap(),
            _ => {
                stream.write_all(b"GET /large?bytes=10000000 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
                stream.read_exact(&mut [0; 1000]).unwrap();
            }
        }
        if number % 2 == 0 { vanish(stream) } else { drop(stream) }
    }
    assert!(text(request(&mut web, "GET /", b"")).starts_with("web of "));
    drop((web, admin));
    until("it has let go of all of them", || server.descriptors() == before);
    server.node.stop_container(&server.id, 30).unwrap();
    assert_eq!(server.node.status(&server.id).exit_code, 143);
    server.finish();
}

#[test]
fn a_pods_address_leads_to_its_server_on_a_low_port() {
    let Some(node) = bridged(&[HTTP_GO]) else { return };
    let pod = node.run_pod(&pod_config(&node, "web")).unwrap();
    let id = node.launch(&pod, &declaring(HTTP_GO.container("main", &[]), &[("http", 80)]));
    // It listens when it runs: nobody has to wait for what it says.
    let network = node.pod_status(&pod.id).unwrap().network.unwrap();
    let addresses = [network.ip, network.additional_ips[0].ip.clone()];
    let server = Server { node, pod, id };
    for address in addresses {
        let to = SocketAddr::new(address.parse().unwrap(), 80);
        // The bridge is new: until its address is known to be its own, a connection has none to come from.
        let second = Duration::from_secs(1);
        until("the node has an address to come from", || server.inside(|| TcpStream::connect_timeout(&to, second)).is_ok());
        assert_eq!(text(request(&mut server.connect(to), "GET /", b"")), "http of web\n", "{to}");
    }
    server.finish();
}
