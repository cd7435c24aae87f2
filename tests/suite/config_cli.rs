//! The configuration and the command line.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use prost::Message;

use crate::harness::guests::{EXIT_CODE, FIRST_LINE, PROBE, TRAP_UNREACHABLE};
use crate::harness::node::PROGRAM;
use crate::harness::{Node, Options, missing, process};

fn program(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

#[test]
fn what_is_wrong_in_a_configuration_is_named_with_its_file() {
    for (content, said) in [
        ("roott = \"/x\"\n", "roott"),
        ("[network]\nconf_dirr = \"/x\"\n", "conf_dirr"),
        ("[limits]\nmax_open_files = \"many\"\n", "max_open_files"),
        ("root = \"relative\"\n", "root"),
        ("[network\n", "network"),
        ("[cgroup]\ndriver = \"upstart\"\n", "cgroup.driver"),
    ] {
        let file = file(content);
        let path = file.path().to_str().unwrap();
        for command in ["serve", "config", "check"] {
            let output = program(&[command, "--config", path]);
            let stderr = text(&output.stderr);
            assert!(!output.status.success(), "{command}: {content}");
            assert!(stderr.contains(said) && stderr.contains(path), "{command}: {content}: {stderr}");
        }
    }
    let output = program(&["config", "--config", "/no/such/file.toml"]);
    assert!(!output.status.success() && text(&output.stderr).contains("/no/such/file.toml"));
}

#[test]
fn the_printed_configuration_is_commented_and_accepted_as_a_file() {
    let given = file("state = \"/run/elsewhere\"\nv1alpha2 = true\n[images]\nmax_parallel_downloads = 7\n");
    let printed = program(&["config", "--config", given.path().to_str().unwrap(), "--root", "/var/lib/elsewhere"]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let content = text(&printed.stdout);
    let table: toml::Table = toml::from_str(&content).expect("TOML");
    assert_eq!(table["state"].as_str(), Some("/run/elsewhere"));
    assert_eq!(table["root"].as_str(), Some("/var/lib/elsewhere"));
    assert_eq!(table["v1alpha2"].as_bool(), Some(true));
    assert_eq!(table["images"]["max_parallel_downloads"].as_integer(), Some(7));
    let lines: Vec<&str> = content.lines().collect();
    let keys = lines.iter().filter(|line| line.split_once(" = ").is_some_and(|(key, _)| !key.starts_with('#'))).count();
    assert!(
        keys > 15 && lines.iter().filter(|line| line.starts_with('#')).count() >= keys,
        "each key under its comment:\n{content}"
    );
    let again = file(&content);
    let printed = program(&["config", "--config", again.path().to_str().unwrap()]);
    assert_eq!(text(&printed.stdout), content);
}

#[test]
fn check_says_of_each_thing_whether_it_is_there() {
    if !missing::is_root() {
        return;
    }
    let cni = tempfile::tempdir().unwrap();
    let config = file(&format!("[network]\nconf_dir = {:?}\n", cni.path().display().to_string()));
    let config = config.path().to_str().unwrap();
    let output = program(&["check", "--config", config]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "this machine can run pods: {said}{}", text(&output.stderr));
    for subject in ["overlay", "cgroup", "landlock", "CNI"] {
        assert!(said.to_lowercase().contains(&subject.to_lowercase()), "{subject}: {said}");
    }
    assert!(said.contains(&cni.path().display().to_string()), "what is lacking, with its place: {said}");
    let output = program(&["check", "--json", "--config", config]);
    serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON");
}

/// A wasm file in a directory of its own.
fn wasm_file(directory: &Path, bytes: &[u8]) -> String {
    let path = directory.join("guest.wasm");
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

#[test]
fn run_starts_a_guest_without_a_daemon_and_leaves_nothing() {
    if !missing::is_root() {
        return;
    }
    let Some(probe) = PROBE.wasm() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = wasm_file(directory.path(), &probe);
    let volume = format!("{}:/data", directory.path().display());
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--env", "A=1", "--mount", &volume, "--memory", "64Mi", &path, "--"]);
    command.args([
        "args",
        "x",
        "+",
        "env",
        "A",
        "+",
        "err",
        "to stderr",
        "+",
        "write",
        "/data/made",
        "text",
        "+",
        "stdin",
        "+",
        "exit",
        "42",
    ]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"from stdin\n").unwrap();
    let name = format!("cri-wasm-{}", child.id());
    let output = child.wait_with_output().unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(42), "{err}");
    assert!(out.contains("1: args\n2: x\n") && out.contains("A=1\n"), "{out}");
    assert!(out.ends_with("from stdin\nread 11 bytes\n"), "{out}");
    assert!(err.contains("to stderr\n"), "{err}");
    assert_eq!(std::fs::read_to_string(directory.path().join("made")).unwrap(), "text");
    for parent in ["/run", "/dev/shm", "/var/tmp"] {
        assert!(!Path::new(parent).join(&name).exists(), "{parent}/{name}");
    }
    assert_eq!(process::of_place(&name), []);
    assert_eq!(crate::harness::place::cgroups_of(&name), Vec::<std::path::PathBuf>::new());
    assert_eq!(crate::harness::place::mounts_of(&name), Vec::<std::path::PathBuf>::new());
}

#[test]
fn run_takes_a_daemon_that_is_named_and_images_by_reference() {
    let Some(node) = Node::with(&[EXIT_CODE, FIRST_LINE, TRAP_UNREACHABLE]) else { return };
    let socket = node.place.state.join("cri.sock").display().to_string();
    let run = |arguments: &[&str]| program(&[&["run", "--socket", &socket], arguments].concat());
    let output = run(&[&FIRST_LINE.reference()]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "hello\n"), "{}", text(&output.stderr));
    for code in ["0", "1", "200", "255"] {
        assert_eq!(run(&[&EXIT_CODE.reference(), "--", code]).status.code(), code.parse().ok());
    }
    let output = run(&[&TRAP_UNREACHABLE.reference()]);
    assert_eq!(output.status.code(), Some(134));
    assert_eq!(text(&output.stdout), "before the trap\n");
    assert!(text(&output.stderr).contains("unreachable") && text(&output.stderr).contains("inner"), "{}", text(&output.stderr));
    assert!(node.pods(None).is_empty(), "its pod is gone");
    let output = run(&["/no/such/guest.wasm"]);
    assert!(!output.status.success() && text(&output.stderr).contains("/no/such/guest.wasm"), "{}", text(&output.stderr));
    let output = run(&["--", "x"]);
    assert!(!output.status.success());
    node.finish();
}

#[derive(Clone, PartialEq, prost::Message)]
struct FileSet {
    #[prost(message, repeated, tag = "1")]
    files: Vec<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", repeated, tag = "2")]
    methods: Vec<Vec<u8>>,
}

#[test]
fn the_printed_descriptors_are_those_of_the_whole_cri() {
    let output = program(&["descriptors"]);
    let set = FileSet::decode(output.stdout.as_slice()).expect("a FileDescriptorSet");
    let file = set.files.iter().find(|file| file.package == "runtime.v1").expect("the CRI");
    let services: Vec<_> = file.services.iter().map(|service| (service.name.as_str(), service.methods.len())).collect();
    assert_eq!(services, [("RuntimeService", 35), ("ImageService", 6)]);
}

#[test]
fn help_and_version_are_there() {
    assert!(text(&program(&["--help"]).stdout).contains("serve"));
    assert!(text(&program(&["--version"]).stdout).contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(program(&["no-such-command"]).status.code(), Some(2));
}

#[test]
fn the_log_is_json_where_that_is_asked_for() {
    let Some(mut node) =
        Node::start_with(&Options { config: "[log]\nformat = \"json\"\nlevel = \"debug\"\n", ..Default::default() })
    else {
        return;
    };
    node.pod("web");
    node.terminate_daemon();
    let log = node.daemon_log();
    assert!(log.lines().count() > 1);
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn the_socket_is_for_its_owner_and_group_only() {
    use std::os::unix::fs::PermissionsExt;
    let Some(node) = Node::start() else { return };
    let mode = |node: &Node| std::fs::metadata(node.place.state.join("cri.sock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&node), 0o660);
    node.finish();
    let Some(node) = Node::start_with(&Options { config: "socket_mode = \"0600\"\n", ..Default::default() }) else { return };
    assert_eq!(mode(&node), 0o600);
    node.finish();
}

#[test]
fn the_service_manager_is_told_when_the_daemon_is_ready_and_when_it_stops() {
    use std::os::unix::net::UnixDatagram;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let notify = path.display().to_string();
    let Some(mut node) = Node::start_with(&Options { notify: Some(&notify), ..Default::default() }) else { return };
    let hear = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted} was not told: {error}"));
            if text(&buffer[..length]).lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    hear("READY=1");
    node.terminate_daemon();
    hear("STOPPING=1");
}
