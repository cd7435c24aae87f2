//! Sockets of WASI 0.1: servers of Rust and C on the ports that their containers declare, spoken to as from other pods.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;
use serde_json::json;

use crate::harness::guests::{ACCEPT, Guest, NET, TOOLBOX};
use crate::harness::image::digest;
use crate::harness::{Node, Options, Pod, cri, netns, until};

/// Where the kubelet writes the container's ports.
const PORTS: &str = "io.kubernetes.container.ports";

/// Two ports, as a manifest declares them.
pub(crate) const TWO: &[(&str, u16)] = &[("web", 8000), ("admin", 8001)];

/// A server on the network of a node of its own.
pub(crate) struct Server {
    pub(crate) node: Node,
    pub(crate) pod: Pod,
    pub(crate) id: String,
}

pub(crate) fn declaring(mut config: cri::ContainerConfig, ports: &[(&str, u16)]) -> cri::ContainerConfig {
    let ports: Vec<_> =
        ports.iter().map(|(name, port)| json!({"name": name, "containerPort": port, "protocol": "TCP"})).collect();
    config.annotations.insert(PORTS.to_owned(), json!(ports).to_string());
    config
}

fn node(config: &str, guest: Guest) -> Option<Node> {
    Node::with_options(&Options { config, own_network: true, ..Default::default() }, &[guest])
}

pub(crate) fn server(guest: Guest, args: &[&str], ports: &[(&str, u16)]) -> Option<Server> {
    let node = node("", guest)?;
    let pod = node.pod("servers");
    let id = node.launch(&pod, &declaring(guest.container("main", args), ports));
    Some(Server { node, pod, id })
}

impl Server {
    /// Where the node is.
    pub(crate) fn inside<T: Send>(&self, code: impl FnOnce() -> T + Send) -> T {
        netns::inside(self.node.netns.as_ref().unwrap(), code)
    }

    pub(crate) fn connect(&self, to: impl Into<SocketAddr>) -> TcpStream {
        let to = to.into();
        let stream = self.inside(|| TcpStream::connect(to)).unwrap_or_else(|error| panic!("{to}: {error}"));
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    pub(crate) fn local(&self, port: u16) -> TcpStream {
        self.connect((Ipv4Addr::LOCALHOST, port))
    }

    pub(crate) fn says(&self, text: &str) {
        self.node.wait_stdout(&self.id, text);
    }

    /// What the server has open.
    pub(crate) fn descriptors(&self) -> usize {
        let directory = format!("/proc/{}/fd", self.node.guest_pid(&self.id));
        std::fs::read_dir(directory).unwrap().count()
    }

    pub(crate) fn finish(self) {
        self.node.remove_pod(&self.pod.id).unwrap();
        self.node.finish();
    }
}

/// Says something, and hears what there is to it.
fn exchange(mut stream: TcpStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Sends and receives at once, until both have ended.
fn both_ways(stream: &TcpStream, bytes: &[u8]) -> Vec<u8> {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&*stream).write_all(bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        (&*stream).read_to_end(&mut answer).unwrap();
        answer
    })
}

/// 10 MB in which no part is like another.
pub(crate) fn large() -> Vec<u8> {
    (0..2_500_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Goes away as a machine that is switched off and on does: the server is told of a reset.
pub(crate) fn vanish(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[test]
fn a_server_of_rusts_library_serves_connection_after_connection() {
    let Some(server) = server(ACCEPT, &["echo"], &[("echo", 8000)]) else { return };
    server.says("ready\n");
    for number in 0..50 {
        let to = if number % 2 == 0 { SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)) } else { (Ipv6Addr::LOCALHOST, 8000).into() };
        let text = format!("message {number}");
        assert_eq!(exchange(server.connect(to), text.as_bytes()), text.as_bytes());
    }
    let bytes = large();
    let answer = both_ways(&server.local(8000), &bytes);
    assert_eq!((answer.len(), digest(&answer)), (bytes.len(), digest(&bytes)));
    until("it says how much that was", || server.node.log(&server.id).stdout().contains("sent 10000000 bytes back\n"));

    let mut vanishing = server.local(8000);
    vanishing.write_all(b"is any").unwrap();
    vanishing.read_exact(&mut [0; 6]).unwrap();
    vanish(vanishing);
    until("it notices", || server.node.log(&server.id).stdout().ends_with("ConnectionReset\n"));
    assert_eq!(exchange(server.local(8000), b"goes on"), b"goes on");

    server.node.stop_container(&server.id, 30).unwrap();
    let status = server.node.status(&server.id);
    assert_eq!((status.exit_code, status.reason.as_str()), (143, "Error"));
    // Its port is free at once, for its successor.
    let id = server.node.launch(&server.pod, &declaring(ACCEPT.container("next", &["echo", "1"]), &[("echo", 8000)]));
    assert_eq!(exchange(server.local(8000), b"again"), b"again");
    assert_eq!(server.node.wait_exit(&id).status.exit_code, 0);
    server.finish();
}

#[test]
fn a_guest_is_told_of_its_sockets_and_finds_its_files_beside_them() {
    let Some(server) = server(ACCEPT, &["told"], TWO) else { return };
    let said = server.node.wait_exit(&server.id).log.stdout();
    let lines: Vec<&str> = said.lines().collect();
    let [number, names, hosts, file] = lines[..] else { panic!("{said}") };
    // Three streams, two sockets, the root.
    assert_eq!((number, names, file), ("LISTEN_FDS=2", "LISTEN_FDNAMES=web:admin", "a file is 6"));
    assert!(!hosts.is_empty());

    let Server { node, pod, .. } = server;
    // What the pod says of them itself stays.
    let envs = vec![cri::KeyValue { key: "LISTEN_FDS".into(), value: b"many".to_vec() }];
    let own = declaring(cri::ContainerConfig { envs, ..ACCEPT.container("own", &["told"]) }, &[("", 8000)]);
    assert!(node.run(&pod, &own).log.stdout().starts_with("LISTEN_FDS=many\nLISTEN_FDNAMES=unknown\n"));
    // Without a declared port everything is as without sockets: the root is 3.
    let none = ACCEPT.container("none", &["told"]);
    let said = node.run(&pod, &none).log.stdout();
    assert!(said.starts_with("LISTEN_FDS=?\nLISTEN_FDNAMES=?\n") && said.ends_with("a file is 4\n"), "{said}");
    // A guest that cannot accept has none either, and the port stays free for who can.
    let ports = [cri::PortMapping { container_port: 8002, ..Default::default() }];
    let other = node.run_pod(&cri::PodSandboxConfig { port_mappings: ports.to_vec(), ..node.pod_config("other") }).unwrap();
    assert!(node.run(&other, &ACCEPT.container("mapped", &["told"])).log.stdout().starts_with("LISTEN_FDS=1\n"));
    // The pod's ports are another container's where the kubelet says that this one has none.
    let mut sibling = ACCEPT.container("sibling", &["told"]);
    sibling.annotations.insert("io.kubernetes.container.restartCount".into(), "0".into());
    assert!(node.run(&other, &sibling).log.stdout().starts_with("LISTEN_FDS=?\n"));
    node.finish();
}

/// A shell that works with files in every way, and tells what it finds.
const FILES: &str = "set -e
mkdir -p /tmp/d/e; cd /tmp/d; echo one >f; ln -s f relative; ln f hard
cat /data/absolute relative; readlink /data/absolute relative; echo two >>/data/absolute; cat hard
mv f e/g; ls . e; cat e/g | while read -r line; do echo \"read $line\"; done; wc -c <e/g
touch -d @5 e/g; stat -c %Y e/g; head -c 3 /dev/zero | od -An -tx1; cp -r e copy; rm -r e; ls; rm hard; rmdir copy || echo not empty
cat missing || echo missing; cd /; exec 5>/tmp/five; echo to five >&5; exec 6>&5; echo to six >&6; exec 5>&-; cat /tmp/five";

#[test]
fn files_are_the_same_beside_sockets_and_the_shell_takes_a_connection() {
    let Some(node) = node("", TOOLBOX) else { return };
    let pod = node.pod("shells");
    let volume = node.place.directory("volume");
    std::os::unix::fs::symlink("/tmp/d/f", volume.join("absolute")).unwrap();
    let mounts =
        vec![cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() }];
    let shell = |name| cri::ContainerConfig { mounts: mounts.clone(), ..TOOLBOX.container(name, &["sh", "-c", FILES]) };
    let without = node.run(&pod, &shell("without"));
    let with = node.run(&pod, &declaring(shell("with"), TWO));
    assert_eq!(without.status.exit_code, 0, "{} {}", without.log.stdout(), without.log.stderr());
    assert_eq!((with.status.exit_code, with.log.stdout()), (0, without.log.stdout()), "{}", with.log.stderr());
    assert_eq!(with.log.stderr(), without.log.stderr());
    let script = "echo ready; echo from the shell | nc -l; echo done";
    let id = node.launch(&pod, &declaring(TOOLBOX.container("nc", &["sh", "-c", script]), TWO));
    let server = Server { node, pod, id };
    server.says("ready\n");
    assert_eq!(exchange(server.local(8000), b"from a client\n"), b"from the shell\n");
    assert_eq!(server.node.wait_exit(&server.id).log.stdout(), "ready\nfrom a client\ndone\n");
    server.finish();
}

#[test]
fn a_server_of_c_polls_many_connections_on_two_ports() {
    let Some(server) = server(NET, &["serve"], TWO) else { return };
    server.says("ready\n");
    let before = server.descriptors();
    let mut streams: Vec<TcpStream> = (0..200).map(|number| server.local(if number % 3 == 0 { 8001 } else { 8000 })).collect();
    for round in 0..3 {
        for (number, stream) in streams.iter_mut().enumerate() {
            stream.write_all(format!("{round} of {number:03}").as_bytes()).unwrap();
        }
        for (number, stream) in streams.iter_mut().enumerate().rev() {
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(String::from_utf8_lossy(&answer), format!("{round} of {number:03}"));
        }
    }
    // Two that stream at once, while the others are silent.
    let bytes = large();
    let answers = std::thread::scope(|scope| {
        let two = [8000, 8001].map(|port| {
            let stream = server.local(port);
            let bytes = &bytes;
            scope.spawn(move || digest(&both_ways(&stream, bytes)))
        });
        two.map(|answer| answer.join().unwrap())
    });
    assert_eq!(answers, [digest(&bytes), digest(&bytes)]);
    // Some end well, some vanish, some have things on their way.
    for (number, mut stream) in streams.into_iter().enumerate() {
        match number % 3 {
            0 => assert!(exchange(stream, b"last words") == b"last words"),
            1 => vanish(stream),
            _ => {
                stream.write_all(&bytes[..100_000]).unwrap();
                drop(stream);
            }
        }
    }
    until("it has let go of all of them", || server.descriptors() == before);
    assert_eq!(exchange(server.local(8001), b"goes on"), b"goes on");
    server.finish();
}

#[test]
fn poll_ends_when_its_time_is_over() {
    let Some(server) = server(NET, &["serve", "700"], TWO) else { return };
    server.says("ready\n");
    let _silent = [server.local(8000), server.local(8001)];
    let ended = server.node.wait_exit(&server.id);
    assert_eq!((ended.status.exit_code, ended.log.stdout().as_str()), (0, "ready\nidle with 2 connections\n"));
    server.finish();
}

#[test]
fn either_side_may_end_first() {
    let Some(server) = server(NET, &["last"], &[("", 8000)]) else { return };
    server.says("ready\n");
    let mut stream = server.local(8000);
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "that was all\n");
    stream.write_all(&large()).unwrap();
    drop(stream);
    let ended = server.node.wait_exit(&server.id);
    assert_eq!((ended.status.exit_code, ended.log.stdout().as_str()), (0, "ready\nread 10000000 bytes after that\n"));
    server.finish();
}

#[test]
fn each_call_does_what_it_should_and_refuses_the_rest() {
    let Some(server) = server(NET, &["calls"], TWO) else { return };
    server.says("prestat of 3: 0, tag 1\n");
    until("it accepts", || server.node.log(&server.id).stdout().contains("stat: 1\n"));
    let mut first = server.local(8000);
    first.write_all(b"hello").unwrap();
    until("it waits for the rest", || server.node.log(&server.id).stdout().contains("peek: 5\n"));
    first.write_all(b" world").unwrap();
    let mut answer = String::new();
    first.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer\n");
    drop(first);
    let mut second = server.local(8000);
    let mut answer = String::new();
    second.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "renumbered\n");
    let ended = server.node.wait_exit(&server.id);
    // Numbers of errors are those of WASI: 6 EAGAIN, 8 EBADF, 28 EINVAL, 53 ENOTCONN, 54 ENOTDIR, 57 ENOTSOCK, 64 EPIPE, 70 ESPIPE.
    let wanted = "\
        prestat of 3: 0, tag 1\n\
        prestat of 4: 0, tag 1\n\
        prestat of 5: 0, tag 0\n\
        prestat of 6: 8, tag -1\n\
        fdstat: 0\n\
        type 6, flags 4, may accept 1\n\
        accept of what was asked for its flags: -6\n\
        accept of a directory: -57\n\
        accept of an input: -57\n\
        accept of nothing: -8\n\
        accept of a negative number: -8\n\
        accept with flags of files: -28\n\
        seek: 70\n\
        tell: 70\n\
        readdir: 54\n\
        sync: 28\n\
        open below a socket: 54\n\
        open below nothing: 8\n\
        recv of a listener: -53\n\
        recv of a directory: -57\n\
        send to nothing: -8\n\
        shutdown of a directory: 57\n\
        stat: 1\n\
        accepted: 6\n\
        prestat of a connection: 8\n\
        peek: 5\n\
        recv of all: 11\n\
        hello world\n\
        recv with unknown flags: -28\n\
        recv into nothing: 0\n\
        send with flags: -28\n\
        shutdown of no direction: 28\n\
        set flags: 0\n\
        set unknown flags: 28\n\
        recv before there is more: -6\n\
        poll until its time is over: 0\n\
        poll: 1\n\
        can be written: 1\n\
        can be read: 0\n\
        poll of nothing: 1\n\
        is nothing: 1\n\
        send: 7\n\
        shutdown: 0\n\
        send after that: -64\n\
        poll for the end: 1\n\
        recv at the end: 0\n\
        the next is: 7\n\
        its flags: 1\n\
        renumber to what is not open: 8\n\
        renumber: 0\n\
        send by the old number: -8\n\
        send by the new: 11\n\
        close: 0\n\
        close again: 8\n\
        a file is: 4\n\
        another is: 7\n";
    assert_eq!(ended.log.stdout(), wanted, "{}", ended.log.stderr());
    assert_eq!(ended.status.exit_code, 0);
    server.finish();
}

#[test]
fn no_more_connections_are_accepted_than_the_container_may_have_open() {
    let Some(node) = node("[limits]\nmax_open_files = 64\n", ACCEPT) else { return };
    let pod = node.pod("servers");
    let id = node.launch(&pod, &declaring(ACCEPT.container("main", &["hold", "100"]), &[("", 8000)]));
    let server = Server { node, pod, id };
    server.says("ready\n");
    // It may have had enough before all are there.
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, 8000));
    let streams: Vec<TcpStream> = server.inside(|| (0..100).filter_map(|_| connect().ok()).collect());
    let ended = server.node.wait_exit(&server.id);
    drop(streams);
    let said = ended.log.stdout();
    // 33 is EMFILE.
    assert!(said.contains(": Some(33)\none less: true\ndone\n"), "{said} {}", ended.status.message);
    server.finish();
}

#[test]
fn a_port_that_is_taken_is_named_and_the_start_leaves_nothing() {
    let Some(server) = server(NET, &["serve"], &[("web", 8001)]) else { return };
    server.says("ready\n");
    let before = server.node.holdings();
    let id = server.node.create(&server.pod, &declaring(NET.container("second", &["serve"]), TWO)).unwrap();
    // Whether the call or the status says so first is a matter of moments.
    let refused = server.node.start_container(&id);
    let ended = server.node.wait_exit(&id);
    let said = refused.err().map_or_else(|| ended.status.message.clone(), |error| error.message().to_owned());
    assert!(said.contains("port 8001 (admin)") && said.contains("in use"), "{said}");
    assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (128, "StartError"));
    assert!(ended.status.message.contains("port 8001 (admin)"), "{}", ended.status.message);
    server.node.remove_container(&id).unwrap();
    server.node.assert_nothing_leaked(&before);
    // The other port was let go.
    let other = server.node.launch(&server.pod, &declaring(NET.container("third", &["serve"]), &[("web", 8000)]));
    server.node.wait_stdout(&other, "ready\n");
    assert_eq!(exchange(server.local(8000), b"free"), b"free");
    server.finish();
}
