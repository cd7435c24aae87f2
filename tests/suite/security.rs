//! The security context of a pod, as the kernel shows it of the guest's process: from outside, and from inside where the handler shows
//! `/proc`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use tonic::Code;

use crate::harness::guests::PROBE;
use crate::harness::image::Layered;
use crate::harness::node::Options;
use crate::harness::process;
use crate::harness::registry::Registry;
use crate::harness::{Node, Pod, cri};

/// A handler that shows /proc and takes a pod at its word.
const AS_ASKED: &str = "[handlers.'']\n[handlers.asked]\nprocfs = true\nseccomp = 'as-asked'\n[handlers.shown]\nprocfs = true\n";

const NOTHING: &str = "0000000000000000";

fn node() -> Option<Node> {
    let node = Node::with_options(&Options { config: AS_ASKED, ..Default::default() }, &[PROBE])?;
    let image = Layered::new().file("/bin/probe", &PROBE.wasm()?).env(&["PATH=/bin"]).build();
    let registry = Registry::shared()?;
    // Once: the registry does not take the same layer twice at a time.
    static PUSHED: OnceLock<String> = OnceLock::new();
    PUSHED.get_or_init(|| registry.push("security/probe", "1", &image));
    node.pull(&reference()).expect("the image is pulled");
    Some(node)
}

fn reference() -> String {
    Registry::shared().unwrap().reference("security/probe:1")
}

fn pod_of(node: &Node, name: &str, handler: &str, change: impl FnOnce(&mut cri::PodSandboxConfig)) -> Pod {
    let mut config = node.pod_config(name);
    change(&mut config);
    let request = cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.into() };
    Pod { id: node.client.run_pod_sandbox(request).unwrap().pod_sandbox_id, config }
}

fn sleeper(name: &str, security: cri::LinuxContainerSecurityContext) -> cri::ContainerConfig {
    cri::ContainerConfig {
        linux: Some(cri::LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
        command: ["probe", "sleep", "forever"].map(str::to_owned).to_vec(),
        ..crate::harness::container(&reference(), name, &[])
    }
}

fn profile(kind: cri::security_profile::ProfileType, path: &Path) -> cri::LinuxContainerSecurityContext {
    let localhost_ref = path.display().to_string();
    let seccomp = Some(cri::SecurityProfile { profile_type: kind.into(), localhost_ref });
    cri::LinuxContainerSecurityContext { seccomp, ..Default::default() }
}

#[allow(deprecated, reason = "older kubelets send this field")]
fn old_profile(text: &str) -> cri::LinuxContainerSecurityContext {
    cri::LinuxContainerSecurityContext { seccomp_profile_path: text.to_owned(), ..Default::default() }
}

fn said(node: &Node, id: &str, command: &[&str]) -> String {
    let done = node.exec(id, command);
    String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
}

/// A field of `/proc/self/status` as a command in the container sees it.
fn seen(node: &Node, id: &str, field: &str) -> String {
    let status = said(node, id, &["probe", "cat", "/proc/self/status"]);
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

#[test]
fn only_a_handler_that_says_so_runs_guests_without_a_filter_and_only_where_the_pod_asks_for_none() {
    use cri::security_profile::ProfileType::{RuntimeDefault, Unconfined};
    let Some(node) = node() else { return };
    let (asked, shown) = (pod_of(&node, "asked", "asked", |_| {}), pod_of(&node, "shown", "shown", |_| {}));
    let nowhere = Path::new("");
    let privileged = cri::LinuxContainerSecurityContext { privileged: true, ..profile(RuntimeDefault, nowhere) };
    for (name, security, wanted) in [
        ("default", profile(RuntimeDefault, nowhere), "2"),
        ("old-default", old_profile("runtime/default"), "2"),
        ("unconfined", profile(Unconfined, nowhere), "0"),
        ("old-unconfined", old_profile("unconfined"), "0"),
        ("nothing", cri::LinuxContainerSecurityContext::default(), "0"),
        ("privileged", privileged, "0"),
    ] {
        let id = node.launch(&asked, &sleeper(name, security.clone()));
        assert_eq!(process::status(node.guest_pid(&id))["Seccomp"], wanted, "{name}");
        assert_eq!(seen(&node, &id, "Seccomp"), wanted, "{name}, a command in it");
        assert_eq!(seen(&node, &id, "NoNewPrivs"), "1", "{name}");
        let id = node.launch(&shown, &sleeper(name, security));
        assert_eq!(seen(&node, &id, "Seccomp"), "2", "{name}, in a handler that always filters");
    }
    node.finish();
}

#[test]
fn a_profile_of_the_node_narrows_what_a_guest_and_its_commands_can_do() {
    use cri::security_profile::ProfileType::Localhost;
    let Some(node) = node() else { return };
    let file = node.place.files.join("profile.json");
    let rules = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[
        {"names":["mkdirat","mkdir","a_call_of_tomorrow"],"action":"SCMP_ACT_ERRNO"},
        {"names":["symlinkat"],"action":"SCMP_ACT_ERRNO","errnoRet":28},
        {"names":["unlinkat"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#;
    std::fs::write(&file, rules).unwrap();
    for (handler, own) in [("", 1), ("asked", 1)] {
        let pod = pod_of(&node, &format!("pod-{handler}"), handler, |_| {});
        for (name, security) in
            [("new", profile(Localhost, &file)), ("old", old_profile(&format!("localhost/{}", file.display())))]
        {
            let id = node.launch(&pod, &sleeper(name, security));
            assert_eq!(process::status(node.guest_pid(&id))["Seccomp_filters"], (own + 3).to_string());
            assert_eq!(said(&node, &id, &["probe", "write", "/file", "x"]), "");
            assert_eq!(said(&node, &id, &["probe", "mkdir", "/new"]), "mkdir: /new: EPERM\n");
            assert_eq!(said(&node, &id, &["probe", "symlink", "a", "/b"]), "symlink: /b: ENOSPC\n");
            // 128 + SIGSYS.
            assert_eq!(node.exec(&id, &["probe", "rm", "/file"]).exit_code, 159);
        }
        let security = cri::LinuxContainerSecurityContext { privileged: true, ..profile(Localhost, &file) };
        let id = node.launch(&pod, &sleeper("privileged", security));
        assert_eq!(said(&node, &id, &["probe", "mkdir", "/new"]), "", "no profile counts for a privileged container");
    }
    // A container runs under what it was created with.
    let pod = node.pod("later");
    let id = node.create(&pod, &sleeper("later", profile(Localhost, &file))).unwrap();
    std::fs::remove_file(&file).unwrap();
    node.start_container(&id).unwrap();
    assert_eq!(said(&node, &id, &["probe", "mkdir", "/new"]), "mkdir: /new: EPERM\n");
    node.finish();
}

#[test]
fn a_profile_that_cannot_be_had_is_told_when_the_container_is_created() {
    use cri::security_profile::ProfileType::Localhost;
    let Some(node) = node() else { return };
    let pod = node.pod("web");
    let before = node.holdings();
    let file = node.place.files.join("wrong.json");
    let refused = |security| node.create(&pod, &sleeper("main", security)).unwrap_err();
    let missing = refused(profile(Localhost, &file));
    assert_eq!(missing.code(), Code::FailedPrecondition);
    assert!(missing.message().contains("wrong.json: No such file"), "{missing}");
    std::fs::write(&file, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdirat"],"action":"SCMP_ACT_NOTIFY"}]}"#)
        .unwrap();
    let notify = refused(profile(Localhost, &file));
    assert!(notify.message().contains("wrong.json: mkdirat: SCMP_ACT_NOTIFY"), "{notify}");
    for security in [profile(Localhost, Path::new("relative.json")), old_profile("somewhere"), old_profile("localhost/relative")]
    {
        assert_eq!(refused(security).code(), Code::InvalidArgument);
    }
    node.assert_nothing_leaked(&before);
    // Nothing is allowed at all: the guest's own process cannot say that it runs.
    std::fs::write(&file, r#"{"defaultAction":"SCMP_ACT_KILL"}"#).unwrap();
    let id = node.create(&pod, &sleeper("silent", profile(Localhost, &file))).unwrap();
    let failed = node.start_container(&id).unwrap_err();
    assert!(failed.message().contains("signal 31"), "{failed}");
    assert_eq!(node.status(&id).exit_code, 128);
    node.finish();
}

#[test]
fn capabilities_are_shown_in_the_bounding_set_and_never_held() {
    let Some(node) = node() else { return };
    let pod = pod_of(&node, "web", "shown", |_| {});
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let security = |add: &[&str], drop: &[&str]| cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: names(add),
            drop_capabilities: names(drop),
            ..Default::default()
        }),
        ..Default::default()
    };
    // NET_BIND_SERVICE is held: the pod is on the node's network, and its user is root.
    for (name, add, drop, bounding, held) in [
        ("added", &["NET_ADMIN"][..], &[][..], "0000000000001400", "0000000000000400"),
        ("prefixed", &["cap_net_admin"], &["ALL"], "0000000000001000", NOTHING),
        ("dropped", &[], &["ALL"], NOTHING, NOTHING),
        ("port", &["NET_BIND_SERVICE"], &["ALL"], "0000000000000400", "0000000000000400"),
    ] {
        let id = node.launch(&pod, &sleeper(name, security(add, drop)));
        assert_eq!(seen(&node, &id, "CapBnd"), bounding, "{name}");
        let status = process::status(node.guest_pid(&id));
        for (set, wanted) in [("CapBnd", bounding), ("CapEff", held), ("CapPrm", held), ("CapInh", NOTHING), ("CapAmb", NOTHING)]
        {
            assert_eq!(status[set], wanted, "{name}: {set}");
        }
    }
    let id = node.launch(&pod, &sleeper("all", security(&["ALL"], &["NET_BIND_SERVICE"])));
    let status = process::status(node.guest_pid(&id));
    assert!(u64::from_str_radix(&status["CapBnd"], 16).unwrap().count_ones() > 30, "{}", status["CapBnd"]);
    assert_eq!(status["CapEff"], NOTHING);
    let refused = node.create(&pod, &sleeper("wrong", security(&["SYS_WASM"], &[]))).unwrap_err();
    assert_eq!((refused.code(), refused.message().contains("SYS_WASM")), (Code::InvalidArgument, true));
    node.finish();
}

#[test]
fn ipc_settings_are_those_of_a_namespace_that_the_pods_containers_share() {
    let Some(mut node) = node() else { return };
    let settings = BTreeMap::from([("kernel.shm_rmid_forced", "1"), ("fs.mqueue.msg_max", "100"), ("kernel/msgmax", "4096")]);
    let with_settings = |config: &mut cri::PodSandboxConfig| {
        config.linux.as_mut().unwrap().sysctls =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    };
    let security = cri::LinuxContainerSecurityContext::default;
    let set = pod_of(&node, "set", "shown", with_settings);
    let first = node.launch(&set, &sleeper("first", security()));
    let cat = |node: &Node, id: &str, path: &str| said(node, id, &["probe", "cat", path]);
    assert_eq!(cat(&node, &first, "/proc/sys/kernel/shm_rmid_forced"), "1\n");
    assert_eq!(cat(&node, &first, "/proc/sys/fs/mqueue/msg_max"), "100\n");
    assert_eq!(cat(&node, &first, "/proc/sys/kernel/msgmax"), "4096\n");
    let untouched = std::fs::read_to_string("/proc/sys/fs/mqueue/msg_max").unwrap();
    assert_ne!(untouched, "100\n", "the node's is the node's");
    let other = pod_of(&node, "other", "shown", |_| {});
    let stranger = node.launch(&other, &sleeper("stranger", security()));
    assert_ne!(cat(&node, &stranger, "/proc/sys/fs/mqueue/msg_max"), "100\n");

    node.restart_daemon();
    let second = node.launch(&set, &sleeper("second", security()));
    assert_eq!(cat(&node, &second, "/proc/sys/fs/mqueue/msg_max"), "100\n");
    let ipc = |node: &Node, id: &str| process::namespace(node.guest_pid(id), "ipc");
    assert_eq!(ipc(&node, &first), ipc(&node, &second));
    assert_ne!(ipc(&node, &first), ipc(&node, &stranger));
    // In a handler that does not show it, too: seen from outside.
    let plain = pod_of(&node, "plain", "", with_settings);
    let id = node.launch(&plain, &sleeper("main", security()));
    let enter = ["--ipc", "-t", &node.guest_pid(&id).to_string(), "cat", "/proc/sys/fs/mqueue/msg_max"].map(str::to_owned);
    let seen = std::process::Command::new("nsenter").args(enter).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "100\n");
    node.finish();
}

#[test]
fn settings_that_cannot_be_had_are_refused_and_leave_nothing() {
    let Some(node) = node() else { return };
    let before = node.holdings();
    for (name, value, ipc) in [
        ("fs.mqueue.msg_max", "many", cri::NamespaceMode::Pod),
        ("kernel.shm_no_such", "1", cri::NamespaceMode::Pod),
        ("kernel.sem", "1 1 1 1", cri::NamespaceMode::Node),
        ("vm.swappiness", "1", cri::NamespaceMode::Pod),
    ] {
        let mut config = node.pod_config("web");
        let linux = config.linux.as_mut().unwrap();
        linux.sysctls.insert(name.into(), value.into());
        linux.security_context.as_mut().unwrap().namespace_options.as_mut().unwrap().ipc = ipc.into();
        let refused = node.run_pod(&config).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(name), "{refused}");
        node.assert_nothing_leaked(&before);
    }
    node.finish();
}

#[test]
fn a_pod_in_the_nodes_ipc_namespace_sees_the_nodes() {
    let Some(node) = node() else { return };
    let pod = pod_of(&node, "host", "shown", |config| {
        let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.namespace_options.as_mut().unwrap().ipc = cri::NamespaceMode::Node.into();
    });
    let id = node.launch(&pod, &sleeper("main", cri::LinuxContainerSecurityContext::default()));
    let ipc = |pid: i32| process::namespace(pid, "ipc");
    assert_eq!(ipc(node.guest_pid(&id)), ipc(node.daemon_pid()));
    node.finish();
}
