//! The reference plugins: Debian's, which speak CNI up to 1.0.0, and the
//! project's own 1.9.0, which speak 1.1.0.
//!
//! What a node's plugins do to the node happens in a network namespace of its
//! own for each test: bridges, rules and addresses meet nobody else's.

use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::{Network, NetworkConfig, PodNetwork, PortMapping, Protocol, full_text, netns};
use super::namespaces::inside;
use super::{Node, is_root, names_in, skip};

/// Where a set of plugins is and which versions of the specification it speaks.
struct Plugins {
    dir: PathBuf,
    versions: &'static [&'static str],
}

fn debian() -> Plugins {
    Plugins { dir: "/usr/lib/cni".into(), versions: &["0.3.1", "0.4.0", "1.0.0"] }
}

/// Built as a Go module by the tests' set-up.
fn newest() -> Plugins {
    let cache = std::env::var_os("CRI_WASM_CACHE").map(PathBuf::from);
    let cache = cache
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/cri-wasm"));
    Plugins { dir: cache.join("bin/cni"), versions: &["0.4.0", "1.1.0"] }
}

/// A pinned namespace that goes when the test does, however that ends.
struct Pinned(PathBuf);

impl Pinned {
    fn new(dir: &Path, name: &str) -> Pinned {
        Pinned(netns::create(dir, name, &[]).unwrap())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = netns::remove(&self.0);
    }
}

/// Runs a test on a node with a network namespace of its own, once a version.
/// Threads and plugins that come out of this thread stay in it.
fn on_a_node<F: Future<Output = ()>>(test: &str, plugins: &Plugins, needed: &[&str], work: impl Fn(Rig) -> F + Send + Sync) {
    if !is_root() {
        return skip(test, "root");
    }
    for plugin in needed {
        let path = plugins.dir.join(plugin);
        if !path.exists() {
            return skip(test, &path.display().to_string());
        }
    }
    for version in plugins.versions {
        let node = Node::new();
        let host_dir = tempfile::tempdir().unwrap();
        let host = Pinned::new(host_dir.path(), "host");
        inside(&host.0, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let rig = Rig { node, bin: plugins.dir.clone(), version: (*version).to_owned() };
            runtime.block_on(work(rig));
        });
    }
}

struct Rig {
    node: Node,
    bin: PathBuf,
    version: String,
}

impl Rig {
    /// A bridge with addresses of a subnet, then other plugins.
    fn conf(&self, subnet: &str, others: &[Value]) {
        let mut plugins = vec![json!({
            "type": "bridge", "bridge": "cni-test0", "isGateway": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": self.node.path("ipam"),
                "ranges": [[{ "subnet": subnet }]], "routes": [{ "dst": "0.0.0.0/0" }],
            },
        })];
        plugins.extend_from_slice(others);
        let list = json!({ "cniVersion": self.version, "name": "real", "plugins": plugins });
        self.node.conf("10-real.conflist", &list);
    }

    fn network(&self) -> Network {
        Network::new(NetworkConfig {
            conf_dir: self.node.path("conf"),
            bin_dirs: vec![self.bin.clone()],
            cache_dir: self.node.path("cache"),
            netns_dir: self.node.path("netns"),
            plugin_timeout: Duration::from_secs(60),
        })
        .unwrap()
    }

    fn pod(&self, id: &str) -> (PodNetwork, Pinned) {
        let pod = self.node.pod(id);
        let pinned = Pinned::new(&self.node.path("netns"), &netns::name(id));
        assert_eq!(pod.netns, pinned.0);
        (pod, pinned)
    }

    /// The addresses that host-local has given away.
    fn addresses(&self) -> Vec<String> {
        let names = names_in(&self.node.path("ipam/real"));
        names.into_iter().filter(|name| name.parse::<IpAddr>().is_ok()).collect()
    }
}

/// The interfaces of the namespace that the calling thread is in.
fn interfaces() -> Vec<String> {
    let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    table.lines().skip(2).map(|line| line.split(':').next().unwrap().trim().to_owned()).collect()
}

/// Sends a word to an address from where the calling thread is.
fn talk(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"ping")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Opens a port in a pod and answers one caller there, while something else runs.
fn while_answering<T>(pod: &PodNetwork, port: u16, work: impl FnOnce() -> T) -> T {
    let listener = inside(&pod.netns, || TcpListener::bind(("0.0.0.0", port)).unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut word = String::new();
        stream.read_to_string(&mut word).unwrap();
        stream.write_all(format!("{word} pong").as_bytes()).unwrap();
    });
    let done = work();
    server.join().unwrap();
    done
}

fn pods_reach_each_other_and_leave_nothing(test: &str, plugins: &Plugins) {
    on_a_node(test, plugins, &["bridge", "host-local"], |rig| async move {
        rig.conf("10.231.4.0/24", &[]);
        let network = rig.network();
        network.refresh().await.unwrap();
        assert!(network.status().ready, "{}", network.status().message);
        let ((one, one_pinned), (other, _other_pinned)) = (rig.pod("one"), rig.pod("other"));
        let (first, second) = tokio::join!(network.add(&one), network.add(&other));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_ne!(first.ips, second.ips);
        assert!(first.mac.is_some());
        assert_eq!(inside(&one.netns, interfaces).iter().filter(|name| *name == "eth0").count(), 1);
        let answer = while_answering(&other, 80, || inside(&one.netns, || talk((second.ips[0], 80).into()).unwrap()));
        assert_eq!(answer, "ping pong");
        assert_eq!(rig.addresses().len(), 2);
        for pod in [&one, &other] {
            network.check(pod).await.unwrap();
        }

        network.remove(&one).await.unwrap();
        network.remove(&one).await.unwrap();
        assert_eq!(rig.addresses(), [second.ips[0].to_string()]);
        drop(one_pinned);
        network.remove(&one).await.unwrap();
        // A daemon that was started in between removes the other, whose
        // namespace is gone already.
        netns::remove(&other.netns).unwrap();
        let network = rig.network();
        if rig.version != "0.3.1" {
            network.check(&other).await.unwrap_err();
        }
        network.remove(&other).await.unwrap();
        assert!(rig.addresses().is_empty());
        assert!(rig.node.records().is_empty());
        // What was in a namespace goes with it, when the kernel comes to it.
        let veths = || interfaces().iter().filter(|name| name.starts_with("veth")).count();
        for _ in 0..1000 {
            if veths() == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("left: {:?}", interfaces());
    });
}

fn host_ports_lead_into_the_pod(test: &str, plugins: &Plugins) {
    on_a_node(test, plugins, &["bridge", "host-local", "portmap", "bandwidth"], |rig| async move {
        let rules = || Command::new("iptables").args(["-w", "-t", "nat", "-S"]).stderr(Stdio::null()).output();
        if !rules().is_ok_and(|rules| rules.status.success()) {
            return skip(test, "an iptables with a nat table");
        }
        rig.conf(
            "10.231.5.0/24",
            &[
                json!({ "type": "portmap", "capabilities": { "portMappings": true } }),
                json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }),
            ],
        );
        let network = rig.network();
        let (mut pod, _pinned) = rig.pod("web");
        pod.port_mappings = vec![
            PortMapping { protocol: Protocol::Tcp, container_port: 80, host_port: 18080, host_ip: None },
            PortMapping { protocol: Protocol::Tcp, container_port: 81, host_port: 0, host_ip: None },
        ];
        (pod.ingress_bps, pod.egress_bps) = (Some(100_000_000), Some(100_000_000));
        network.add(&pod).await.unwrap();
        // Debian's portmap looks for rules of IPv6 in any network, and fails.
        if rig.bin != debian().dir {
            network.check(&pod).await.unwrap();
        }
        let node_address: SocketAddr = "10.231.5.1:18080".parse().unwrap();
        assert_eq!(while_answering(&pod, 80, || talk(node_address).unwrap()), "ping pong");
        network.remove(&pod).await.unwrap();
        talk(node_address).unwrap_err();
        assert!(!String::from_utf8_lossy(&rules().unwrap().stdout).contains("18080"));
        assert!(rig.addresses().is_empty());
    });
}

fn leftovers_of_a_daemon_that_died_are_collected(test: &str, plugins: &Plugins) {
    on_a_node(test, plugins, &["bridge", "host-local"], |rig| async move {
        // Five addresses beside the bridge's own.
        rig.conf("10.231.6.0/29", &[]);
        let network = rig.network();
        let pods: Vec<(PodNetwork, Pinned)> = (0..5).map(|number| rig.pod(&format!("pod{number}"))).collect();
        for (pod, _) in &pods {
            network.add(pod).await.unwrap();
        }
        let (late, _late_pinned) = rig.pod("late");
        let error = full_text(&network.add(&late).await.unwrap_err());
        assert!(error.contains("plugin bridge failed at ADD: code"), "{error}");
        assert_eq!(rig.addresses().len(), 5);
        assert_eq!(rig.node.records().len(), 5);

        let network = rig.network();
        let valid: Vec<(String, String)> =
            pods.iter().skip(2).map(|(pod, _)| (pod.sandbox_id.clone(), "eth0".to_owned())).collect();
        network.collect(&valid).await.unwrap();
        assert_eq!(rig.addresses().len(), 3);
        network.add(&late).await.unwrap();
        network.collect(&[]).await.unwrap();
        assert_eq!(rig.addresses().len(), 1);
        network.remove(&late).await.unwrap();
        assert!(rig.addresses().is_empty());
    });
}

fn a_chain_that_breaks_leaves_no_address_and_no_interface(test: &str, plugins: &Plugins) {
    on_a_node(test, plugins, &["bridge", "host-local"], |rig| async move {
        rig.conf("10.231.7.0/24", &[json!({ "type": "not-there" })]);
        let network = rig.network();
        network.refresh().await.unwrap();
        assert!(network.status().message.contains("not-there"));
        let (pod, _pinned) = rig.pod("half");
        network.add(&pod).await.unwrap_err();
        assert!(rig.addresses().is_empty());
        assert!(!interfaces().iter().any(|name| name.starts_with("veth")));
        assert_eq!(inside(&pod.netns, interfaces), ["lo"]);
        assert!(rig.node.records().is_empty());
    });
}

macro_rules! with_both {
    ($($test:ident),* $(,)?) => {
        mod debians { $(#[test] fn $test() { super::$test(&format!("debians::{}", stringify!($test)), &super::debian()); })* }
        mod newest_ones { $(#[test] fn $test() { super::$test(&format!("newest_ones::{}", stringify!($test)), &super::newest()); })* }
    };
}

with_both!(
    pods_reach_each_other_and_leave_nothing,
    host_ports_lead_into_the_pod,
    leftovers_of_a_daemon_that_died_are_collected,
    a_chain_that_breaks_leaves_no_address_and_no_interface,
);
