//! The network of pods, through real CNI plugins. The daemon runs in a network namespace of the test's own, so that the node's
//! network is not touched.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::guests::{Guest, PROBE, SOCKETS};
use crate::harness::{Node, Options, Pod, cri, eventually, missing, netns, network, until};

/// Debian's plugins, of CNI 1.0.0.
pub(crate) const DEBIAN: &str = "/usr/lib/cni";

/// A node whose daemon runs in a network of its own, with this configuration beside the harness's.
pub(crate) fn node(config: &str, guests: &[Guest]) -> Option<Node> {
    Node::with_options(&Options { config, own_network: true, ..Default::default() }, guests)
}

/// A node with Debian's plugins and a bridge network.
pub(crate) fn bridged(guests: &[Guest]) -> Option<Node> {
    if !missing::plugins(Path::new(DEBIAN), &["bridge", "host-local", "portmap"]) {
        return None;
    }
    let node = node("", guests)?;
    configure(&node, "10-bridge.conflist", &bridge(&node));
    wait_ready(&node);
    Some(node)
}

pub(crate) fn bridge(node: &Node) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "suite",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    // Not the node's own /var/lib/cni.
                    "dataDir": node.place.files.join("ipam"),
                    "ranges": [[{ "subnet": "10.88.0.0/16" }], [{ "subnet": "fd00:88::/64" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

/// Writes a configuration as an installer does: complete, then in its place.
pub(crate) fn configure(node: &Node, name: &str, config: &Value) {
    let draft = node.place.files.join("cni.draft");
    std::fs::write(&draft, config.to_string()).unwrap();
    std::fs::rename(draft, node.place.files.join("cni").join(name)).unwrap();
}

fn network_ready(node: &Node) -> cri::RuntimeCondition {
    let status = node.client.status(cri::StatusRequest::default()).unwrap().status.unwrap();
    status.conditions.into_iter().find(|condition| condition.r#type == "NetworkReady").unwrap()
}

pub(crate) fn wait_ready(node: &Node) {
    until("the network is ready", || network_ready(node).status);
}

pub(crate) fn pod_config(node: &Node, name: &str) -> cri::PodSandboxConfig {
    let mut config = node.pod_config(name);
    config.hostname = name.to_owned();
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options = Some(network(cri::NamespaceMode::Pod));
    config
}

pub(crate) fn run(node: &Node, name: &str) -> Pod {
    node.run_pod(&pod_config(node, name)).expect("the pod runs")
}

fn address(node: &Node, pod: &Pod) -> String {
    node.pod_status(&pod.id).unwrap().network.unwrap().ip
}

/// The only pod's network namespace.
pub(crate) fn pod_netns(node: &Node) -> PathBuf {
    let all = pinned(node);
    let [only] = &all[..] else { panic!("one namespace, not {all:?}") };
    only.clone()
}

pub(crate) fn pinned(node: &Node) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(node.place.state.join("netns")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The output of a program in a network namespace.
fn look(namespace: &Path, program: &str, arguments: &[&str]) -> String {
    let output = netns::inside(namespace, || Command::new(program).args(arguments).output().expect("the program runs"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that plugins leave in the daemon's network: interfaces at the bridge, rules, leases.
pub(crate) fn leftovers(node: &Node) -> Vec<String> {
    let own = node.netns.as_ref().unwrap();
    let links: Value = serde_json::from_str(&look(own, "ip", &["-j", "link"])).unwrap();
    let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap_or_default().to_owned());
    let mut found: Vec<String> =
        names.filter(|name| name.starts_with("veth") || name.starts_with("ifb") || name.starts_with("bwp")).collect();
    let rules = look(own, "iptables-save", &[]);
    found.extend(rules.lines().filter(|line| line.contains("10.88.") && !line.contains("224.0.0.0")).map(str::to_owned));
    let leases = std::fs::read_dir(node.place.files.join("ipam/suite")).into_iter().flatten().flatten();
    let leases = leases.map(|entry| entry.file_name().to_string_lossy().into_owned());
    found.extend(leases.filter(|name| name.starts_with("10.") || name.starts_with("fd00")));
    found
}

fn exchange(from: &Path, to: SocketAddr, text: &str) -> std::io::Result<String> {
    netns::inside(from, || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(text.as_bytes())?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

#[test]
fn a_pod_has_an_address_a_loopback_and_a_way_out() {
    let Some(node) = bridged(&[PROBE]) else { return };
    let pod = run(&node, "web");
    let network = node.pod_status(&pod.id).unwrap().network.unwrap();
    assert!(network.ip.starts_with("10.88."), "{network:?}");
    assert_eq!(network.additional_ips.len(), 1);
    assert!(network.additional_ips[0].ip.starts_with("fd00:88::"), "{network:?}");
    let inside = pod_netns(&node);
    let links: Value = serde_json::from_str(&look(&inside, "ip", &["-j", "address"])).unwrap();
    let link = |name: &str| links.as_array().unwrap().iter().find(|link| link["ifname"] == name).cloned().expect(name);
    assert!(link("lo")["flags"].to_string().contains("\"UP\""), "{links}");
    assert!(link("eth0").to_string().contains(&network.ip), "{links}");
    assert!(look(&inside, "ip", &["route"]).starts_with("default via 10.88.0.1"));
    let options = node.pod_status(&pod.id).unwrap().linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(options.network(), cri::NamespaceMode::Pod);

    node.stop_pod(&pod.id).unwrap();
    assert!(pinned(&node).is_empty(), "the namespace goes when the pod is stopped");
    assert_eq!(leftovers(&node), Vec::<String>::new());
    node.finish();
}

#[test]
fn guests_of_a_pod_are_in_its_network_with_its_name_and_hosts() {
    let Some(node) = bridged(&[PROBE]) else { return };
    let pod = run(&node, "web-0");
    let id = node.launch(
        &pod,
        &PROBE.container("main", &["env", "HOSTNAME", "+", "cat", "/etc/hostname", "/etc/hosts", "+", "sleep", "forever"]),
    );
    node.wait_stdout(&id, "HOSTNAME=web-0\nweb-0\n");
    let hosts = node.log(&id).stdout();
    let address = address(&node, &pod);
    assert!(hosts.lines().any(|line| line.starts_with(&address) && line.contains("web-0")), "{hosts}");
    let pid = node.guest_pid(&id);
    crate::user::assert_powerless(pid, "0000000000000000");
    let identity = |path: &Path| std::fs::metadata(path).map(|about| std::os::unix::fs::MetadataExt::ino(&about)).unwrap();
    assert_eq!(identity(Path::new(&format!("/proc/{pid}/ns/net"))), identity(&pod_netns(&node)));
    node.finish();
}

#[test]
fn pods_reach_each_other_and_the_node_reaches_them() {
    let Some(node) = bridged(&[SOCKETS]) else { return };
    let (server, client) = (run(&node, "server"), run(&node, "client"));
    let id = node.launch(&server, &SOCKETS.container("main", &["serve", "80"]));
    // A guest without a capability may listen there: the pod's network lets everybody.
    node.wait_stdout(&id, "listening on 80\n");
    let address = address(&node, &server);
    let ended = node.run(&client, &SOCKETS.container("main", &["connect", &address, "80", "over the bridge"]));
    assert_eq!((ended.status.exit_code, ended.log.stdout().as_str()), (0, "over the bridge\n"), "{}", ended.log.stderr());
    let to = format!("{address}:80").parse().unwrap();
    assert!(exchange(node.netns.as_ref().unwrap(), to, "GET / HTTP/1.0\r\n\r\n").unwrap().ends_with("served by server\n"));
    // Another container of the same pod shares its loopback.
    let ended = node.run(&server, &SOCKETS.container("beside", &["connect", "127.0.0.1", "80", "over lo"]));
    assert_eq!(ended.log.stdout(), "over lo\n", "{}", ended.log.stderr());
    node.finish();
}

#[test]
fn a_host_port_leads_to_the_pod_and_a_declared_port_without_one_does_not() {
    if missing::program("iptables", "iptables").is_none() {
        return;
    }
    let Some(node) = bridged(&[SOCKETS]) else { return };
    let mut config = pod_config(&node, "web");
    let port = |container_port, host_port| cri::PortMapping { container_port, host_port, ..Default::default() };
    config.port_mappings = vec![port(80, 12_000), port(81, 0)];
    let pod = node.run_pod(&config).unwrap();
    let id = node.launch(&pod, &SOCKETS.container("main", &["serve", "80"]));
    node.wait_stdout(&id, "listening on 80\n");
    let own = node.netns.clone().unwrap();
    for host in ["127.0.0.1:12000", "10.88.0.1:12000"] {
        assert_eq!(
            exchange(&own, host.parse().unwrap(), "through the node's port").unwrap(),
            "through the node's port",
            "{host}"
        );
    }
    assert!(exchange(&own, "127.0.0.1:81".parse().unwrap(), "x").is_err());
    node.remove_pod(&pod.id).unwrap();
    assert!(exchange(&own, "127.0.0.1:12000".parse().unwrap(), "x").is_err());
    assert_eq!(leftovers(&node), Vec::<String>::new());
    node.run_pod(&config).expect("the port is free again");
    node.finish();
}

#[test]
fn the_pods_kernel_settings_are_those_of_its_own_network() {
    let Some(node) = bridged(&[PROBE]) else { return };
    let mut config = pod_config(&node, "web");
    config.linux.as_mut().unwrap().sysctls = [("net.ipv4.ip_local_port_range".to_owned(), "2000 3000".to_owned())].into();
    node.run_pod(&config).unwrap();
    let read = |namespace: &Path, name: &str| {
        netns::inside(namespace, || std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap())
    };
    let inside = pod_netns(&node);
    assert_eq!(read(&inside, "ip_local_port_range").split_whitespace().collect::<Vec<_>>(), ["2000", "3000"]);
    assert_eq!(read(&inside, "ip_unprivileged_port_start").trim(), "0");
    assert_ne!(
        read(node.netns.as_ref().unwrap(), "ip_local_port_range").split_whitespace().collect::<Vec<_>>(),
        ["2000", "3000"]
    );
    node.finish();
}

#[test]
fn bandwidth_annotations_limit_the_pods_traffic() {
    if missing::program("tc", "iproute2").is_none() || !missing::plugins(Path::new(DEBIAN), &["bandwidth"]) {
        return;
    }
    let Some(node) = bridged(&[PROBE]) else { return };
    let mut config = bridge(&node);
    config["plugins"].as_array_mut().unwrap().push(json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }));
    configure(&node, "00-bandwidth.conflist", &config);
    let mut limited = pod_config(&node, "limited");
    limited.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "8M".into());
    // The directory is watched; the moment at which that is seen is the daemon's.
    let own = node.netns.clone().unwrap();
    eventually("a limit on the pod's interface", || {
        let pod = node.run_pod(&limited).unwrap();
        let limits = look(&own, "tc", &["qdisc", "show"]);
        node.remove_pod(&pod.id).unwrap();
        limits.lines().any(|line| line.contains("tbf") && line.contains("rate 8Mbit")).then_some(())
    });
    limited.annotations.insert("kubernetes.io/ingress-bandwidth".into(), "a lot".into());
    let before = node.holdings();
    assert!(node.run_pod(&limited).unwrap_err().message().contains("a lot"));
    node.assert_nothing_leaked(&before);
    assert_eq!(leftovers(&node), Vec::<String>::new());
    node.finish();
}

#[test]
fn without_a_configuration_the_network_is_not_ready_and_once_there_is_one_it_is() {
    if !missing::plugins(Path::new(DEBIAN), &["bridge", "host-local", "portmap"]) {
        return;
    }
    let Some(node) = node("", &[]) else { return };
    let condition = network_ready(&node);
    assert!(!condition.status && !condition.reason.is_empty() && !condition.message.is_empty(), "{condition:?}");
    let before = node.holdings();
    let refused = node.run_pod(&pod_config(&node, "web")).unwrap_err();
    assert!(refused.message().contains(&node.place.files.join("cni").display().to_string()), "{refused}");
    assert!(node.pods(None).is_empty());
    node.assert_nothing_leaked(&before);
    let host = node.pod("host");
    node.remove_pod(&host.id).unwrap();

    configure(&node, "10-bridge.conflist", &bridge(&node));
    wait_ready(&node);
    let pod = run(&node, "web");
    // Taken away while a pod runs: the pod's own way out of the network is kept.
    std::fs::remove_file(node.place.files.join("cni/10-bridge.conflist")).unwrap();
    until("the network is not ready any more", || !network_ready(&node).status);
    node.remove_pod(&pod.id).unwrap();
    assert_eq!(leftovers(&node), Vec::<String>::new());
    node.finish();
}

#[test]
fn a_configuration_that_cannot_be_used_is_a_reason_and_no_crash() {
    let Some(node) = node("", &[]) else { return };
    let file = node.place.files.join("cni/10-broken.conflist");
    for (text, said) in [
        ("{ not json", "10-broken.conflist"),
        (r#"{"cniVersion": "99.0.0", "name": "n", "plugins": [{"type": "bridge"}]}"#, "99.0.0"),
        (r#"{"cniVersion": "1.0.0", "name": "n", "plugins": []}"#, "10-broken.conflist"),
    ] {
        std::fs::write(&file, text).unwrap();
        until(&format!("NetworkReady speaks of {said}"), || {
            let condition = network_ready(&node);
            !condition.status && condition.message.contains(said)
        });
    }
    node.finish();
}

#[test]
fn a_daemon_that_was_killed_finds_its_pods_in_the_network() {
    let Some(mut node) = bridged(&[SOCKETS]) else { return };
    let pod = run(&node, "web");
    let id = node.launch(&pod, &SOCKETS.container("main", &["serve", "80"]));
    node.wait_stdout(&id, "listening on 80\n");
    let before = address(&node, &pod);
    node.restart_daemon();
    assert_eq!(address(&node, &pod), before);
    assert_eq!(node.pod_status(&pod.id).unwrap().state(), cri::PodSandboxState::SandboxReady);
    let to = format!("{before}:80").parse().unwrap();
    assert_eq!(exchange(node.netns.as_ref().unwrap(), to, "still there").unwrap(), "still there");
    node.remove_pod(&pod.id).unwrap();
    assert_eq!(leftovers(&node), Vec::<String>::new());
    node.finish();
}

#[test]
fn the_newest_plugins_and_the_oldest_configuration_work_too() {
    let newest = missing::cache().join("bin/cni");
    if !missing::plugins(&newest, &["bridge", "host-local", "portmap"]) {
        return;
    }
    let Some(node) = node(&format!("[network]\nbin_dirs = [{:?}]\n", newest.display().to_string()), &[]) else { return };
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut config = bridge(&node);
        config["cniVersion"] = version.into();
        configure(&node, "10-bridge.conflist", &config);
        wait_ready(&node);
        let pod = run(&node, "web");
        assert!(address(&node, &pod).starts_with("10.88."), "{version}");
        node.remove_pod(&pod.id).unwrap();
        assert_eq!(leftovers(&node), Vec::<String>::new(), "{version}");
    }
    // A file of one plugin, as it was before there were lists.
    std::fs::remove_file(node.place.files.join("cni/10-bridge.conflist")).unwrap();
    let mut single = bridge(&node)["plugins"][0].clone();
    single["cniVersion"] = "0.3.1".into();
    single["name"] = "suite".into();
    configure(&node, "20-single.conf", &single);
    wait_ready(&node);
    let pod = run(&node, "single");
    assert!(address(&node, &pod).starts_with("10.88."));
    node.finish();
}
