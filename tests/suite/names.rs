//! Name lookup of components: wasi:sockets/ip-name-lookup against a name server of the test's own, with what pods have for a
//! cluster's names.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::guests::SOCKETS;
use crate::harness::{Node, Options, Pod, cri, netns};

/// Names of a cluster and of the world, with their addresses.
const ZONE: &[(&str, &[&str])] = &[
    ("web.suite.svc.cluster.local", &["10.96.0.1"]),
    ("web.other.svc.cluster.local", &["10.96.0.2", "fd00:96::2"]),
    ("six.suite.svc.cluster.local", &["fd00:96::6"]),
    ("three.suite.svc.cluster.local", &["10.96.0.31", "10.96.0.32", "10.96.0.33"]),
    ("external.test", &["203.0.113.5"]),
    ("xn--bcher-kva.test", &["203.0.113.6"]),
];

/// Has more addresses than a datagram holds, so the server wants to be asked by TCP.
const LARGE: &str = "large.test";

const CLUSTER: &[&str] = &["suite.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"];

/// What was asked for, a name once for each time that its IPv4 address was wanted.
type Questions = Arc<Mutex<Vec<String>>>;

/// A name server at this address of the network, for as long as the tests run. One without questions to note never answers.
fn serve(node: &Node, address: &str, questions: Option<Questions>) {
    let (datagrams, streams) = netns::inside(node.netns.as_ref().unwrap(), || {
        (UdpSocket::bind((address, 53)).unwrap(), TcpListener::bind((address, 53)).unwrap())
    });
    let Some(questions) = questions else {
        // Open, and silent.
        std::mem::forget((datagrams, streams));
        return;
    };
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, from)) = datagrams.recv_from(&mut bytes) {
            let _ = datagrams.send_to(&answer(&bytes[..length], Some(&questions)), from);
        }
    });
    std::thread::spawn(move || {
        for mut stream in streams.incoming().flatten() {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut question = vec![0; u16::from_be_bytes(length).into()];
                let Ok(()) = stream.read_exact(&mut question) else { break };
                let answer = answer(&question, None);
                let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                let Ok(()) = stream.write_all(&[&length[..], &answer].concat()) else { break };
            }
        }
    });
}

/// An answer of RFC 1035. `questions`: it goes by datagram, and the question is noted.
fn answer(question: &[u8], questions: Option<&Questions>) -> Vec<u8> {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..][..length]).to_lowercase());
        at += length + 1;
    }
    let (name, kind, end) = (labels.join("."), question[at + 2], at + 5);
    if let Some(questions) = questions.filter(|_| kind == 1) {
        questions.lock().unwrap().push(name.clone());
    }
    let many: Vec<IpAddr> = (0..100).map(|number| IpAddr::from([203, 0, 113, number])).collect();
    let known = ZONE.iter().find(|(known, _)| *known == name);
    let addresses = match known {
        Some((_, addresses)) => Some(addresses.iter().map(|address| address.parse().unwrap()).collect()),
        None => (name == LARGE).then_some(many),
    };
    let is_cut_off = name == LARGE && questions.is_some();
    // Response, recursion wanted and had; 3: there is no such name.
    let flags = [0x81 | if is_cut_off { 2 } else { 0 }, 0x80 | if addresses.is_some() { 0 } else { 3 }];
    let mut records = Vec::new();
    let mut count: u16 = 0;
    for address in addresses.unwrap_or_default().into_iter().filter(|_| !is_cut_off) {
        let bytes = match address {
            IpAddr::V4(address) if kind == 1 => address.octets().to_vec(),
            IpAddr::V6(address) if kind == 28 => address.octets().to_vec(),
            _ => continue,
        };
        // The name of the question, this type, class IN, 5 seconds.
        records.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 5, 0, u8::try_from(bytes.len()).unwrap()]);
        records.extend(bytes);
        count += 1;
    }
    [&question[..2], &flags, &[0, 1], &count.to_be_bytes(), &[0, 0, 0, 0], &question[12..end], &records].concat()
}

fn pod(node: &Node, name: &str, servers: &[&str], options: &[&str]) -> Pod {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let dns_config = cri::DnsConfig { servers: words(servers), searches: words(CLUSTER), options: words(options) };
    node.run_pod(&cri::PodSandboxConfig { dns_config: Some(dns_config), ..node.pod_config(name) }).unwrap()
}

/// The addresses that a guest finds for a name, or the word that it is told.
fn look_up(node: &Node, pod: &Pod, name: &str, mounts: &[cri::Mount]) -> Result<BTreeSet<String>, String> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let container = format!("lookup-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let container = cri::ContainerConfig { mounts: mounts.to_vec(), ..SOCKETS.container(&container, &["resolve", name]) };
    let ended = node.run(pod, &container);
    match ended.status.exit_code {
        0 => Ok(ended.log.stdout().lines().map(str::to_owned).collect()),
        _ => Err(ended.log.stderr().trim_end().to_owned()),
    }
}

fn found(addresses: &[&str]) -> Result<BTreeSet<String>, String> {
    Ok(addresses.iter().map(|address| (*address).to_owned()).collect())
}

fn node() -> Option<Node> {
    Node::with_options(&Options { own_network: true, ..Default::default() }, &[SOCKETS])
}

#[test]
fn a_clusters_names_are_found_as_in_every_pod() {
    let Some(node) = node() else { return };
    let questions = Questions::default();
    serve(&node, "127.0.0.1", Some(Arc::clone(&questions)));
    let cluster = pod(&node, "cluster", &["127.0.0.1"], &["ndots:5"]);
    let world = pod(&node, "world", &["127.0.0.1"], &["ndots:1"]);
    // The name, its addresses, and what was asked for in this order.
    let below =
        |name: &str, domains: &[&str]| -> Vec<String> { domains.iter().map(|domain| format!("{name}.{domain}")).collect() };
    let then = |mut asked: Vec<String>, last: &str| {
        asked.push(last.to_owned());
        asked
    };
    for (pod, name, addresses, asked) in [
        (&cluster, "web", &["10.96.0.1"][..], below("web", &CLUSTER[..1])),
        (&cluster, "web.suite", &["10.96.0.1"], below("web.suite", &CLUSTER[..2])),
        (&cluster, "web.other", &["10.96.0.2", "fd00:96::2"], below("web.other", &CLUSTER[..2])),
        (&cluster, "web.suite.svc", &["10.96.0.1"], below("web.suite.svc", &CLUSTER[..3])),
        (
            &cluster,
            "web.suite.svc.cluster.local",
            &["10.96.0.1"],
            then(below("web.suite.svc.cluster.local", CLUSTER), "web.suite.svc.cluster.local"),
        ),
        (&cluster, "web.suite.svc.cluster.local.", &["10.96.0.1"], vec!["web.suite.svc.cluster.local".to_owned()]),
        (&cluster, "six", &["fd00:96::6"], below("six", &CLUSTER[..1])),
        (&cluster, "three", &["10.96.0.31", "10.96.0.32", "10.96.0.33"], below("three", &CLUSTER[..1])),
        (&cluster, "external.test", &["203.0.113.5"], then(below("external.test", CLUSTER), "external.test")),
        (&world, "external.test", &["203.0.113.5"], vec!["external.test".to_owned()]),
        (&world, "EXTERNAL.Test", &["203.0.113.5"], vec!["external.test".to_owned()]),
        (&world, "b\u{fc}cher.test", &["203.0.113.6"], vec!["xn--bcher-kva.test".to_owned()]),
        (&world, "web", &["10.96.0.1"], below("web", &CLUSTER[..1])),
        // No question at all.
        (&cluster, "192.0.2.1", &["192.0.2.1"], Vec::new()),
        (&cluster, "2001:db8::1", &["2001:db8::1"], Vec::new()),
    ] {
        assert_eq!(look_up(&node, pod, name, &[]), found(addresses), "{name}");
        assert_eq!(std::mem::take(&mut *questions.lock().unwrap()), asked, "{name}");
    }
    let many: Vec<String> = (0..100).map(|number| format!("203.0.113.{number}")).collect();
    assert_eq!(look_up(&node, &world, LARGE, &[]), found(&many.iter().map(String::as_str).collect::<Vec<_>>()));
    questions.lock().unwrap().clear();

    let nowhere = Err("resolve: name-unresolvable".to_owned());
    assert_eq!(look_up(&node, &cluster, "nowhere", &[]), nowhere);
    assert_eq!(std::mem::take(&mut *questions.lock().unwrap()), then(below("nowhere", CLUSTER), "nowhere"));
    for no_name in ["", "two words", "a..b/c"] {
        assert_eq!(look_up(&node, &cluster, no_name, &[]), Err("resolve: invalid-argument".to_owned()), "{no_name:?}");
    }
    node.finish();
}

#[test]
fn host_aliases_are_asked_before_any_server() {
    let Some(node) = node() else { return };
    let questions = Questions::default();
    serve(&node, "127.0.0.1", Some(Arc::clone(&questions)));
    let pod = pod(&node, "aliases", &["127.0.0.1"], &["ndots:5"]);
    // As the kubelet writes it, with hostAliases.
    let hosts = node.place.directory("etc").join("hosts");
    let text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n10.0.0.7\taliases\n\
        \n# Entries added by HostAliases.\n192.0.2.7\tfoo.local\tbar.local\n192.0.2.8\texternal.test\n";
    std::fs::write(&hosts, text).unwrap();
    let mounts = [cri::Mount {
        host_path: hosts.display().to_string(),
        container_path: "/etc/hosts".into(),
        readonly: true,
        ..Default::default()
    }];
    for (name, addresses) in
        [("foo.local", "192.0.2.7"), ("bar.local", "192.0.2.7"), ("external.test", "192.0.2.8"), ("aliases", "10.0.0.7")]
    {
        assert_eq!(look_up(&node, &pod, name, &mounts), found(&[addresses]), "{name}");
    }
    let local = look_up(&node, &pod, "localhost", &mounts).unwrap();
    assert!(local.contains("127.0.0.1") && local.is_subset(&found(&["127.0.0.1", "::1"]).unwrap()), "{local:?}");
    assert_eq!(*questions.lock().unwrap(), Vec::<String>::new());
    assert_eq!(look_up(&node, &pod, "external.test", &[]), found(&["203.0.113.5"]));
    assert_eq!(look_up(&node, &pod, "web", &mounts), found(&["10.96.0.1"]));
    node.finish();
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let Some(node) = node() else { return };
    let questions = Questions::default();
    serve(&node, "127.0.0.1", Some(Arc::clone(&questions)));
    serve(&node, "127.0.0.2", None);
    let options = ["ndots:5", "timeout:1", "attempts:1"];
    let nobody = pod(&node, "nobody", &["127.0.0.2"], &options);
    assert_eq!(look_up(&node, &nobody, "web", &[]), Err("resolve: name-unresolvable".to_owned()));
    // The next one is asked.
    let second = pod(&node, "second", &["127.0.0.2", "127.0.0.1"], &options);
    assert_eq!(look_up(&node, &second, "web", &[]), found(&["10.96.0.1"]));
    // No server is there at all: told at once.
    let none = pod(&node, "none", &["127.0.0.3"], &["ndots:5"]);
    assert_eq!(look_up(&node, &none, "web", &[]), Err("resolve: name-unresolvable".to_owned()));
    node.finish();
}
