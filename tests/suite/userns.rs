//! Pods with ids of their own (`hostUsers: false`): what their guests are for the kernel, and whose files are whose.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tonic::Code;

use crate::harness::guests::PROBE;
use crate::harness::image::Layered;
use crate::harness::node::Options;
use crate::harness::process;
use crate::harness::registry::Registry;
use crate::harness::{Node, Pod, Streams, cri, words};
use crate::network;

const SHOWN: &str = "[handlers.'']\n[handlers.shown]\nprocfs = true\n";

/// The node's ids that stand for a pod's.
const FIRST: u32 = 300_000;
const COUNT: u32 = 65_536;

fn ids(container: u32, host: u32, length: u32) -> Vec<cri::IdMapping> {
    vec![cri::IdMapping { host_id: host, container_id: container, length }]
}

fn of_the_pod() -> cri::UserNamespace {
    let ids = || ids(0, FIRST, COUNT);
    cri::UserNamespace { mode: cri::NamespaceMode::Pod.into(), uids: ids(), gids: ids() }
}

/// A node that can have such pods, or `None` after saying why not.
fn node() -> Option<Node> {
    let node = Node::with_options(&Options { config: SHOWN, ..Default::default() }, &[PROBE])?;
    prepare(&node)?;
    Some(node)
}

fn prepare(node: &Node) -> Option<()> {
    let status = node.client.status(cri::StatusRequest::default()).unwrap();
    if !status.runtime_handlers.iter().all(|handler| handler.features.as_ref().unwrap().user_namespaces) {
        assert!(std::env::var_os("CRI_WASM_REQUIRE_ALL").is_none(), "user namespaces cannot be had:\n{}", node.daemon_log());
        eprintln!("skipped: this node cannot have user namespaces");
        return None;
    }
    let image = Layered::new()
        .file("/bin/probe", &PROBE.wasm()?)
        .file_of("/srv/of-root", b"of root", 0o600, 0)
        .file_of("/srv/of-user", b"of user", 0o600, 1000)
        .directory("/srv/open", 0o777, 0)
        .env(&["PATH=/bin"])
        .build();
    let registry = Registry::shared()?;
    static PUSHED: OnceLock<String> = OnceLock::new();
    PUSHED.get_or_init(|| registry.push("userns/probe", "1", &image));
    node.pull(&reference()).expect("the image is pulled");
    Some(())
}

fn reference() -> String {
    Registry::shared().unwrap().reference("userns/probe:1")
}

fn with_users(mut config: cri::PodSandboxConfig, users: cri::UserNamespace) -> cri::PodSandboxConfig {
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options.as_mut().unwrap().userns_options = Some(users);
    config
}

fn pod(node: &Node, name: &str, handler: &str) -> Pod {
    let config = with_users(node.pod_config(name), of_the_pod());
    let request = cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.into() };
    Pod { id: node.client.run_pod_sandbox(request).unwrap().pod_sandbox_id, config }
}

fn container(name: &str, user: Option<i64>, args: &str) -> cri::ContainerConfig {
    let options = cri::NamespaceOption { userns_options: Some(of_the_pod()), ..Default::default() };
    let security = cri::LinuxContainerSecurityContext {
        run_as_user: user.map(|value| cri::Int64Value { value }),
        namespace_options: Some(options),
        ..Default::default()
    };
    cri::ContainerConfig {
        linux: Some(cri::LinuxContainerConfig { security_context: Some(security), ..Default::default() }),
        command: [vec!["probe"], words(args)].concat().into_iter().map(str::to_owned).collect(),
        ..crate::harness::container(&reference(), name, &[])
    }
}

fn said(node: &Node, id: &str, command: &str) -> String {
    let done = node.exec(id, &words(command));
    String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
}

fn owner(path: &Path) -> (u32, u32) {
    let about = std::fs::metadata(path).unwrap();
    (about.uid(), about.gid())
}

/// A directory of the node that everybody may write.
fn open_directory(node: &Node, name: &str) -> PathBuf {
    let path = node.place.directory(name);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    path
}

fn mount(host: &Path, inside: &str, mapped: bool) -> cri::Mount {
    let ids = || if mapped { ids(0, FIRST, COUNT) } else { Vec::new() };
    cri::Mount {
        host_path: host.display().to_string(),
        container_path: inside.into(),
        uid_mappings: ids(),
        gid_mappings: ids(),
        ..Default::default()
    }
}

#[test]
fn root_of_the_pod_is_nobody_on_the_node_and_owns_its_root_file_system() {
    let Some(mut node) = node() else { return };
    let pod = pod(&node, "web", "shown");
    let told = node.pod_status(&pod.id).unwrap().linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(told.userns_options, Some(of_the_pod()));
    let root = node.launch(&pod, &container("root", None, "echo up + sleep forever"));
    node.wait_stdout(&root, "up\n");
    node.restart_daemon();
    let user = node.launch(&pod, &container("user", Some(1000), "sleep forever"));
    for (id, inside) in [(&root, 0), (&user, 1000)] {
        let status = process::status(node.guest_pid(id));
        let outside = (FIRST + inside).to_string();
        assert!(status["Uid"].split_whitespace().all(|id| id == outside), "{}", status["Uid"]);
        for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set}");
        }
        let seen = said(&node, id, "probe cat /proc/self/status");
        assert!(seen.contains(&format!("Uid:\t{inside}\t{inside}\t{inside}\t{inside}\n")), "{seen}");
        for map in ["uid_map", "gid_map"] {
            let map = said(&node, id, &format!("probe cat /proc/self/{map}"));
            assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "300000", "65536"]);
        }
    }
    assert_eq!(
        process::namespace(node.guest_pid(&root), "user"),
        process::namespace(node.guest_pid(&user), "user"),
        "the pod's containers share one"
    );
    // The image's files are as its ids say, and what is written is the pod's alone, also on the disk.
    assert_eq!(said(&node, &root, "probe cat /srv/of-root + -cat /srv/of-user"), "of rootcat: /srv/of-user: EACCES\n");
    assert_eq!(said(&node, &user, "probe cat /srv/of-user + -cat /srv/of-root"), "of usercat: /srv/of-root: EACCES\n");
    assert_eq!(said(&node, &root, "probe write /new x + append /etc/hosts more"), "");
    assert_eq!(said(&node, &user, "probe write /srv/open/new x + -write /new x"), "write: /new: EACCES\n");
    let upper = |id: &str, path: &str| node.place.root.join("containers").join(id).join("upper").join(path);
    assert_eq!(owner(&upper(&root, "new")), (FIRST, FIRST));
    assert_eq!(owner(&upper(&user, "srv/open/new")).0, FIRST + 1000);
    node.finish();
}

#[test]
fn volumes_are_id_mapped_where_the_kubelet_says_so() {
    let Some(node) = node() else { return };
    let pod = pod(&node, "web", "");
    let (mapped, plain) = (open_directory(&node, "mapped"), open_directory(&node, "plain"));
    for directory in [&mapped, &plain] {
        let file = directory.join("private");
        std::fs::write(&file, "private").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(1000), Some(1000)).unwrap();
    }
    let config = cri::ContainerConfig {
        mounts: vec![mount(&mapped, "/mapped", true), mount(&plain, "/plain", false)],
        ..container("main", Some(1000), "sleep forever")
    };
    let id = node.launch(&pod, &config);
    assert_eq!(said(&node, &id, "probe cat /mapped/private + -cat /plain/private"), "privatecat: /plain/private: EACCES\n");
    assert_eq!(said(&node, &id, "probe write /mapped/new x + write /plain/new x"), "");
    assert_eq!(owner(&mapped.join("new")).0, 1000, "the disk has the ids that the pod sees");
    assert_eq!(owner(&plain.join("new")).0, FIRST + 1000, "elsewhere it has those of the node");
    let told = node.status(&id).mounts;
    assert_eq!((&told[0].uid_mappings, told[1].gid_mappings.len()), (&ids(0, FIRST, COUNT), 0));
    node.finish();
}

#[test]
fn logs_input_terminals_and_termination_messages_are_there_as_in_any_pod() {
    let Some(node) = node() else { return };
    let pod = pod(&node, "web", "");
    // As the kubelet makes it.
    let file = node.place.files.join("message");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut config = container("trap", None, "trap");
    config.mounts = vec![mount(&file, "/dev/termination-log", false)];
    config.annotations.insert("io.kubernetes.container.terminationMessagePath".into(), "/dev/termination-log".into());
    assert_eq!(node.run(&pod, &config).status.reason, "Trap");
    assert!(std::fs::read_to_string(&file).unwrap().contains("outer"), "the backtrace");

    let config = cri::ContainerConfig { stdin: true, stdin_once: true, ..container("input", Some(7), "stdin") };
    let id = node.launch(&pod, &config);
    let mut session = node.open_attach(&id, Streams { stdin: true, tty: false });
    session.write(b"typed\n");
    session.wait_for("typed\n");
    session.end_input();
    assert_eq!(session.finish(), Ok(0));
    assert_eq!(node.wait_exit(&id).log.stdout(), "typed\nread 6 bytes\n");

    let ended =
        node.run(&pod, &cri::ContainerConfig { tty: true, ..container("terminal", Some(7), "echo on a terminal + exit 3") });
    assert_eq!((ended.status.exit_code, ended.log.stdout()), (3, "on a terminal\r\n".to_owned()));
    node.finish();
}

#[test]
fn the_pods_network_is_reached_and_goes_with_it() {
    let Some(node) = network::bridged(&[PROBE]) else { return };
    if prepare(&node).is_none() {
        return;
    }
    let before = node.holdings();
    let config = with_users(network::pod_config(&node, "web"), of_the_pod());
    let pod = node.run_pod(&config).unwrap();
    assert!(!node.pod_status(&pod.id).unwrap().network.unwrap().ip.is_empty());
    let id = node.launch(&pod, &container("main", None, "sleep forever"));
    assert_ne!(process::namespace(node.guest_pid(&id), "net"), process::namespace(node.daemon_pid(), "net"));
    node.remove_pod(&pod.id).unwrap();
    node.assert_nothing_leaked(&before);
    node.finish();
}

#[test]
fn ids_that_cannot_be_given_are_refused_and_leave_nothing() {
    let Some(node) = node() else { return };
    let before = node.holdings();
    let two = [ids(0, FIRST, 10), ids(10, 500_000, 10)].concat();
    for (users, reason) in [
        (cri::UserNamespace { uids: two, ..of_the_pod() }, "there are 2"),
        (cri::UserNamespace { gids: ids(1, FIRST, 10), ..of_the_pod() }, "begin at id 0"),
        (cri::UserNamespace { mode: cri::NamespaceMode::Container.into(), ..of_the_pod() }, "POD or NODE"),
        (cri::UserNamespace { mode: cri::NamespaceMode::Target.into(), ..of_the_pod() }, "POD or NODE"),
    ] {
        let refused = node.run_pod(&with_users(node.pod_config("web"), users)).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(reason), "{refused}");
    }
    let plain = node.pod("plain");
    let pod = pod(&node, "web", "");
    let volume = node.place.directory("volume");
    let other = cri::Mount { uid_mappings: ids(0, 1, COUNT), ..mount(&volume, "/v", true) };
    for (pod, config, reason) in [
        (&plain, container("own", None, "args"), "they differ"),
        (&pod, cri::ContainerConfig { mounts: vec![other], ..container("mount", None, "args") }, "\"/v\" maps ids otherwise"),
        (&pod, container("user", Some(65_536), "args"), "65536 is not among them"),
    ] {
        let refused = node.create(pod, &config).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(reason), "{refused}");
    }
    node.remove_pod(&pod.id).unwrap();
    node.remove_pod(&plain.id).unwrap();
    node.assert_nothing_leaked(&before);
    node.finish();
}
