//! Ports of the node that lead into pods, on a network whose chain maps none: a bridge alone.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use tonic::Code;

use crate::harness::guests::SOCKETS;
use crate::harness::process::{self, Process};
use crate::harness::{Node, Pod, cri, missing, netns, until};
use crate::network::{DEBIAN, bridge, configure, leftovers, node, pod_config, pod_netns, wait_ready};

const SECONDS: Duration = Duration::from_secs(10);

/// A node with a network without portmap.
fn plain() -> Option<Node> {
    if !missing::plugins(Path::new(DEBIAN), &["bridge", "host-local"]) {
        return None;
    }
    let node = node("", &[SOCKETS])?;
    let mut config = bridge(&node);
    config["plugins"].as_array_mut().unwrap().truncate(1);
    configure(&node, "10-plain.conflist", &config);
    wait_ready(&node);
    Some(node)
}

fn port(container_port: i32, host_port: i32) -> cri::PortMapping {
    cri::PortMapping { container_port, host_port, ..Default::default() }
}

fn with_ports(node: &Node, name: &str, ports: &[cri::PortMapping]) -> cri::PodSandboxConfig {
    cri::PodSandboxConfig { port_mappings: ports.to_vec(), ..pod_config(node, name) }
}

/// A pod with a guest that sends back what it is sent on port 80.
fn serving(node: &Node, config: &cri::PodSandboxConfig) -> Pod {
    let pod = node.run_pod(config).unwrap();
    let id = node.launch(&pod, &SOCKETS.container("main", &["serve", "80"]));
    node.wait_stdout(&id, "listening on 80\n");
    pod
}

fn forwarders(node: &Node) -> Vec<Process> {
    process::of_place(&node.place.name).into_iter().filter(|process| process.role() == "ports").collect()
}

/// From the node, to one of its ports.
fn exchange(node: &Node, to: &str, text: &str) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    netns::inside(node.netns.as_ref().unwrap(), || {
        let mut stream = TcpStream::connect_timeout(&to, SECONDS)?;
        stream.set_read_timeout(Some(SECONDS))?;
        stream.write_all(text.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

#[test]
fn a_host_port_leads_into_a_pod_of_a_network_that_maps_none() {
    let Some(node) = plain() else { return };
    let pod = serving(&node, &with_ports(&node, "web", &[port(80, 12_000), port(81, 0)]));
    // Each address of the node, of either family.
    for to in ["127.0.0.1:12000", "10.88.0.1:12000", "[::1]:12000"] {
        assert_eq!(exchange(&node, to, "through the node's port").unwrap(), "through the node's port", "{to}");
    }
    // A megabyte, whose end the guest sees before it ends its answer.
    let large = "0123456789abcdef".repeat(1 << 16);
    assert!(exchange(&node, "127.0.0.1:12000", &large).unwrap() == large);
    assert!(exchange(&node, "127.0.0.1:81", "x").is_err());
    let [forwarder] = &forwarders(&node)[..] else { panic!("one process, not {:?}", forwarders(&node)) };
    let status = process::status(forwarder.pid);
    for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
        assert_eq!(status[set], "0000000000000000", "{set}");
    }
    let told = ["Uid", "Gid", "Groups", "NoNewPrivs", "Threads"].map(|name| status[name].as_str());
    let nobody = "65534\t65534\t65534\t65534";
    assert_eq!(told, [nobody, nobody, "", "1", "1"]);

    node.stop_pod(&pod.id).unwrap();
    assert!(forwarders(&node).is_empty());
    assert!(exchange(&node, "127.0.0.1:12000", "x").is_err());
    node.remove_pod(&pod.id).unwrap();
    assert_eq!(leftovers(&node), Vec::<String>::new());
    serving(&node, &with_ports(&node, "web", &[port(80, 12_000)]));
    node.finish();
}

#[test]
fn datagrams_find_their_way_to_the_pod_and_back() {
    let Some(node) = plain() else { return };
    let udp = cri::PortMapping { protocol: cri::Protocol::Udp.into(), ..port(53, 12_053) };
    // The same number in both transports are two ports.
    node.run_pod(&with_ports(&node, "dns", &[udp, port(53, 12_053)])).unwrap();
    let server = netns::inside(&pod_netns(&node), || UdpSocket::bind("0.0.0.0:53").unwrap());
    server.set_read_timeout(Some(SECONDS)).unwrap();
    let client = netns::inside(node.netns.as_ref().unwrap(), || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect("127.0.0.1:12053").unwrap();
        socket
    });
    client.set_read_timeout(Some(SECONDS)).unwrap();
    let mut bytes = [0; 2000];
    for text in ["a question", "another", &"long ".repeat(300)] {
        client.send(text.as_bytes()).unwrap();
        let (length, from) = server.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], text.as_bytes());
        server.send_to(&[b"answer to ", text.as_bytes()].concat(), from).unwrap();
        let length = client.recv(&mut bytes).unwrap();
        assert_eq!(bytes[..length], [b"answer to ", text.as_bytes()].concat());
    }
    node.finish();
}

#[test]
fn a_port_is_the_nodes_address_that_the_pod_names_and_no_other() {
    let Some(node) = plain() else { return };
    let at = |host_ip: &str, port: cri::PortMapping| cri::PortMapping { host_ip: host_ip.into(), ..port };
    serving(&node, &with_ports(&node, "one", &[at("127.0.0.1", port(80, 12_000))]));
    assert_eq!(exchange(&node, "127.0.0.1:12000", "x").unwrap(), "x");
    assert!(exchange(&node, "[::1]:12000", "x").is_err() && exchange(&node, "10.88.0.1:12000", "x").is_err());
    // Another pod has the same port on another address.
    serving(&node, &with_ports(&node, "two", &[at("127.0.0.2", port(80, 12_000))]));
    assert_eq!(exchange(&node, "127.0.0.2:12000", "x").unwrap(), "x");
    let before = node.holdings();
    let refused = node.run_pod(&with_ports(&node, "three", &[at("192.0.2.1", port(80, 12_000))])).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("192.0.2.1:12000"), "{refused}");
    node.assert_nothing_leaked(&before);
    node.finish();
}

#[test]
fn a_port_that_is_taken_is_named_leaves_nothing_and_the_retry_succeeds_once_it_is_free() {
    let Some(node) = plain() else { return };
    let own = node.netns.clone().unwrap();
    let taken = netns::inside(&own, || TcpListener::bind("127.0.0.1:12001").unwrap());
    let config = with_ports(&node, "web", &[port(80, 12_000), port(81, 12_001)]);
    let before = node.holdings();
    let refused = node.run_pod(&config).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("12001/tcp") && refused.message().contains("taken"), "{refused}");
    node.assert_nothing_leaked(&before);
    assert!(node.pods(None).is_empty());
    assert_eq!(leftovers(&node), Vec::<String>::new());
    drop(taken);
    let first = serving(&node, &config);
    assert_eq!(exchange(&node, "127.0.0.1:12000", "x").unwrap(), "x");
    // By another pod it is taken too, until that stops.
    let second = with_ports(&node, "second", &[port(80, 12_000)]);
    assert!(node.run_pod(&second).unwrap_err().message().contains("12000/tcp"));
    node.stop_pod(&first.id).unwrap();
    serving(&node, &second);
    node.finish();
}

#[test]
fn sctp_is_refused_where_no_plugin_maps_it() {
    let Some(node) = plain() else { return };
    let sctp = cri::PortMapping { protocol: cri::Protocol::Sctp.into(), ..port(80, 12_000) };
    let before = node.holdings();
    let refused = node.run_pod(&with_ports(&node, "web", std::slice::from_ref(&sctp))).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("12000/sctp") && refused.message().contains("portmap"), "{refused}");
    node.assert_nothing_leaked(&before);
    // Not published, it concerns nobody.
    node.run_pod(&with_ports(&node, "web", &[cri::PortMapping { host_port: 0, ..sctp }])).unwrap();
    assert!(forwarders(&node).is_empty(), "there is nothing to forward");
    node.finish();
}

#[test]
fn ports_are_forwarded_while_the_daemon_is_away_and_the_next_one_ends_that() {
    let Some(mut node) = plain() else { return };
    let pod = serving(&node, &with_ports(&node, "web", &[port(80, 12_000)]));
    let before = forwarders(&node);
    // A connection that is open all the while.
    let mut open = netns::inside(node.netns.as_ref().unwrap(), || TcpStream::connect("127.0.0.1:12000").unwrap());
    open.set_read_timeout(Some(SECONDS)).unwrap();
    open.write_all(b"before ").unwrap();
    node.kill_daemon();
    open.write_all(b"and after").unwrap();
    open.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "before and after");
    assert_eq!(exchange(&node, "127.0.0.1:12000", "nobody serves the CRI").unwrap(), "nobody serves the CRI");
    node.start_daemon();
    assert_eq!(forwarders(&node).iter().map(|process| process.pid).collect::<Vec<_>>(), [before[0].pid]);
    assert_eq!(exchange(&node, "127.0.0.1:12000", "another daemon").unwrap(), "another daemon");
    node.stop_pod(&pod.id).unwrap();
    assert!(forwarders(&node).is_empty());
    node.finish();
}

#[test]
fn a_forwarder_that_dies_is_replaced_also_if_it_died_while_the_daemon_was_away() {
    let Some(mut node) = plain() else { return };
    let pod = serving(&node, &with_ports(&node, "web", &[port(80, 12_000)]));
    let kill = |node: &Node| {
        let found = forwarders(node);
        found[0].signal(rustix::process::Signal::KILL);
        found[0].pid
    };
    let answers = |node: &Node| exchange(node, "127.0.0.1:12000", "again").is_ok_and(|answer| answer == "again");
    let first = kill(&node);
    until("another one forwards", || answers(&node));
    assert_ne!(forwarders(&node)[0].pid, first);
    node.kill_daemon();
    kill(&node);
    until("it has gone", || forwarders(&node).is_empty());
    node.start_daemon();
    until("the next daemon starts another", || answers(&node));
    node.remove_pod(&pod.id).unwrap();
    assert!(forwarders(&node).is_empty());
    node.finish();
}

#[test]
fn a_network_with_portmap_is_left_to_it() {
    if missing::program("iptables", "iptables").is_none() {
        return;
    }
    let Some(node) = crate::network::bridged(&[SOCKETS]) else { return };
    serving(&node, &with_ports(&node, "web", &[port(80, 12_000)]));
    assert!(forwarders(&node).is_empty());
    assert_eq!(exchange(&node, "127.0.0.1:12000", "by rules").unwrap(), "by rules");
    node.finish();
}
