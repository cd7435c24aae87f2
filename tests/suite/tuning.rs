//! What guests write for people who tune them: profiles and core dumps.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::guests::{Guest, PROBE, PROBE_P2, TRAP_UNREACHABLE, WEB};
use crate::harness::{Node, Options, Pod, cri, eventually};

/// A pod with this annotation, on the node's network.
fn pod(node: &Node, name: &str, annotation: Option<(&str, &str)>) -> Pod {
    let mut config = node.pod_config(name);
    config.annotations.extend(annotation.map(|(key, value)| (key.to_owned(), value.to_owned())));
    config.linux.get_or_insert_default().security_context.get_or_insert_default().namespace_options =
        Some(cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() });
    node.run_pod(&config).unwrap()
}

/// A container with a volume at `at`, and these variables.
fn with_volume(node: &Node, mut config: cri::ContainerConfig, at: &str, env: &[(&str, &str)]) -> (cri::ContainerConfig, PathBuf) {
    let volume = node.place.directory(&format!("volumes/{}", config.metadata.as_ref().unwrap().name));
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: at.to_owned(), ..Default::default() };
    config.mounts.push(mount);
    for (key, value) in env {
        config.envs.push(cri::KeyValue { key: (*key).to_owned(), value: value.as_bytes().to_vec() });
    }
    config.linux.get_or_insert_default().security_context.get_or_insert_default().namespace_options =
        Some(cri::NamespaceOption { network: cri::NamespaceMode::Node.into(), ..Default::default() });
    (config, volume)
}

fn files(volume: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn maps(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap()
}

#[test]
fn perf_finds_names_for_the_code_that_a_guest_runs() {
    let options = Options { config: "[handlers.\"\"]\nprofile_by_annotation = true\n", ..Options::default() };
    let Some(node) = Node::with_options(&options, &[PROBE, PROBE_P2]) else { return };
    let pod = pod(&node, "web", Some(("cri-wasm.dev/profile", "perf")));
    for (name, guest) in [("module", PROBE), ("component", PROBE_P2)] {
        let (config, volume) = with_volume(&node, guest.container(name, &["sleep", "forever"]), "/tmp", &[]);
        let id = node.launch(&pod, &config);
        let pid = node.guest_pid(&id);
        // Where perf looks: in the mount namespace of the process.
        let map = std::fs::read_to_string(format!("/proc/{pid}/root/tmp/perf-{pid}.map")).unwrap();
        assert_eq!(files(&volume), [format!("perf-{pid}.map")]);
        let named: Vec<(u64, &str)> = map
            .lines()
            .map(|line| line.splitn(3, ' ').collect::<Vec<_>>())
            .map(|words| (u64::from_str_radix(words[0].trim_start_matches("0x"), 16).unwrap(), words[2]))
            .collect();
        let (address, _) = named.iter().find(|(_, name)| name.contains("probe")).unwrap_or_else(|| panic!("{map}"));
        // perf uses the map for code that belongs to no file.
        let maps = maps(pid);
        let lies_in = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (start, end) = words[0].split_once('-').unwrap();
            let number = |text| u64::from_str_radix(text, 16).unwrap();
            (number(start)..number(end)).contains(address)
        };
        let line = maps.lines().find(lies_in).unwrap_or_else(|| panic!("{address:x} in {maps}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words[1].contains('x') && words[4] == "0", "{line}");
    }
    // Nobody else has one.
    let plain = node.pod("plain");
    let (config, volume) = with_volume(&node, PROBE.container("plain", &["echo"]), "/tmp", &[]);
    node.run(&plain, &config);
    assert_eq!(files(&volume), Vec::<String>::new());
    node.finish();
}

#[test]
fn a_jitdump_goes_where_the_container_wants_it() {
    let options = Options { config: "[handlers.\"\"]\nprofile = \"jitdump\"\n", ..Options::default() };
    let Some(node) = Node::with_options(&options, &[PROBE]) else { return };
    let pod = node.pod("web");
    let dir = [("CRI_WASM_PROFILE_DIR", "/profiles")];
    let (config, volume) = with_volume(&node, PROBE.container("main", &["sleep", "forever"]), "/profiles", &dir);
    let id = node.launch(&pod, &config);
    let name = format!("jit-{}.dump", node.guest_pid(&id));
    assert_eq!(files(&volume), std::slice::from_ref(&name));
    let dump = std::fs::read(volume.join(&name)).unwrap();
    assert_eq!(dump[..4], 0x4A69_5444_u32.to_ne_bytes(), "the magic of the format");
    assert!(dump.windows(5).any(|bytes| bytes == b"probe"));
    // perf knows of the file by this mapping.
    let maps = maps(node.guest_pid(&id));
    assert!(maps.lines().any(|line| line.contains(&name) && line.contains('x')), "{maps}");
    // A directory that is not there is named.
    let none = [("CRI_WASM_PROFILE_DIR", "/none")];
    let (config, _) = with_volume(&node, PROBE.container("none", &["echo"]), "/profiles", &none);
    let id = node.create(&pod, &config).unwrap();
    let refused = node.start_container(&id).unwrap_err();
    assert!(refused.message().contains("/none"), "{refused}");
    node.finish();
}

#[test]
fn profiles_are_refused_where_they_cannot_be() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let web = pod(&node, "web", Some(("cri-wasm.dev/profile", "perf")));
    let refused = node.create(&web, &PROBE.container("main", &["echo"])).unwrap_err();
    assert!(refused.message().contains("profile_by_annotation"), "{refused}");
    node.finish();
    let options = Options { config: "[handlers.\"\"]\nprofile = \"guest\"\n", ..Options::default() };
    let Some(node) = Node::with_options(&options, &[PROBE]) else { return };
    let web = node.pod("web");
    let refused = node.create(&web, &PROBE.container("main", &["echo"])).unwrap_err();
    assert!(refused.message().contains("HTTP"), "{refused}");
    node.finish();
}

/// A port that is free now.
fn port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The status of an answer, or nothing where there is none.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap_or_default().to_owned()
}

/// A service that listens, with a volume at /data.
fn service(node: &Node, pod: &Pod, env: &[(&str, &str)]) -> (String, PathBuf, SocketAddr) {
    let address = port();
    let at = address.to_string();
    let env: Vec<(&str, &str)> = env.iter().copied().chain([("CRI_WASM_HTTP_ADDR", at.as_str())]).collect();
    let (config, volume) = with_volume(node, WEB.container("service", &[]), "/data", &env);
    (node.launch(pod, &config), volume, address)
}

#[test]
fn a_service_writes_a_profile_of_its_own_when_it_ends() {
    let config = "[handlers.\"\"]\nprofile = \"guest\"\nhttp_request_timeout_seconds = 1\n";
    let Some(node) = Node::with_options(&Options { config, ..Options::default() }, &[WEB]) else { return };
    let pod = pod(&node, "web", None);
    let (id, volume, address) = service(&node, &pod, &[("CRI_WASM_PROFILE_DIR", "/data")]);
    let pid = node.guest_pid(&id);
    assert_eq!(get(address, "/hello"), "200");
    // Computes until its time is over.
    assert_eq!(get(address, "/spin"), "504");
    node.stop_container(&id, 30).unwrap();
    assert_eq!(node.status(&id).exit_code, 0);
    assert_eq!(files(&volume), [format!("profile.{pid}.json")]);
    let text = std::fs::read_to_string(volume.join(format!("profile.{pid}.json"))).unwrap();
    let profile: serde_json::Value = serde_json::from_str(&text).unwrap();
    let samples = profile["threads"][0]["samples"]["length"].as_u64().unwrap();
    assert!(samples > 10, "{samples} of a second with an epoch of 10 ms");
    assert!(text.contains("spin"), "the function that computes is named");
    node.finish();
}

/// Whether it is one, only for its owner, and has this in a memory.
fn is_core_dump(path: &Path, content: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let bytes = std::fs::read(path).unwrap();
    let has = |name: &str| bytes.windows(name.len()).any(|part| part == name.as_bytes());
    let private = std::fs::metadata(path).unwrap().permissions().mode() & 0o777 == 0o600;
    private && bytes.starts_with(b"\0asm") && has("corestack") && has("coremodules") && has(content)
}

#[test]
fn a_trap_leaves_a_core_dump_where_it_is_asked_for() {
    let Some(node) = Node::with(&[TRAP_UNREACHABLE, PROBE_P2]) else { return };
    let asked = pod(&node, "asked", Some(("cri-wasm.dev/core-dump-dir", "/data")));
    let dump = |pod: &Pod, guest: Guest, name: &str, args: &[&str], at: &str, env: &[(&str, &str)]| {
        let (config, volume) = with_volume(&node, guest.container(name, args), at, env);
        let ended = node.run(pod, &config);
        assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (134, "Trap"), "{name}");
        assert!(ended.status.message.contains("inner"), "{name}: {}", ended.status.message);
        assert!(!ended.status.message.contains("coredump"), "{name}: {}", ended.status.message);
        (files(&volume), volume, ended.status.message)
    };
    let (names, volume, message) = dump(&asked, TRAP_UNREACHABLE, "module", &[], "/data", &[]);
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(message.ends_with(&format!("core dump: /data/{}", names[0])), "{message}");
    assert!(names[0].starts_with("core.") && names[0].ends_with(".wasm"), "{names:?}");
    assert!(is_core_dump(&volume.join(&names[0]), "before the trap"));
    // By the environment, of a component, as another user than root.
    let plain = node.pod("plain");
    let (names, volume, _) = dump(&plain, PROBE_P2, "env", &["trap"], "/cores", &[("CRI_WASM_CORE_DUMP_DIR", "/cores")]);
    assert!(names.len() == 1 && is_core_dump(&volume.join(&names[0]), "usage: probe"), "{names:?}");
    // A directory that is not there is told, and the trap stays one.
    let (names, _, message) = dump(&asked, TRAP_UNREACHABLE, "elsewhere", &[], "/other", &[]);
    assert!(names.is_empty() && message.contains("no core dump: /data/core."), "{message}");
    // Nobody asks, nothing is written.
    let (names, _, message) = dump(&plain, TRAP_UNREACHABLE, "nobody", &[], "/data", &[]);
    assert!(names.is_empty() && !message.contains("core dump"), "{message}");
    let id =
        node.create(&plain, &with_volume(&node, PROBE_P2.container("bad", &[]), "/data", &[("CRI_WASM_CORE_DUMP_DIR", "x")]).0);
    assert!(id.unwrap_err().message().contains("absolute"));
    node.finish();
}

#[test]
fn a_service_leaves_a_core_dump_for_each_trap_up_to_ten() {
    let Some(node) = Node::with(&[WEB]) else { return };
    let pod = pod(&node, "web", None);
    let (id, volume, address) = service(&node, &pod, &[("CRI_WASM_CORE_DUMP_DIR", "/data")]);
    for _ in 0..12 {
        assert_eq!(get(address, "/trap"), "500");
    }
    eventually("the dumps are written", || (files(&volume).len() == 10).then_some(()));
    let names = files(&volume);
    assert!(names.iter().all(|name| is_core_dump(&volume.join(name), "at last")), "{names:?}");
    assert_eq!(get(address, "/hello"), "200");
    node.stop_container(&id, 30).unwrap();
    assert_eq!(files(&volume).len(), 10);
    node.finish();
}
