//! Names in a pod: resolv.conf for each DNS policy as the kubelet turns it into a dns_config, hosts and hostname, and the pods that
//! share the node's namespaces.

use tonic::Code;

use crate::harness::guests::PROBE;
use crate::harness::{Node, Pod, cri};

/// What the pod's guests read in its three files.
fn files(node: &Node, pod: &Pod, name: &str) -> [String; 3] {
    ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"].map(|path| {
        let container = format!("{name}-{}", path.rsplit('/').next().unwrap().replace('.', "-"));
        let ended = node.run(pod, &PROBE.container(&container, &["cat", path]));
        assert_eq!(ended.status.exit_code, 0, "{}", ended.log.stderr());
        ended.log.stdout()
    })
}

fn dns(servers: &[&str], searches: &[&str], options: &[&str]) -> cri::DnsConfig {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    cri::DnsConfig { servers: words(servers), searches: words(searches), options: words(options) }
}

fn on_the_node(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn each_dns_policy_is_in_the_pods_resolv_conf_as_the_kubelet_says_it() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let cluster = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"];
    for (policy, config, content) in [
        (
            "default",
            dns(&["192.0.2.53"], &["example.com"], &["edns0", "trust-ad"]),
            "search example.com\nnameserver 192.0.2.53\noptions edns0 trust-ad\n",
        ),
        (
            "cluster-first",
            dns(&["10.96.0.10"], &cluster, &["ndots:5"]),
            "search default.svc.cluster.local svc.cluster.local cluster.local example.com\nnameserver 10.96.0.10\noptions ndots:5\n",
        ),
        // The policy None of a pod that names servers only; that of a kubelet without a resolvConf.
        ("none", dns(&["2001:db8::53", "192.0.2.1"], &[], &[]), "nameserver 2001:db8::53\nnameserver 192.0.2.1\n"),
        ("no-resolv-conf", dns(&["127.0.0.1"], &["."], &[]), "search .\nnameserver 127.0.0.1\n"),
        // Empty words say nothing.
        ("empty-words", dns(&["192.0.2.1", ""], &[""], &[""]), "nameserver 192.0.2.1\n"),
    ] {
        let pod = node.run_pod(&cri::PodSandboxConfig { dns_config: Some(config), ..node.pod_config(policy) }).unwrap();
        assert_eq!(files(&node, &pod, policy)[0], content, "{policy}");
        node.remove_pod(&pod.id).unwrap();
    }
    for (name, config) in [("absent", None), ("empty", Some(dns(&[], &[], &[]))), ("nothing-said", Some(dns(&[""], &[], &[])))] {
        let pod = node.run_pod(&cri::PodSandboxConfig { dns_config: config, ..node.pod_config(name) }).unwrap();
        assert_eq!(files(&node, &pod, name)[0], on_the_node("/etc/resolv.conf"), "{name}");
        node.remove_pod(&pod.id).unwrap();
    }
    node.finish();
}

#[test]
fn more_servers_and_domains_than_resolvers_take_are_kept_in_their_order() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let servers: Vec<String> = (1..=6).map(|number| format!("192.0.2.{number}")).collect();
    // 32 domains, the most of Kubernetes, and longer than resolvers of old took.
    let searches: Vec<String> = (0..32).map(|number| format!("{}.domain-{number}.example", "x".repeat(63))).collect();
    let config = cri::DnsConfig { servers: servers.clone(), searches: searches.clone(), options: vec!["ndots:5".into()] };
    let pod = node.run_pod(&cri::PodSandboxConfig { dns_config: Some(config), ..node.pod_config("many") }).unwrap();
    let [resolv_conf, ..] = files(&node, &pod, "many");
    let named: Vec<&str> = resolv_conf.lines().filter_map(|line| line.strip_prefix("nameserver ")).collect();
    assert_eq!(named, servers);
    assert_eq!(resolv_conf.lines().next().unwrap(), format!("search {}", searches.join(" ")));
    node.finish();
}

#[test]
fn words_that_would_be_lines_of_their_own_are_refused_and_leave_nothing() {
    let Some(node) = Node::start() else { return };
    let before = node.holdings();
    for config in [
        dns(&["192.0.2.1\nnameserver 192.0.2.66"], &[], &[]),
        dns(&[], &["a\r\nnameserver 192.0.2.66"], &[]),
        dns(&[], &[], &["ndots:5 timeout:1"]),
        dns(&["192.0.2.1\0"], &[], &[]),
        dns(&[], &["a\u{2028}b"], &[]),
        cri::DnsConfig { searches: vec!["long".repeat(100); 1000], ..Default::default() },
    ] {
        let refused = node.run_pod(&cri::PodSandboxConfig { dns_config: Some(config.clone()), ..node.pod_config("bad") });
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("dns_config") && refused.message().len() < 2000, "{refused}");
    }
    node.assert_nothing_leaked(&before);
    node.finish();
}

#[test]
fn a_pod_in_all_of_the_nodes_namespaces_has_the_nodes_name_hosts_and_resolvers() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let mut config = node.pod_config("host");
    let node_mode: i32 = cri::NamespaceMode::Node.into();
    let options = cri::NamespaceOption { network: node_mode, pid: node_mode, ipc: node_mode, ..Default::default() };
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(options.clone());
    let pod = node.run_pod(&config).unwrap();
    let status = node.pod_status(&pod.id).unwrap();
    let told = status.linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!((told.network(), told.pid(), told.ipc()), (options.network(), options.pid(), options.ipc()));
    assert_eq!(status.network.unwrap_or_default().ip, "", "the node's address is the kubelet's to tell");

    let [resolv_conf, hosts, hostname] = files(&node, &pod, "host");
    assert_eq!(resolv_conf, on_the_node("/etc/resolv.conf"));
    assert_eq!(hosts, on_the_node("/etc/hosts"));
    let name = on_the_node("/proc/sys/kernel/hostname");
    assert_eq!(hostname.trim(), name.trim());
    let mut container = PROBE.container("name", &["env", "HOSTNAME", "+", "sleep", "forever"]);
    let security = cri::LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
    container.linux.as_mut().unwrap().security_context = Some(security);
    let id = node.launch(&pod, &container);
    node.wait_stdout(&id, &format!("HOSTNAME={}\n", name.trim()));
    // It really is the node's network, and the node's process numbers.
    let of = |pid: &str, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let (guest, daemon) = (node.guest_pid(&id).to_string(), node.daemon_pid().to_string());
    for kind in ["net", "pid"] {
        assert_eq!(of(&guest, kind), of(&daemon, kind), "{kind}");
    }
    node.finish();
}

#[test]
fn cluster_first_with_the_nodes_network_has_the_clusters_resolvers_and_the_nodes_hosts() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let config = dns(&["10.96.0.10"], &["svc.cluster.local"], &["ndots:5"]);
    let pod = node.run_pod(&cri::PodSandboxConfig { dns_config: Some(config), ..node.pod_config("agent") }).unwrap();
    let [resolv_conf, hosts, _] = files(&node, &pod, "agent");
    assert_eq!(resolv_conf, "search svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n");
    assert_eq!(hosts, on_the_node("/etc/hosts"));
    node.finish();
}

#[test]
fn the_networks_name_servers_are_those_of_pods_that_name_none() {
    let Some(node) = crate::network::bridged(&[PROBE]) else { return };
    let mut network = crate::network::bridge(&node);
    network["plugins"][0]["dns"] = serde_json::json!({ "nameservers": ["10.88.0.1"] });
    crate::network::configure(&node, "05-dns.conflist", &network);
    let seen = |name: &str, config| {
        let pod = cri::PodSandboxConfig { dns_config: config, ..crate::network::pod_config(&node, name) };
        let pod = node.run_pod(&pod).unwrap();
        let found = files(&node, &pod, name)[0].clone();
        node.remove_pod(&pod.id).unwrap();
        found
    };
    // The directory is watched; the moment at which that is seen is the daemon's.
    let mut number = 0;
    crate::harness::until("the network's server is the pod's", || {
        number += 1;
        seen(&format!("plain-{number}"), None) == "nameserver 10.88.0.1\n"
    });
    assert_eq!(seen("own", Some(dns(&["192.0.2.1"], &[], &[]))), "nameserver 192.0.2.1\n");
    node.finish();
}
