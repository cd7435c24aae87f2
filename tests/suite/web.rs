//! Services of wasi:http in pods, asked by curl from the node: where they listen, how their bodies go both ways, what their faults
//! do to others, and how they end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;
use tonic::Code;

use crate::harness::guests::{Guest, WEB, WEB_P3};
use crate::harness::{Node, Pod, cri, netns, until};
use crate::network::{bridged, node as network_node, pod_config};

const PORTS: &str = "io.kubernetes.container.ports";

/// A service in a pod of its own.
pub(crate) struct Service {
    pub(crate) node: Node,
    pub(crate) pod: Pod,
    pub(crate) container: String,
    /// Address and port.
    pub(crate) at: String,
}

/// A node with the service of a guest on port 80; `handler` is TOML for the handler that pods get.
fn service(guest: Guest, handler: &str) -> Option<Service> {
    let node = if handler.is_empty() { bridged(&[guest])? } else { with_handler(guest, handler)? };
    Some(start(node, guest, &[("web", 80)]))
}

pub(crate) fn with_handler(guest: Guest, handler: &str) -> Option<Node> {
    crate::harness::missing::plugins(std::path::Path::new(crate::network::DEBIAN), &["bridge", "host-local", "portmap"])
        .then_some(())?;
    let node = network_node(&format!("[handlers.\"\"]\n{handler}\n"), &[guest])?;
    crate::network::configure(&node, "10-bridge.conflist", &crate::network::bridge(&node));
    crate::network::wait_ready(&node);
    Some(node)
}

pub(crate) fn start(node: Node, guest: Guest, ports: &[(&str, u16)]) -> Service {
    let config = pod_config(&node, "service");
    start_in(node, &config, guest, ports)
}

pub(crate) fn start_in(node: Node, config: &cri::PodSandboxConfig, guest: Guest, ports: &[(&str, u16)]) -> Service {
    let pod = node.run_pod(config).unwrap();
    let container = node.launch(&pod, &declaring(guest, ports));
    let ip = node.pod_status(&pod.id).unwrap().network.unwrap().ip;
    let port = ports.first().map_or(8080, |port| port.1);
    Service { node, pod, container, at: format!("{ip}:{port}") }
}

/// A container whose manifest declares these ports, as the kubelet tells it.
pub(crate) fn declaring(guest: Guest, ports: &[(&str, u16)]) -> cri::ContainerConfig {
    let mut config = guest.container("main", &[]);
    let ports: Vec<_> =
        ports.iter().map(|(name, port)| json!({"name": name, "containerPort": port, "protocol": "TCP"})).collect();
    config.annotations.insert(PORTS.to_owned(), json!(ports).to_string());
    config
}

fn curl(at: &str, path: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "60", "--globoff", "--noproxy", "*"]).args(arguments);
    command.arg(format!("http://{at}{path}"));
    command
}

/// Status and body of an answer, asked for from the node.
pub(crate) fn get(node: &Node, at: &str, path: &str, arguments: &[&str]) -> (u16, String) {
    let mut command = curl(at, path, &[arguments, &["--write-out", "\n%{http_code}"]].concat());
    let output = netns::inside(node.netns.as_ref().unwrap(), move || command.output().expect("curl"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

impl Service {
    fn command(&self, path: &str, arguments: &[&str]) -> Command {
        curl(&self.at, path, arguments)
    }

    fn output(&self, path: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(path, arguments);
        self.inside(move || command.output().expect("curl"))
    }

    /// Status and body of the answer.
    pub(crate) fn get(&self, path: &str, arguments: &[&str]) -> (u16, String) {
        get(&self.node, &self.at, path, arguments)
    }

    /// Where the node is.
    fn inside<T: Send>(&self, code: impl FnOnce() -> T + Send) -> T {
        netns::inside(self.node.netns.as_ref().unwrap(), code)
    }

    fn connect(&self) -> TcpStream {
        let stream = self.inside(|| TcpStream::connect(&self.at)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// What a peer says to these bytes until it closes.
    fn raw(&self, bytes: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn log(&self) -> String {
        let log = self.node.log(&self.container);
        log.stdout() + &log.stderr()
    }

    pub(crate) fn finish(self) {
        self.node.remove_pod(&self.pod.id).unwrap();
        self.node.finish();
    }
}

#[test]
fn a_service_answers_over_every_version_of_http() {
    let Some(service) = service(WEB, "") else { return };
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(service.get("/hello", &[version]), (200, "hello\n".to_owned()), "{version}");
        assert_eq!(service.get("/status?418", &[version]).0, 418);
        assert_eq!(service.get("/method", &[version, "--request", "BREW"]).1, "BREW");
        assert_eq!(service.get("/path?a=b", &[version]).1, "/path?a=b");
        // Without the port, which is the scheme's own.
        assert_eq!(format!("{}:80", service.get("/authority", &[version]).1), service.at);
        assert!(service.get("/headers", &[version, "--header", "X-One: 1"]).1.contains("x-one: 1\n"));
        assert_eq!(service.get("/nowhere", &[version]), (404, "nothing is there\n".to_owned()));
        assert_eq!(service.get("/hello", &[version, "--head"]).0, 200);
    }
    let hello = "GET /hello HTTP/1.0\r\n\r\n";
    assert!(service.raw(hello).ends_with("hello\n"), "without a header Host");
    assert!(service.raw("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(service.raw("NONSENSE\r\n\r\n").starts_with("HTTP/1.1 400 "));
    service.finish();
}

#[test]
fn connections_are_kept_and_requests_follow_one_another() {
    let Some(service) = service(WEB, "") else { return };
    let url = format!("http://{}/hello", service.at);
    let output = service.output("/hello", &["--write-out", "%{num_connects}\n", &url, &url]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello\n1\nhello\n0\nhello\n0\n");
    let two = "GET /count HTTP/1.1\r\nHost: a\r\n\r\nGET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = service.raw(two);
    assert!(answers.contains("\r\n\r\n1\n") || answers.contains("\r\n1\n"), "{answers}");
    assert!(answers.contains("hello\n"), "{answers}");
    service.finish();
}

#[test]
fn bodies_go_both_ways_as_they_come() {
    let Some(service) = service(WEB, "") else { return };
    let file = service.node.place.files.join("upload");
    let bytes: Vec<u8> = (0..10_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&file, &bytes).unwrap();
    let upload = format!("@{}", file.display());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for header in ["Expect: 100-continue", "Transfer-Encoding: chunked"] {
            if version != "--http1.1" && header.starts_with("Transfer") {
                continue;
            }
            let output = service.output("/echo", &[version, "--data-binary", &upload, "--header", header]);
            assert!(output.stdout == bytes, "{version} {header}: {} bytes of {}", output.stdout.len(), bytes.len());
        }
    }
    // The answer begins before the request has ended.
    let mut stream = service.connect();
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").unwrap();
    let mut seen = Vec::new();
    let mut piece = [0; 1024];
    while !seen.windows(3).any(|window| window == b"one") {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..length]);
    }
    stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").unwrap();
    while !seen.ends_with(b"0\r\n\r\n") {
        let length = stream.read(&mut piece).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..length]);
    }
    assert!(seen.windows(3).any(|window| window == b"two"));
    // Trailers.
    let trailed = service.raw("GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\n\r\n");
    assert!(trailed.ends_with("4\r\ntext\r\n0\r\nx-sum: 4\r\n\r\n"), "{trailed}");
    service.finish();
}

#[test]
fn a_client_that_does_not_read_stops_the_guest_and_nobody_else() {
    let Some(service) = service(WEB, "") else { return };
    let mut slow = service.connect();
    slow.write_all(b"GET /big?1000000000 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    for _ in 0..20 {
        assert_eq!(service.get("/hello", &[]).1, "hello\n");
    }
    // It would have been written by now, were it held in memory.
    let request = cri::ContainerStatsRequest { container_id: service.container.clone() };
    let stats = service.node.client.container_stats(request).unwrap().stats.unwrap();
    let memory = stats.memory.unwrap().usage_bytes.unwrap().value;
    assert!(memory < 64 << 20, "{memory} bytes");
    drop(slow);
    until("the guest has seen that nobody reads", || service.log().contains("nobody reads"));
    service.finish();
}

#[test]
fn what_traps_spins_or_does_not_answer_hurts_itself_alone() {
    let Some(service) = service(WEB, "http_request_timeout_seconds = 1\n") else { return };
    let spinning: Vec<_> = (0..8)
        .map(|_| {
            let mut command = service.command("/spin", &["--write-out", "%{http_code}", "--output", "/dev/null"]);
            command.stdout(Stdio::piped());
            service.inside(move || command.spawn().unwrap())
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(service.get("/hello", &[]).1, "hello\n");
    }
    for spinning in spinning {
        assert_eq!(spinning.wait_with_output().unwrap().stdout, b"504");
    }
    let (status, text) = service.get("/trap", &[]);
    assert_eq!((status, text.contains("its log says why")), (500, true), "{text}");
    until("the trap is in the log", || {
        let log = service.log();
        log.contains("unreachable") && log.contains("inner") && log.contains("outer")
    });
    assert_eq!(service.get("/nothing", &[]).0, 500);
    assert_eq!(service.get("/slow?5000", &[]).0, 504);
    assert!(service.log().contains("no answer within 1s"), "{}", service.log());
    // Once the answer has begun, it can only break off; and a slow one is no fault.
    assert!(!service.output("/trap-after", &[]).status.success());
    assert_eq!(service.get("/drip?800", &[]), (200, "1\n2\n3\n".to_owned()));
    assert_eq!(service.get("/hello", &[]).1, "hello\n");
    service.finish();
}

#[test]
fn an_instance_has_no_more_memory_than_its_handler_gives_it() {
    let Some(service) = service(WEB, "http_max_instance_memory = 16777216\n") else { return };
    assert_eq!(service.get("/grow?4000000", &[]).0, 200);
    assert_eq!(service.get("/grow?40000000", &[]).0, 500);
    assert!(service.log().contains("its handler allows 16777216 (http_max_instance_memory)"), "{}", service.log());
    assert_eq!(service.get("/hello", &[]).1, "hello\n");
    service.finish();
}

#[test]
fn more_requests_than_may_wait_are_refused() {
    for queued in [0, 1] {
        let handler = format!("http_max_requests = 1\nhttp_max_queued = {queued}\n");
        let Some(service) = service(WEB, &handler) else { return };
        // Until its answer is complete it has the only turn.
        let mut first = service.connect();
        first.write_all(b"GET /drip?500 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut begun = [0; 12];
        first.read_exact(&mut begun).unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200");
        if queued == 0 {
            let refused = service.raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: 1"), "{refused}");
        } else {
            assert_eq!(service.get("/hello", &[]), (200, "hello\n".to_owned()));
        }
        let mut rest = String::new();
        first.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("3\n"), "{rest}");
        assert_eq!(service.get("/hello", &[]).0, 200);
        service.finish();
    }
}

#[test]
fn an_instance_answers_as_many_requests_as_its_handler_says() {
    let Some(once) = service(WEB, "") else { return };
    assert_eq!([once.get("/count", &[]).1, once.get("/count", &[]).1], ["1\n", "1\n"]);
    once.finish();
    let handler = "http_requests_per_instance = 3\nhttp_instance_idle_seconds = 1\n";
    for guest in [WEB, WEB_P3] {
        let Some(service) = service(guest, handler) else { return };
        let counts: Vec<String> = (0..4).map(|_| service.get("/count", &[]).1).collect();
        assert_eq!(counts, ["1\n", "2\n", "3\n", "1\n"]);
        until("an instance that nobody needs is forgotten", || service.get("/count", &[]).1 == "1\n");
        service.finish();
    }
}

#[test]
fn a_service_listens_where_its_container_says() {
    let Some(node) = bridged(&[WEB]) else { return };
    let service = start(node, WEB, &[]);
    assert_eq!(service.get("/hello", &[]).0, 200);
    let Service { node, pod, .. } = service;
    // Two containers of a pod, on ports of their own; and one whose port is taken.
    let mut named = declaring(WEB, &[("web", 80)]);
    named.metadata.as_mut().unwrap().name = "named".to_owned();
    named.envs = vec![cri::KeyValue { key: "CRI_WASM_HTTP_ADDR".into(), value: "127.0.0.1:81".into() }];
    node.launch(&pod, &named);
    let mut taken = declaring(WEB, &[("web", 8080)]);
    taken.metadata.as_mut().unwrap().name = "taken".to_owned();
    let id = node.create(&pod, &taken).unwrap();
    let refused = node.start_container(&id).unwrap_err();
    assert!(refused.message().contains("cannot listen on [::]:8080"), "{refused}");
    taken.metadata.as_mut().unwrap().name = "nonsense".to_owned();
    taken.envs = vec![cri::KeyValue { key: "CRI_WASM_HTTP_ADDR".into(), value: "web".into() }];
    let refused = node.create(&pod, &taken).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("CRI_WASM_HTTP_ADDR") && refused.message().contains("\"web\""), "{refused}");
    node.remove_pod(&pod.id).unwrap();
    node.finish();
}

#[test]
fn a_service_is_reached_over_ipv6() {
    let Some(mut service) = service(WEB, "") else { return };
    let status = service.node.pod_status(&service.pod.id).unwrap().network.unwrap();
    let six = status.additional_ips.first().expect("an IPv6 address").ip.clone();
    service.at = format!("[{six}]:80");
    // The bridge's own address is not used before the kernel knows that it is nobody else's.
    let at = service.at.parse().unwrap();
    until("the node's address can be used", || {
        service.inside(|| TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok())
    });
    assert_eq!(service.get("/hello", &[]), (200, "hello\n".to_owned()));
    service.finish();
}

#[test]
fn a_service_that_is_stopped_finishes_what_it_has_begun() {
    let Some(service) = service(WEB, "") else { return };
    let mut command = service.command("/drip?1000", &[]);
    command.stdout(Stdio::piped());
    let mut dripping = service.inside(move || command.spawn().unwrap());
    // It has begun.
    let mut first = [0; 2];
    dripping.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let mut idle = service.connect();
    let at = service.at.clone();
    std::thread::scope(|scope| {
        let stopping = scope.spawn(|| service.node.stop_container(&service.container, 30));
        until("nobody new is let in", || service.inside(|| TcpStream::connect(&at)).is_err());
        assert_eq!(idle.read(&mut [0; 8]).unwrap(), 0, "a connection on which nothing happens is closed");
        let mut rest = String::new();
        dripping.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "2\n3\n");
        stopping.join().unwrap().unwrap();
    });
    assert!(dripping.wait().unwrap().success());
    let status = service.node.status(&service.container);
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    service.finish();
}

#[test]
fn a_service_that_does_not_finish_in_time_is_killed() {
    let Some(service) = service(WEB, "") else { return };
    let mut slow = service.connect();
    slow.write_all(b"GET /slow?60000 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // Accepted and at work.
    assert_eq!(service.get("/hello", &[]).0, 200);
    service.node.stop_container(&service.container, 1).unwrap();
    assert_eq!(service.node.status(&service.container).exit_code, 137);
    service.finish();
}

#[test]
fn guests_have_their_environment_files_and_log() {
    let Some(service) = service(WEB, "http_access_log = true\n") else { return };
    assert_eq!(service.get("/env?HOSTNAME", &[]).1, "service");
    let (status, hosts) = service.get("/file?/etc/hosts", &[]);
    assert!(status == 200 && hosts.contains("localhost"), "{status} {hosts} {}", service.log());
    assert_eq!(service.get("/file?/nothing", &[]).0, 404);
    // Lines of instances that write at once are whole.
    std::thread::scope(|scope| {
        for word in ["one", "two", "three"] {
            let service = &service;
            scope.spawn(move || assert_eq!(service.get(&format!("/partial?{word}"), &[]).0, 200));
        }
    });
    until("every line is there", || {
        let log = service.log();
        ["one", "two", "three"].iter().all(|word| log.lines().any(|line| line == *word))
    });
    until("requests are logged", || service.log().contains("\"GET /file?/nothing HTTP/1.1\" 404 "));
    service.finish();
}

#[test]
fn an_upgrade_is_refused_and_the_service_goes_on() {
    let Some(service) = service(WEB, "") else { return };
    let ask = |protocol: &str| {
        service.raw(&format!("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: {protocol}\r\n\r\n"))
    };
    let refused = ask("websocket");
    assert!(refused.starts_with("HTTP/1.1 501 ") && refused.contains("no upgrade"), "{refused}");
    assert!(ask("h2c").starts_with("HTTP/1.1 200 "));
    assert!(service.raw("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n").starts_with("HTTP/1.1 501 "));
    assert_eq!(service.get("/hello", &[]).0, 200);
    service.finish();
}

#[test]
fn services_of_wasi_0_3_are_served_as_well() {
    let Some(service) = service(WEB_P3, "http_request_timeout_seconds = 1\n") else { return };
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        assert_eq!(service.get("/hello", &[version]), (200, "hello\n".to_owned()));
        assert_eq!(service.get("/drip?700", &[version]), (200, "1\n2\n3\n".to_owned()));
        assert_eq!(service.get("/echo", &[version, "--data", "said"]).1, "said");
    }
    assert_eq!(service.get("/error", &[]).0, 500);
    assert_eq!(service.get("/trap", &[]).0, 500);
    assert_eq!(service.get("/spin", &[]).0, 504);
    assert_eq!(service.get("/slow?5000", &[]).0, 504);
    assert_eq!(service.get("/hello", &[]).0, 200);
    let log = service.log();
    assert!(log.contains("unreachable") && log.contains("LoopDetected"), "{log}");
    service.finish();
}

#[test]
fn a_service_goes_on_while_the_daemon_is_away() {
    let Some(mut service) = service(WEB, "") else { return };
    service.node.kill_daemon();
    assert_eq!(service.get("/hello", &[]).0, 200);
    service.node.start_daemon();
    assert_eq!(service.get("/hello", &[]).0, 200);
    service.node.stop_container(&service.container, 10).unwrap();
    assert_eq!(service.node.status(&service.container).exit_code, 0);
    service.finish();
}
