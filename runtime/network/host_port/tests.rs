//! The parts of a forwarder, without a pod: what stands on its command line, who finds it, and bytes through it on loopback.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::host::Process;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_mapping_is_the_same_after_the_command_line() {
    for (text, listens) in [
        ("tcp,*,8080,80", vec!["0.0.0.0:8080", "[::]:8080"]),
        ("udp,127.0.0.1,53,5353", vec!["127.0.0.1:53"]),
        ("tcp,::1,65535,1", vec!["[::1]:65535"]),
        ("tcp,0.0.0.0,1,1", vec!["0.0.0.0:1"]),
    ] {
        let mapping: Mapping = text.parse().unwrap();
        assert_eq!(mapping.to_string(), text);
        let expected: Vec<SocketAddr> = listens.into_iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(mapping.listens(), expected);
    }
    for bad in ["", "sctp,*,1,1", "tcp,*,0,80", "tcp,*,80,0", "tcp,*,80", "tcp,*,80,80,80", "tcp,host,80,80", "tcp,*,65536,1"] {
        assert!(bad.parse::<Mapping>().is_err(), "{bad}");
    }
}

#[test]
fn a_client_is_led_to_the_pods_address_of_its_own_family_first() {
    let mapping: Mapping = "tcp,*,8080,80".parse().unwrap();
    let pod: Vec<IpAddr> = vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    let targets =
        |client: &str| mapping.targets(&pod, client.parse().unwrap()).into_iter().map(|to| to.to_string()).collect::<Vec<_>>();
    assert_eq!(targets("127.0.0.1"), ["10.0.0.2:80", "[fd00::2]:80"]);
    assert_eq!(targets("::1"), ["[fd00::2]:80", "10.0.0.2:80"]);
}

#[test]
fn a_process_is_found_by_the_lock_that_it_inherited_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pod/ports");
    lock::end(&path, Duration::from_secs(1)).unwrap();
    let file = Lock::take(&path).unwrap().into_file();
    assert!(matches!(Lock::take(&path), Err(HostPortError::File { .. })), "it is held");
    let named = file.try_clone().unwrap();
    let mut child = Command::new("sleep").arg("1000").stdin(file).stdout(Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    assert!(matches!(lock::watch(&path), Watched::Unknown), "it has not said who it is");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start_ticks = wasm_host::exit_record::start_ticks(&stat).unwrap();
    let process = Process { pid, start_ticks, started_at: 0 };
    named.write_all_at(&serde_json::to_vec(&process).unwrap(), 0).unwrap();
    drop(named);
    assert!(matches!(lock::watch(&path), Watched::Process(_)));
    let reaper = std::thread::spawn(move || child.wait().unwrap());
    lock::end(&path, Duration::from_secs(10)).unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&reaper.join().unwrap()), Some(libc::SIGKILL));
    assert!(!path.exists());
    assert!(matches!(lock::watch(&path), Watched::Nobody));
}

#[test]
fn a_file_that_a_dead_forwarder_left_behind_is_no_forwarder() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ports");
    // Its number belongs to this process now, which must live.
    let own = Process { pid: i32::try_from(std::process::id()).unwrap(), start_ticks: 1, started_at: 0 };
    std::fs::write(&path, serde_json::to_vec(&own).unwrap()).unwrap();
    assert!(matches!(lock::watch(&path), Watched::Nobody));
    lock::end(&path, Duration::from_secs(1)).unwrap();
    assert!(!path.exists());
}

#[test]
fn sctp_is_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let port = PortMapping { protocol: Protocol::Sctp, container_port: 80, host_port: 8080, host_ip: None };
    let plan =
        Plan { file: directory.path().join("ports"), netns: "/nonexistent".into(), addresses: Vec::new(), ports: vec![port] };
    let ports = HostPorts { program: "/nonexistent".into(), cgroup: None };
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = executor.block_on(ports.start(&plan)).unwrap_err();
    assert!(error.to_string().contains("8080/sctp") && error.to_string().contains("portmap"), "{error}");
    assert!(!plan.file.exists());
}

/// Runs a forwarder's task until the client is done.
fn while_serving<F: Future<Output = ()> + 'static>(serve: impl FnOnce() -> F, client: impl FnOnce() + Send + 'static) {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&executor, async {
        let serving = tokio::task::spawn_local(serve());
        tokio::task::spawn_blocking(client).await.unwrap();
        serving.abort();
    });
}

#[test]
fn bytes_go_both_ways_and_an_end_of_one_way_leaves_the_other_open() {
    let pod = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let container_port = pod.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = pod.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        stream.write_all(&received).unwrap();
    });
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let mapping = Mapping { udp: false, host_ip: None, host_port: to.port(), container_port };
    while_serving(
        || async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tcp::serve(listener, mapping, Rc::from([LOOPBACK]), tcp::places()).await;
        },
        move || {
            let mut stream = TcpStream::connect(to).unwrap();
            let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
            let (mut writing, bytes) = (stream.try_clone().unwrap(), sent.clone());
            let writer = std::thread::spawn(move || {
                writing.write_all(&bytes).unwrap();
                writing.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            writer.join().unwrap();
            assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
        },
    );
    server.join().unwrap();
}

#[test]
fn datagrams_of_several_clients_are_answered_to_each() {
    let pod = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let container_port = pod.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((length, from)) = pod.recv_from(&mut bytes) {
            let _ = pod.send_to(&[b"to ", &bytes[..length]].concat(), from);
        }
    });
    let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let to = socket.local_addr().unwrap();
    socket.set_nonblocking(true).unwrap();
    let mapping = Mapping { udp: true, host_ip: None, host_port: to.port(), container_port };
    while_serving(
        || async move {
            let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
            udp::serve(socket, mapping, Rc::from([LOOPBACK])).await;
        },
        move || {
            // More than there is room for: the first ones are forgotten, and begin anew when they speak again.
            let clients: Vec<UdpSocket> = (0..udp::SESSIONS + 8).map(|_| UdpSocket::bind((LOOPBACK, 0)).unwrap()).collect();
            for (number, client) in clients.iter().enumerate().chain(clients.iter().enumerate().take(4)) {
                client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                client.connect(to).unwrap();
                let text = format!("client {number}");
                client.send(text.as_bytes()).unwrap();
                let mut bytes = [0; 64];
                let length = client.recv(&mut bytes).unwrap();
                assert_eq!(String::from_utf8_lossy(&bytes[..length]), format!("to {text}"));
            }
        },
    );
}
