//! Pod sandboxes: their life, what they are listed by, and what a failed one leaves behind.

use std::collections::{BTreeSet, HashMap};

use tonic::Code;

use crate::harness::guests::{PROBE, SPIN};
use crate::harness::{AT_ONCE, Node, cri, network};

const UNKNOWN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn ids(pods: &[cri::PodSandbox]) -> BTreeSet<String> {
    pods.iter().map(|pod| pod.id.clone()).collect()
}

#[test]
fn a_pod_is_ready_once_it_runs_not_ready_once_stopped_and_gone_once_removed() {
    let Some(node) = Node::start() else { return };
    let pod = node.pod("web");
    let status = node.pod_status(&pod.id).unwrap();
    assert_eq!(status.state(), cri::PodSandboxState::SandboxReady);
    assert_eq!(status.id, pod.id);
    assert!(status.created_at > 1_700_000_000_000_000_000, "nanoseconds since the epoch");
    assert_eq!(node.pods(None).len(), 1);

    node.stop_pod(&pod.id).unwrap();
    assert_eq!(node.pod_status(&pod.id).unwrap().state(), cri::PodSandboxState::SandboxNotready);
    assert_eq!(node.pods(None)[0].state(), cri::PodSandboxState::SandboxNotready);

    node.remove_pod(&pod.id).unwrap();
    assert_eq!(node.pod_status(&pod.id).unwrap_err().code(), Code::NotFound);
    assert!(node.pods(None).is_empty());
    node.finish();
}

#[test]
fn stopping_and_removing_again_or_what_was_never_there_is_well() {
    let Some(node) = Node::start() else { return };
    let pod = node.pod("web");
    for _ in 0..2 {
        node.stop_pod(&pod.id).unwrap();
    }
    for _ in 0..2 {
        node.remove_pod(&pod.id).unwrap();
    }
    node.stop_pod(&pod.id).unwrap();
    for id in [UNKNOWN, "no-such-pod"] {
        node.stop_pod(id).unwrap();
        node.remove_pod(id).unwrap();
    }
    node.finish();
}

#[test]
fn the_status_of_an_unknown_pod_is_not_found() {
    let Some(node) = Node::start() else { return };
    // A kubelet takes exactly this code for "gone".
    assert_eq!(node.pod_status(UNKNOWN).unwrap_err().code(), Code::NotFound);
    node.finish();
}

#[test]
fn what_a_pod_was_given_is_given_back_unchanged() {
    let Some(node) = Node::start() else { return };
    let mut config = node.pod_config("web");
    config.metadata.as_mut().unwrap().attempt = 2;
    config.labels = map(&[("io.kubernetes.pod.uid", "1234"), ("app", "web"), ("empty", ""), ("wörld", "ünicode")]);
    config.annotations = map(&[("a/b", "{\"json\": [1, 2]}"), ("long", &"x".repeat(10_000)), ("lines", "a\nb\n")]);
    let pod = node.run_pod(&config).unwrap();
    let status = node.pod_status(&pod.id).unwrap();
    assert_eq!(status.metadata, config.metadata);
    assert_eq!(status.labels, config.labels);
    assert_eq!(status.annotations, config.annotations);
    assert_eq!(status.runtime_handler, "");
    let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(options.network(), cri::NamespaceMode::Node);
    assert_eq!(options.pid(), cri::NamespaceMode::Pod);
    let listed = node.pods(None).remove(0);
    assert_eq!((listed.metadata, listed.labels, listed.annotations), (config.metadata, config.labels, config.annotations));
    assert_eq!(listed.created_at, status.created_at);
    node.finish();
}

#[test]
fn a_pod_on_the_nodes_network_has_no_address_of_its_own() {
    let Some(node) = Node::start() else { return };
    let pod = node.pod("web");
    let network = node.pod_status(&pod.id).unwrap().network.unwrap_or_default();
    assert_eq!((network.ip.as_str(), network.additional_ips.len()), ("", 0));
    node.finish();
}

#[test]
fn pods_are_listed_by_id_state_and_labels_and_all_of_a_filter_must_match() {
    let Some(node) = Node::start() else { return };
    let run = |name: &str, labels: &[(&str, &str)]| {
        let config = cri::PodSandboxConfig { labels: map(labels), ..node.pod_config(name) };
        node.run_pod(&config).unwrap().id
    };
    let blue = run("blue", &[("app", "web"), ("color", "blue")]);
    let green = run("green", &[("app", "web"), ("color", "green")]);
    let other = run("other", &[]);
    node.stop_pod(&green).unwrap();
    let list = |filter: cri::PodSandboxFilter| ids(&node.pods(Some(filter)));
    let set = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect::<BTreeSet<_>>();
    let state = |state: cri::PodSandboxState| Some(cri::PodSandboxStateValue { state: state.into() });
    let filter = cri::PodSandboxFilter::default;

    assert_eq!(list(filter()), set(&[&blue, &green, &other]));
    assert_eq!(list(cri::PodSandboxFilter { id: blue.clone(), ..filter() }), set(&[&blue]));
    assert_eq!(list(cri::PodSandboxFilter { id: blue[..20].to_owned(), ..filter() }), set(&[&blue]));
    assert_eq!(list(cri::PodSandboxFilter { id: UNKNOWN.into(), ..filter() }), set(&[]));
    assert_eq!(list(cri::PodSandboxFilter { state: state(cri::PodSandboxState::SandboxNotready), ..filter() }), set(&[&green]));
    assert_eq!(
        list(cri::PodSandboxFilter { state: state(cri::PodSandboxState::SandboxReady), ..filter() }),
        set(&[&blue, &other])
    );
    assert_eq!(list(cri::PodSandboxFilter { label_selector: map(&[("app", "web")]), ..filter() }), set(&[&blue, &green]));
    assert_eq!(
        list(cri::PodSandboxFilter { label_selector: map(&[("app", "web"), ("color", "blue")]), ..filter() }),
        set(&[&blue])
    );
    assert_eq!(list(cri::PodSandboxFilter { label_selector: map(&[("app", "we")]), ..filter() }), set(&[]));
    let both = cri::PodSandboxFilter {
        id: blue.clone(),
        state: state(cri::PodSandboxState::SandboxReady),
        label_selector: map(&[("color", "green")]),
    };
    assert_eq!(list(both), set(&[]));
    node.finish();
}

#[test]
fn one_name_is_one_pod_and_another_attempt_is_another() {
    let Some(node) = Node::start() else { return };
    let mut config = node.pod_config("web");
    let first = node.run_pod(&config).unwrap();
    let refused = node.run_pod(&config).unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("web"), "{refused}");
    config.metadata.as_mut().unwrap().attempt = 1;
    let second = node.run_pod(&config).unwrap();
    assert_ne!(first.id, second.id);
    node.remove_pod(&second.id).unwrap();
    node.run_pod(&config).expect("a removed pod's name is free");
    node.finish();
}

#[test]
fn an_unknown_handler_is_refused_by_name_leaves_nothing_and_the_retry_succeeds() {
    let Some(node) = Node::start() else { return };
    let config = node.pod_config("web");
    let before = node.holdings();
    let run = |handler: &str| {
        node.client.run_pod_sandbox(cri::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: handler.into() })
    };
    let refused = run("runc-of-elsewhere").unwrap_err();
    assert!(refused.message().contains("runc-of-elsewhere"), "{refused}");
    assert!(node.pods(None).is_empty());
    node.assert_nothing_leaked(&before);
    let id = run("wasm").unwrap().pod_sandbox_id;
    assert_eq!(node.pod_status(&id).unwrap().runtime_handler, "wasm");
    node.finish();
}

#[test]
fn a_pod_that_cannot_be_made_leaves_nothing_and_the_retry_succeeds() {
    let Some(node) = Node::start() else { return };
    let good = node.pod_config("web");
    let before = node.holdings();
    let change = |change: &dyn Fn(&mut cri::PodSandboxConfig)| {
        let mut config = good.clone();
        change(&mut config);
        config
    };
    fn security(config: &mut cri::PodSandboxConfig) -> &mut cri::LinuxSandboxSecurityContext {
        config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
    }
    let pod_network = change(&|config| security(config).namespace_options = Some(network(cri::NamespaceMode::Pod)));
    let sysctl = |name: &'static str| {
        change(&move |config| {
            config.linux.as_mut().unwrap().sysctls = map(&[(name, "1")]);
        })
    };
    let user_namespace = change(&|config| {
        let mapping = cri::IdMapping { host_id: 100_000, container_id: 0, length: 65_536 };
        let namespace =
            cri::UserNamespace { mode: cri::NamespaceMode::Container.into(), uids: vec![mapping], gids: vec![mapping] };
        security(config).namespace_options.as_mut().unwrap().userns_options = Some(namespace);
    });
    let outside = change(&|config| config.linux.as_mut().unwrap().cgroup_parent = "/../../etc".into());
    let slice = change(&|config| config.linux.as_mut().unwrap().cgroup_parent = "kubepods-burstable-pod1.slice".into());
    let bandwidth = change(&|config| config.annotations = map(&[("kubernetes.io/egress-bandwidth", "plenty")]));
    for (config, said) in [
        (pod_network, "cni"),
        (sysctl("kernel.panic"), "kernel.panic"),
        (sysctl("net.ipv4.ip_forward"), "net.ipv4.ip_forward"),
        (user_namespace, "user namespace"),
        (outside, "cgroup"),
        (slice, "slice"),
        (bandwidth, "plenty"),
    ] {
        let refused = node.run_pod(&config).expect_err(said);
        assert!(refused.message().to_lowercase().contains(said), "{said}: {refused}");
        assert!(node.pods(None).is_empty(), "{said}");
        node.assert_nothing_leaked(&before);
    }
    node.run_pod(&good).unwrap();
    node.finish();
}

#[test]
fn a_pod_without_metadata_is_an_invalid_argument() {
    let Some(node) = Node::start() else { return };
    let before = node.holdings();
    let none = node.client.run_pod_sandbox(cri::RunPodSandboxRequest::default()).unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument);
    let without = cri::PodSandboxConfig { metadata: None, ..node.pod_config("web") };
    assert_eq!(node.run_pod(&without).unwrap_err().code(), Code::InvalidArgument);
    node.assert_nothing_leaked(&before);
    node.finish();
}

#[test]
fn stopping_a_pod_ends_its_guests_and_removing_one_takes_them_along() {
    let Some(node) = Node::with(&[PROBE, SPIN]) else { return };
    let pod = node.pod("stopped");
    let sleeper = node.launch(&pod, &PROBE.container("sleeper", &["sleep", "forever"]));
    let spinner = node.launch(&pod, &SPIN.container("spinner", &[]));
    let created = node.create(&pod, &PROBE.container("created", &["echo"])).unwrap();
    let begin = std::time::Instant::now();
    node.stop_pod(&pod.id).unwrap();
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    for id in [&sleeper, &spinner] {
        assert_eq!(node.status(id).state(), cri::ContainerState::ContainerExited);
    }
    assert!(node.start_container(&created).is_err(), "nothing starts in a stopped pod");
    node.remove_pod(&pod.id).unwrap();
    assert_eq!(node.try_status(&sleeper).unwrap_err().code(), Code::NotFound);

    let pod = node.pod("removed");
    let running = node.launch(&pod, &PROBE.container("running", &["sleep", "forever"]));
    node.remove_pod(&pod.id).unwrap();
    assert_eq!(node.try_status(&running).unwrap_err().code(), Code::NotFound);
    assert!(node.containers(None).is_empty());
    node.finish();
}

#[test]
fn many_pods_at_once_are_as_many_pods() {
    let Some(node) = Node::start() else { return };
    let made: BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..40)
            .map(|number| {
                let node = &node;
                scope.spawn(move || node.pod(&format!("pod-{number}")).id)
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(made.len(), 40);
    assert_eq!(ids(&node.pods(None)), made);
    node.finish();
}

#[test]
fn one_name_asked_for_many_times_at_once_is_one_pod() {
    let Some(node) = Node::start() else { return };
    let config = node.pod_config("web");
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| node.run_pod(&config))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let pods = node.pods(None);
    assert_eq!(pods.len(), 1);
    assert!(made.iter().any(Result::is_ok));
    for answer in made {
        match answer {
            Ok(pod) => assert_eq!(pod.id, pods[0].id),
            Err(refused) => assert_eq!(refused.code(), Code::AlreadyExists),
        }
    }
    node.finish();
}

#[test]
fn a_verbose_status_tells_more_as_json() {
    let Some(node) = Node::start() else { return };
    let pod = node.pod("web");
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let info = node.client.pod_sandbox_status(request).unwrap().info;
    assert!(!info.is_empty());
    for text in info.values() {
        serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    }
    node.finish();
}

#[test]
fn an_id_may_be_cut_as_long_as_it_means_one_pod() {
    let Some(node) = Node::start() else { return };
    let mut all: Vec<String> = (0..40).map(|number| node.pod(&format!("p{number}")).id).collect();
    all.sort();
    assert_eq!(node.pod_status(&all[0][..24]).unwrap().id, all[0]);
    assert_eq!(node.pod_status("").unwrap_err().code(), Code::InvalidArgument);
    // Of forty ids two begin with the same hexadecimal digit.
    let twice = all.windows(2).find(|pair| pair[0][..1] == pair[1][..1]).unwrap();
    let ambiguous = node.pod_status(&twice[0][..1]).unwrap_err();
    assert_eq!(ambiguous.code(), Code::InvalidArgument, "{ambiguous}");
    assert!(node.stop_pod(&twice[0][..1]).is_err(), "nothing is stopped by a guess");
    assert!(node.pods(None).iter().all(|pod| pod.state() == cri::PodSandboxState::SandboxReady));
    node.finish();
}
