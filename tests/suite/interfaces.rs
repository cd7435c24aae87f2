//! Standard interfaces whose data comes from Kubernetes objects: wasi:config, wasi:keyvalue, wasi:logging and wasi:tls; and what a handler
//! forbids.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tonic::Code;

use crate::harness::guests::{FIRST_LINE, INTERFACES, INTERFACES_WEB, PROBE};
use crate::harness::image::{Image, Layered};
use crate::harness::registry::Registry;
use crate::harness::{Node, Options, Pod, cri, http, missing, netns, until, words};
use crate::network::{bridged, pod_config};

fn with_env(config: cri::ContainerConfig, env: &[(&str, &str)]) -> cri::ContainerConfig {
    let envs = env.iter().map(|(key, value)| cri::KeyValue { key: (*key).to_owned(), value: value.as_bytes().to_vec() });
    cri::ContainerConfig { envs: envs.collect(), ..config }
}

fn with_mount(mut config: cri::ContainerConfig, from: &Path, to: &str) -> cri::ContainerConfig {
    let mount = cri::Mount { host_path: from.display().to_string(), container_path: to.to_owned(), ..Default::default() };
    config.mounts.push(mount);
    config
}

/// Runs commands of the guest, and returns its stdout; it must end well.
fn said(node: &Node, pod: &Pod, config: &cri::ContainerConfig) -> String {
    let ended = node.run(pod, config);
    assert_eq!(ended.status.exit_code, 0, "{}: {}", ended.status.message, ended.log.stderr());
    ended.log.stdout()
}

/// A service of the commands on loopback of the node's network.
struct Service {
    node: Node,
    at: SocketAddr,
    container: String,
}

impl Service {
    fn start(env: &[(&str, &str)], change: impl FnOnce(&Node, cri::ContainerConfig) -> cri::ContainerConfig) -> Option<Service> {
        let node = Node::with(&[INTERFACES_WEB])?;
        let at = free_port();
        let pod = node.pod("web");
        let address = at.to_string();
        let env = [env, &[("CRI_WASM_HTTP_ADDR", address.as_str())]].concat();
        let config = change(&node, with_env(INTERFACES_WEB.container("main", &[]), &env));
        let container = node.launch(&pod, &config);
        Some(Service { node, at, container })
    }

    fn get(&self, path: &str) -> (u16, String) {
        get(self.at, path)
    }
}

fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let answer = http::request(at, "GET", path, &[], &[]);
    (answer.status, String::from_utf8(answer.body).unwrap())
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Writes keys as the kubelet mounts a ConfigMap: files in a directory of a generation, which a symbolic link names.
fn write_config_map(volume: &Path, generation: &str, keys: &[(&str, &str)]) {
    let data = volume.join(generation);
    std::fs::create_dir(&data).unwrap();
    for (key, value) in keys {
        std::fs::write(data.join(key), value).unwrap();
        let _ = std::os::unix::fs::symlink(format!("..data/{key}"), volume.join(key));
    }
    std::os::unix::fs::symlink(generation, volume.join("..data_tmp")).unwrap();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
}

#[test]
fn configuration_is_the_environment_over_a_mounted_config_map_which_may_change() {
    let mut volume = PathBuf::new();
    let service = Service::start(&[("GREETING", "from the environment")], |node, config| {
        volume = node.place.directory("config");
        write_config_map(&volume, "..1", &[("color", "blue"), ("GREETING", "from the file"), ("app.properties", "a=1\n")]);
        with_mount(config, &volume, "/etc/config")
    });
    let Some(service) = service else { return };
    assert_eq!(service.get("/config/color"), (200, "blue".to_owned()));
    assert_eq!(service.get("/config/GREETING"), (200, "from the environment".to_owned()));
    assert_eq!(service.get("/config/nothing"), (200, "-".to_owned()));
    let (_, all) = service.get("/config-all");
    for entry in ["color=blue", "GREETING=from the environment", "app.properties=a=1\n"] {
        assert!(all.contains(entry), "{all}");
    }
    // What is for the runtime is no configuration of the guest, and neither are the links of the volume.
    assert!(!all.contains("CRI_WASM_") && !all.contains("..data"), "{all}");
    write_config_map(&volume, "..2", &[("color", "red"), ("new", "1")]);
    assert_eq!(service.get("/config/color"), (200, "red".to_owned()));
    assert_eq!(service.get("/config/new"), (200, "1".to_owned()));
    std::fs::write(volume.join("..2/color"), [0xff]).unwrap();
    let (status, problem) = service.get("/config/color");
    assert!(status == 500 && problem.contains("/etc/config/color: it is not text"), "{problem}");
    service.node.finish();
}

#[test]
fn directories_of_configuration_are_those_that_the_container_names() {
    let Some(node) = Node::with(&[INTERFACES]) else { return };
    let pod = node.pod("web");
    let (first, second) = (node.place.directory("first"), node.place.directory("second"));
    std::fs::write(first.join("both"), "1").unwrap();
    std::fs::write(second.join("both"), "2").unwrap();
    std::fs::write(second.join("one"), "only here").unwrap();
    let config = INTERFACES.container("main", &words("config both + config one + config .hidden"));
    let config = with_env(config, &[("CRI_WASM_CONFIG_DIRS", "/a:/b:/none")]);
    let config = with_mount(with_mount(config, &first, "/a"), &second, "/b");
    assert_eq!(said(&node, &pod, &config), "1\nonly here\n-\n");
    node.finish();
}

#[test]
fn a_bucket_in_memory_is_shared_by_the_instances_of_a_service() {
    let Some(service) = Service::start(&[("CRI_WASM_KEYVALUE_SESSIONS", "memory:")], |_, config| config) else { return };
    // Each request has an instance of its own.
    for number in 1..=3 {
        assert_eq!(service.get("/kv/default/count/hits/1"), (200, number.to_string()));
    }
    // Both drafts see the same buckets, and a bucket does not see another's keys.
    assert_eq!(service.get("/kv1//get/hits"), (200, "3".to_owned()));
    assert_eq!(service.get("/kv/sessions/get/hits"), (200, "-".to_owned()));
    assert_eq!(service.get("/kv/sessions/set/a/b"), (200, "set".to_owned()));
    assert_eq!(service.get("/kv/sessions/keys"), (200, "a".to_owned()));
    assert_eq!(service.get("/kv/other/get/a"), (500, "Error::NoSuchStore".to_owned()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| assert_eq!(service.get("/kv/default/counts/many/10").0, 200)));
        }
    });
    assert_eq!(service.get("/kv/default/get/many"), (200, "1000".to_owned()));
    service.node.finish();
}

/// Every function of wasi:keyvalue, in a bucket of this name.
fn is_a_bucket(node: &Node, pod: &Pod, name: &str, prepare: impl Fn(cri::ContainerConfig) -> cri::ContainerConfig) {
    let command = "kv B get a + kv B set a one + kv B get a + kv B exists a + kv B exists b + kv B cas a two + kv B race a three \
                   + kv B get a + kv B cas new 1 + kv B count new 41 + kv B count new -2 + kv B keys + kv B many x=1 y/z=2 + kv B delete a \
                   + kv B delete a + kv B keys + kv1 B count new 2 + kv1 B get new + kv1 B exists a + kv1 B set a 1 + kv1 B delete a \
                   + kv1 B fill 2100 + kv1 B keys + kv B keys";
    let command: String = command.split(' ').map(|word| if word == "B" { name } else { word }).collect::<Vec<_>>().join(" ");
    let words: Vec<&str> = command.split_whitespace().collect();
    let out = said(node, pod, &prepare(INTERFACES.container(&format!("all-{name}"), &words)));
    let expected = [
        "-",
        "set",
        "one",
        "true",
        "false",
        "one became two",
        "somebody else's became three",
        "three",
        "- became 1",
        "42",
        "40",
        "a,new",
        "x=1,y/z=2,not there=-; 0 left",
        "deleted",
        "deleted",
        "new",
        "42",
        "42",
        "false",
        "set",
        "deleted",
        "[Some(\"00000\"), None]",
        "2101 keys",
        "2101 keys",
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{name}");
    let refused = node.run(
        pod,
        &prepare(
            INTERFACES.container(&format!("text-{name}"), &["kv", name, "set", "t", "text", "+", "kv", name, "count", "t", "1"]),
        ),
    );
    assert_eq!(refused.status.exit_code, 1, "{name}");
    assert!(refused.log.stderr().contains("Error::Other"), "{name}: {}", refused.log.stderr());
}

#[test]
fn buckets_in_memory_and_in_a_directory_do_all_that_the_interface_has() {
    let Some(node) = Node::with(&[INTERFACES]) else { return };
    let pod = node.pod("web");
    is_a_bucket(&node, &pod, "default", |config| config);
    let volume = node.place.directory("data");
    is_a_bucket(&node, &pod, "my-data", |config| {
        with_mount(with_env(config, &[("CRI_WASM_KEYVALUE_MY_DATA", "dir:/data")]), &volume, "/data")
    });
    assert_eq!(std::fs::read_to_string(volume.join("new")).unwrap(), "42");
    assert!(volume.join(".lock").exists() && !volume.join(".new").exists());
    node.finish();
}

#[test]
fn two_containers_count_right_in_a_directory_that_they_share() {
    let Some(node) = Node::with(&[INTERFACES]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("data");
    let ids = ["one", "two"].map(|name| {
        let config = INTERFACES.container(name, &words("kv shared counts hits 500"));
        let config = with_env(config, &[("CRI_WASM_KEYVALUE_SHARED", "dir:/data")]);
        node.launch(&pod, &with_mount(config, &volume, "/data"))
    });
    let ended = ids.map(|id| node.wait_exit(&id));
    assert!(ended.iter().all(|ended| ended.status.exit_code == 0), "{} {}", ended[0].log.stderr(), ended[1].log.stderr());
    assert_eq!(std::fs::read_to_string(volume.join("hits")).unwrap(), "1000");
    assert!(ended.iter().any(|ended| ended.log.stdout() == "1000\n"));
    node.finish();
}

#[test]
fn a_directory_that_may_only_be_read_is_a_bucket_that_may_only_be_read() {
    let Some(node) = Node::with(&[INTERFACES]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("config");
    write_config_map(&volume, "..1", &[("app.properties", "a=1"), ("b", "2")]);
    let container = |name: &str, command: &str| {
        let config = with_env(INTERFACES.container(name, &words(command)), &[("CRI_WASM_KEYVALUE_SETTINGS", "dir:/settings")]);
        let mut config = with_mount(config, &volume, "/settings");
        config.mounts[0].readonly = true;
        config
    };
    let out =
        said(&node, &pod, &container("read", "kv settings get app.properties + kv settings keys + kv settings exists ..data"));
    assert_eq!(out, "a=1\napp.properties,b\nfalse\n");
    for (name, command) in [("write", "kv settings set b 3"), ("delete", "kv settings delete b")] {
        let ended = node.run(&pod, &container(name, command));
        assert_eq!((ended.status.exit_code, ended.log.stderr().as_str()), (1, "Error::AccessDenied\n"));
    }
    node.finish();
}

/// A Redis server in a network namespace, which ends with this.
struct Redis(Child);

impl Redis {
    fn start(node: &Node, namespace: &Path, port: u16) -> Option<Redis> {
        // Debian's redis-tools has the server under another name, without the service.
        let program = missing::program("redis-check-rdb", "redis-tools")?;
        let mut command = Command::new(program);
        std::os::unix::process::CommandExt::arg0(&mut command, "redis-server");
        let port_text = port.to_string();
        command.args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--requirepass", "secret word"]);
        command.arg("--dir").arg(&node.place.files).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = netns::inside(namespace, || command.spawn()).unwrap();
        let answers = || netns::inside(namespace, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        until("the Redis server listens", answers);
        Some(Redis(server))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pod_netns(node: &Node) -> PathBuf {
    let mut files = std::fs::read_dir(node.place.state.join("netns")).unwrap();
    files.next().expect("the pod has a network namespace").unwrap().path()
}

#[test]
fn a_bucket_may_be_in_a_redis_server_that_the_pods_network_reaches() {
    let Some(node) = bridged(&[INTERFACES, INTERFACES_WEB]) else { return };
    let pod = node.run_pod(&pod_config(&node, "web")).unwrap();
    // On loopback of the pod: nobody else reaches it.
    let namespace = pod_netns(&node);
    let Some(redis) = Redis::start(&node, &namespace, 6379) else { return };
    let url = "redis://:secret%20word@localhost/2?prefix=suite*:";
    let prepare = |config| {
        with_env(
            config,
            &[("CRI_WASM_KEYVALUE_CACHE", url), ("CRI_WASM_KEYVALUE_ALL", "redis://:secret%20word@127.0.0.1:6379/2")],
        )
    };
    is_a_bucket(&node, &pod, "cache", prepare);
    // The prefix is a part of the names there.
    let out = said(
        &node,
        &pod,
        &prepare(INTERFACES.container("all", &words("kv all get suite*:new + kv all set other 1 + kv cache keys"))),
    );
    assert_eq!(out, "42\nset\n2102 keys\n");
    // A service keeps its connection, and makes another one when it breaks.
    let service = prepare(INTERFACES_WEB.container("service", &[]));
    node.launch(&pod, &service);
    let at: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    let ask = |path: &str| netns::inside(&namespace, || get(at, path));
    assert_eq!(ask("/kv/cache/count/hits/1"), (200, "1".to_owned()));
    assert_eq!(ask("/kv/cache/count/hits/1"), (200, "2".to_owned()));
    drop(redis);
    let (status, problem) = ask("/kv/cache/get/hits");
    assert!(status == 500 && problem.contains("localhost:6379"), "{problem}");
    let _redis = Redis::start(&node, &namespace, 6379).unwrap();
    assert_eq!(ask("/kv/cache/get/hits"), (200, "-".to_owned()));
    assert_eq!(ask("/kv/cache/count/hits/5"), (200, "5".to_owned()));
    // Who may not come in is told so, and no message has the password.
    let wrong = with_env(
        INTERFACES.container("wrong", &words("kv cache get a")),
        &[("CRI_WASM_KEYVALUE_CACHE", "redis://:guess@127.0.0.1/0")],
    );
    let ended = node.run(&pod, &wrong);
    assert!(ended.status.exit_code == 1 && !ended.log.stderr().contains("guess"), "{}", ended.log.stderr());
    drop(_redis);
    node.remove_pod(&pod.id).unwrap();
    node.finish();
}

#[test]
fn a_redis_server_that_the_egress_list_does_not_have_is_not_asked() {
    let config = "[handlers.\"\"]\negress = [\"192.0.2.0/24\", \"localhost\"]\n";
    let Some(node) = Node::with_options(&Options { config, ..Default::default() }, &[INTERFACES]) else { return };
    let pod = node.pod("web");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let config = with_env(INTERFACES.container("main", &words("kv default get a")), &[("CRI_WASM_KEYVALUE_DEFAULT", &url)]);
    let ended = node.run(&pod, &config);
    assert_eq!(ended.status.exit_code, 1);
    assert!(ended.log.stderr().contains("the egress list of the pod or its handler does not have it"), "{}", ended.log.stderr());
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    node.finish();
}

#[test]
fn a_setting_that_cannot_be_understood_keeps_the_container_from_starting() {
    let Some(node) = Node::with(&[INTERFACES, PROBE]) else { return };
    let pod = node.pod("web");
    for (index, (variable, value)) in
        [("CRI_WASM_KEYVALUE_DATA", "disk:/data"), ("CRI_WASM_LOG_LEVEL", "loud")].into_iter().enumerate()
    {
        let config = |guest: crate::harness::guests::Guest, name: &str, args: &[&str]| {
            with_env(guest.container(&format!("{name}{index}"), args), &[(variable, value)])
        };
        let id = node.create(&pod, &config(INTERFACES, "refused", &["config", "a"])).unwrap();
        let refused = node.start_container(&id).unwrap_err();
        assert!(refused.message().contains(&format!("{variable}={value:?}")), "{}", refused.message());
        assert_eq!(node.status(&id).reason, "StartError");
        // Whoever imports none of it has a variable like any other.
        assert!(said(&node, &pod, &config(PROBE, "other", &["env", variable])).contains(value));
    }
    node.finish();
}

#[test]
fn what_a_guest_logs_is_a_line_of_its_level_in_the_containers_log() {
    let Some(node) = Node::with(&[INTERFACES]) else { return };
    let pod = node.pod("web");
    let args = [
        "log",
        "trace",
        "app",
        "t",
        "+",
        "log",
        "debug",
        "app",
        "d",
        "+",
        "log",
        "info",
        "",
        "i",
        "+",
        "log",
        "warn",
        "app::db",
        "w",
        "+",
        "log",
        "error",
        "app",
        "first\nINFO forged: second",
        "+",
        "log",
        "critical",
        "a\nb",
        "c\n",
    ];
    let ended = node.run(&pod, &INTERFACES.container("all", &args));
    let out = "TRACE app: t\nlogged\nDEBUG app: d\nlogged\nINFO: i\nlogged\nlogged\nlogged\nlogged\n";
    let err = "WARN app::db: w\nERROR app: first\nERROR app: INFO forged: second\nCRITICAL a\\nb: c\n";
    assert_eq!((ended.log.stdout().as_str(), ended.log.stderr().as_str()), (out, err));
    let config = with_env(INTERFACES.container("few", &args), &[("CRI_WASM_LOG_LEVEL", "error")]);
    let ended = node.run(&pod, &config);
    let err = "ERROR app: first\nERROR app: INFO forged: second\nCRITICAL a\\nb: c\n";
    assert_eq!((ended.log.stdout(), ended.log.stderr().as_str()), ("logged\n".repeat(6), err));
    node.finish();
}

#[test]
fn lines_that_instances_of_a_service_log_do_not_mix() {
    let Some(service) = Service::start(&[], |_, config| config) else { return };
    let message = "m".repeat(2000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (service, message) = (&service, &message);
            scope.spawn(move || (0..10).for_each(|_| drop(service.get(&format!("/log/warn/thread-{thread}/{message}")))));
        }
    });
    let log = service.node.log(&service.container).stderr();
    for thread in 0..4 {
        let line = format!("WARN thread-{thread}: {message}");
        assert_eq!(log.lines().filter(|other| **other == line).count(), 10, "{log}");
    }
    assert_eq!(log.lines().count(), 40);
    service.node.finish();
}

/// Answers each connection over TLS, as a server of one name, with what it is sent. Returns the authority that vouches for it, as PEM.
fn tls_server(name: &str) -> (SocketAddr, String) {
    let key = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let authority = key.cert.pem();
    let secret = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![key.cert.der().clone()], secret).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let mut bytes = [0; 1000];
            // A client that does not trust the server goes away.
            let Ok(length) = stream.read(&mut bytes) else { continue };
            let _ = stream.write_all(&[b"you said ", &bytes[..length]].concat());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    (at, authority)
}

#[test]
fn tls_trusts_whom_the_container_trusts() {
    let Some(node) = Node::with(&[INTERFACES]) else { return };
    let pod = node.pod("web");
    let (at, authority) = tls_server("server.test");
    let file = node.place.files.join("ca.pem");
    std::fs::write(&file, authority).unwrap();
    let container = |name: &str, server: &str| {
        let (address, port) = (at.ip().to_string(), at.port().to_string());
        INTERFACES.container(name, &["tls", server, &address, &port, "hello"])
    };
    let by_list = with_mount(container("list", "server.test"), &file, "/etc/ssl/certs/ca-certificates.crt");
    assert_eq!(said(&node, &pod, &by_list), "you said hello\n");
    let by_name = with_env(container("named", "server.test"), &[("SSL_CERT_FILE", "/my/ca.pem")]);
    assert_eq!(said(&node, &pod, &with_mount(by_name, &file, "/my/ca.pem")), "you said hello\n");
    // The authorities that are built in do not know it.
    let untrusted = node.run(&pod, &container("untrusted", "server.test"));
    assert_eq!(untrusted.status.exit_code, 1);
    assert!(untrusted.log.stderr().starts_with("tls: "), "{}", untrusted.log.stderr());
    assert!(untrusted.log.stderr().contains("UnknownIssuer"), "{}", untrusted.log.stderr());
    let other = with_mount(container("other", "another.test"), &file, "/etc/ssl/certs/ca-certificates.crt");
    let other = node.run(&pod, &other);
    assert!(other.status.exit_code == 1 && other.log.stderr().contains("another.test"), "{}", other.log.stderr());
    node.finish();
}

#[test]
fn a_program_that_imports_what_its_handler_forbids_is_refused() {
    let config = r#"
        [handlers.""]
        forbidden_interfaces = ["wasi:keyvalue", "wasi_snapshot_preview1.path_rename"]
        [handlers.open]
    "#;
    let Some(node) = Node::with_options(&Options { config, ..Default::default() }, &[INTERFACES, PROBE, FIRST_LINE]) else {
        return;
    };
    let pod = node.pod("web");
    for (guest, import, entry) in [
        (INTERFACES, "wasi:keyvalue/", "wasi:keyvalue"),
        (PROBE, "wasi_snapshot_preview1.path_rename", "wasi_snapshot_preview1.path_rename"),
    ] {
        let refused = node.create(&pod, &guest.container("main", &[])).unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        for part in [format!("imports {import}"), format!("forbidden_interfaces has {entry:?}"), "handler \"\"".to_owned()] {
            assert!(refused.message().contains(&part), "{}", refused.message());
        }
    }
    // Under another handler it runs, and what imports nothing of the kind runs under this one.
    let request = cri::RunPodSandboxRequest { config: Some(node.pod_config("open")), runtime_handler: "open".to_owned() };
    let open = Pod { id: node.client.run_pod_sandbox(request).unwrap().pod_sandbox_id, config: node.pod_config("open") };
    assert_eq!(said(&node, &open, &INTERFACES.container("main", &words("kv default count a 1"))), "1\n");
    assert_eq!(said(&node, &pod, &FIRST_LINE.container("line", &[])), "hello\n");
    node.finish();
}

#[test]
fn a_command_that_imports_what_the_handler_forbids_is_not_executed() {
    let config = "[handlers.\"\"]\nforbidden_interfaces = [\"wasi:logging\"]\n";
    let Some(node) = Node::with_options(&Options { config, ..Default::default() }, &[PROBE]) else { return };
    let (Some(probe), Some(tool)) = (PROBE.wasm(), INTERFACES.wasm()) else { return };
    let image = Layered::new().file("/bin/probe", &probe).file("/bin/tool", &tool).build();
    let Some(registry) = Registry::shared() else { return };
    registry.push("interfaces/tools", "1", &image);
    let reference = registry.reference("interfaces/tools:1");
    node.pull(&reference).expect("the image is pulled");
    let pod = node.pod("web");
    let mut config = crate::harness::container(&reference, "main", &words("sleep forever"));
    config.command = vec!["/bin/probe".to_owned()];
    let id = node.launch(&pod, &config);
    let refused = node.exec(&id, &["/bin/tool", "config", "a"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.exit_code, 126, "{text}");
    assert!(text.contains("imports wasi:logging/logging@0.1.0-draft") && text.contains("forbids"), "{text}");
    assert_eq!(node.exec(&id, &words("/bin/probe echo yes")).stdout, b"yes\n");
    node.finish();
}

#[test]
fn an_interface_that_nobody_offers_is_named_at_the_pull() {
    let Some(node) = Node::start() else { return };
    let Some(registry) = Registry::shared() else { return };
    for (name, import, hint) in [
        ("watcher", "wasi:keyvalue/watcher@0.2.0-draft2", ""),
        ("version", "wasi:keyvalue/store@0.2.0-draft9", ""),
        ("typo", "wasi:keyvalue/stor@0.2.0-draft2", "(did you mean wasi:keyvalue/store?)"),
        ("handler", "wasi:http/outgoing-handlers@0.2.0", "(did you mean wasi:http/outgoing-handler?)"),
    ] {
        let wasm = wat::parse_str(format!(r#"(component (import "{import}" (instance (export "f" (func)))))"#)).unwrap();
        registry.push(&format!("interfaces/{name}"), "1", &Image::artifact(&wasm));
        let refused = node.pull(&registry.reference(&format!("interfaces/{name}:1"))).unwrap_err();
        assert!(refused.message().contains(import) && refused.message().contains(hint), "{}", refused.message());
    }
    node.finish();
}
