//! Containers: their life, what they are listed by, and what a failed one leaves behind.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use tonic::Code;

use crate::harness::guests::{FIRST_LINE, PROBE, SPIN};
use crate::harness::{AT_ONCE, Node, cri, image_spec, until, words};

const UNKNOWN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_container_is_created_runs_and_exits_and_its_times_say_when() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.create(&pod, &PROBE.container("main", &["sleep", "0.2"])).unwrap();
    let created = node.status(&id);
    assert_eq!(created.state(), cri::ContainerState::ContainerCreated);
    assert!(created.created_at > 1_700_000_000_000_000_000, "nanoseconds since the epoch");
    assert_eq!((created.started_at, created.finished_at), (0, 0));

    node.start_container(&id).unwrap();
    let running = node.status(&id);
    assert_eq!(running.state(), cri::ContainerState::ContainerRunning);
    assert!(running.started_at >= running.created_at);
    assert_eq!(running.finished_at, 0);

    let exited = node.wait_exit(&id).status;
    assert_eq!((exited.exit_code, exited.reason.as_str()), (0, "Completed"));
    assert_eq!((exited.created_at, exited.started_at), (running.created_at, running.started_at));
    let ran = exited.finished_at - exited.started_at;
    assert!((200_000_000..10_000_000_000).contains(&ran), "it slept 0.2 s and ran {ran} ns");

    node.remove_container(&id).unwrap();
    assert_eq!(node.try_status(&id).unwrap_err().code(), Code::NotFound);
    assert!(node.containers(None).is_empty());
    node.finish();
}

#[test]
fn unknown_containers_are_not_found_where_a_kubelet_counts_on_it_and_fine_to_stop_and_remove() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    assert_eq!(node.try_status(UNKNOWN).unwrap_err().code(), Code::NotFound);
    assert_eq!(node.start_container(UNKNOWN).unwrap_err().code(), Code::NotFound);
    let reopen = node.client.reopen_container_log(cri::ReopenContainerLogRequest { container_id: UNKNOWN.into() });
    assert_eq!(reopen.unwrap_err().code(), Code::NotFound);
    let elsewhere = crate::harness::Pod { id: UNKNOWN.into(), config: pod.config.clone() };
    assert_eq!(node.create(&elsewhere, &PROBE.container("main", &[])).unwrap_err().code(), Code::NotFound);
    node.stop_container(UNKNOWN, 1).unwrap();
    node.remove_container(UNKNOWN).unwrap();
    node.finish();
}

#[test]
fn what_a_container_was_given_is_given_back_unchanged() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let host = node.place.directory("volume");
    let mut config = PROBE.container("main", &["echo", "hi"]);
    config.metadata.as_mut().unwrap().attempt = 7;
    config.labels = map(&[("io.kubernetes.container.name", "main"), ("empty", "")]);
    config.annotations = map(&[("io.kubernetes.container.hash", "abc"), ("json", "{\"a\": 1}")]);
    config.mounts = vec![
        cri::Mount {
            host_path: host.display().to_string(),
            container_path: "/data".into(),
            propagation: cri::MountPropagation::PropagationHostToContainer.into(),
            ..Default::default()
        },
        cri::Mount { host_path: host.display().to_string(), container_path: "/ro".into(), readonly: true, ..Default::default() },
        cri::Mount {
            host_path: host.display().to_string(),
            container_path: "/rro".into(),
            readonly: true,
            recursive_read_only: true,
            ..Default::default()
        },
    ];
    let resources = cri::LinuxContainerResources {
        memory_limit_in_bytes: 64 << 20,
        cpu_shares: 512,
        cpu_period: 100_000,
        cpu_quota: 50_000,
        ..Default::default()
    };
    config.linux.as_mut().unwrap().resources = Some(resources.clone());
    let id = node.create(&pod, &config).unwrap();
    let check = |status: &cri::ContainerStatus| {
        assert_eq!(status.metadata, config.metadata);
        assert_eq!(status.labels, config.labels);
        assert_eq!(status.annotations, config.annotations);
        // Exactly these, and not those that the runtime adds: the kubelet looks for its termination log here.
        assert_eq!(status.mounts, config.mounts);
        assert_eq!(status.log_path, format!("{}/main.log", pod.config.log_directory));
        let limits = status.resources.clone().unwrap().linux.unwrap();
        assert_eq!(limits.memory_limit_in_bytes, resources.memory_limit_in_bytes);
        assert_eq!((limits.cpu_shares, limits.cpu_period, limits.cpu_quota), (512, 100_000, 50_000));
    };
    check(&node.status(&id));
    node.start_container(&id).unwrap();
    check(&node.wait_exit(&id).status);
    let listed = node.containers(None).remove(0);
    assert_eq!((listed.metadata, listed.labels, listed.annotations), (config.metadata, config.labels, config.annotations));
    assert_eq!(listed.pod_sandbox_id, pod.id);
    assert!(listed.created_at > 0);
    node.finish();
}

#[test]
fn the_image_is_named_as_it_was_asked_for_and_identified_by_its_id() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let image = node.image(&PROBE.reference()).unwrap();
    let by_digest = image.repo_digests[0].clone();
    // A kubelet gives the id, and beside it the name that the pod has, which is what people are then to be shown.
    for (number, (reference, named, told)) in [
        (image.id.clone(), PROBE.reference(), PROBE.reference()),
        (PROBE.reference(), String::new(), PROBE.reference()),
        (by_digest.clone(), String::new(), by_digest),
    ]
    .into_iter()
    .enumerate()
    {
        let mut config = PROBE.container(&format!("c{number}"), &["echo"]);
        config.image = Some(cri::ImageSpec { user_specified_image: named, ..image_spec(&reference) });
        let status = node.run(&pod, &config).status;
        assert_eq!(status.exit_code, 0);
        assert_eq!(status.image.as_ref().map(|image| image.image.clone()), Some(told));
        assert_eq!(status.image_id, image.id);
        assert!(status.image_ref == image.id || image.repo_digests.contains(&status.image_ref), "{}", status.image_ref);
        let filter = cri::ContainerFilter { id: status.id.clone(), ..Default::default() };
        let listed = node.containers(Some(filter)).remove(0);
        assert!(listed.image_ref == image.id || image.repo_digests.contains(&listed.image_ref), "{}", listed.image_ref);
        assert!(listed.image.is_some_and(|image| !image.image.is_empty()));
        assert_eq!(listed.image_id, image.id);
    }
    node.finish();
}

#[test]
fn containers_are_listed_by_id_state_pod_and_labels_and_all_of_a_filter_must_match() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let (left, right) = (node.pod("left"), node.pod("right"));
    let create = |pod, name: &str, labels: &[(&str, &str)]| {
        let config = cri::ContainerConfig { labels: map(labels), ..PROBE.container(name, &["sleep", "forever"]) };
        node.create(pod, &config).unwrap()
    };
    let created = create(&left, "created", &[("app", "a")]);
    let running = create(&left, "running", &[("app", "a"), ("tier", "x")]);
    node.start_container(&running).unwrap();
    let exited = node.run(&right, &cri::ContainerConfig { labels: map(&[("app", "b")]), ..PROBE.container("exited", &["echo"]) });
    let exited = exited.status.id;

    let list = |filter: cri::ContainerFilter| -> BTreeSet<String> {
        node.containers(Some(filter)).into_iter().map(|container| container.id).collect()
    };
    let set = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect::<BTreeSet<_>>();
    let state = |state: cri::ContainerState| Some(cri::ContainerStateValue { state: state.into() });
    let filter = cri::ContainerFilter::default;
    assert_eq!(list(filter()), set(&[&created, &running, &exited]));
    assert_eq!(node.containers(None).len(), 3);
    assert_eq!(list(cri::ContainerFilter { id: running.clone(), ..filter() }), set(&[&running]));
    assert_eq!(list(cri::ContainerFilter { id: running[..20].to_owned(), ..filter() }), set(&[&running]));
    assert_eq!(list(cri::ContainerFilter { id: UNKNOWN.into(), ..filter() }), set(&[]));
    assert_eq!(list(cri::ContainerFilter { state: state(cri::ContainerState::ContainerCreated), ..filter() }), set(&[&created]));
    assert_eq!(list(cri::ContainerFilter { state: state(cri::ContainerState::ContainerRunning), ..filter() }), set(&[&running]));
    assert_eq!(list(cri::ContainerFilter { state: state(cri::ContainerState::ContainerExited), ..filter() }), set(&[&exited]));
    assert_eq!(list(cri::ContainerFilter { pod_sandbox_id: left.id.clone(), ..filter() }), set(&[&created, &running]));
    assert_eq!(list(cri::ContainerFilter { label_selector: map(&[("app", "a")]), ..filter() }), set(&[&created, &running]));
    assert_eq!(list(cri::ContainerFilter { label_selector: map(&[("app", "a"), ("tier", "x")]), ..filter() }), set(&[&running]));
    let none = cri::ContainerFilter { pod_sandbox_id: right.id.clone(), label_selector: map(&[("app", "a")]), ..filter() };
    assert_eq!(list(none), set(&[]));
    node.finish();
}

#[test]
fn a_container_starts_once() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
    let refused = node.start_container(&id).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("Running") && refused.message().contains("started"), "names both states: {refused}");
    assert_eq!(node.status(&id).state(), cri::ContainerState::ContainerRunning);
    node.stop_container(&id, 0).unwrap();
    assert_eq!(node.start_container(&id).unwrap_err().code(), Code::FailedPrecondition);
    node.finish();
}

#[test]
fn a_container_started_many_times_at_once_starts_once() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.create(&pod, &PROBE.container("main", &["echo", "once"])).unwrap();
    let well = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| node.start_container(&id))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(Result::is_ok).count()
    });
    assert_eq!(well, 1);
    assert_eq!(node.wait_exit(&id).log.stdout(), "once\n");
    node.finish();
}

#[test]
fn one_name_is_one_container_of_its_pod() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let (left, right) = (node.pod("left"), node.pod("right"));
    let mut config = PROBE.container("main", &["echo"]);
    let first = node.create(&left, &config).unwrap();
    assert_eq!(node.create(&left, &config).unwrap_err().code(), Code::AlreadyExists);
    node.create(&right, &config).expect("another pod has names of its own");
    config.metadata.as_mut().unwrap().attempt = 1;
    node.create(&left, &config).expect("another attempt is another container");
    config.metadata.as_mut().unwrap().attempt = 0;
    node.remove_container(&first).unwrap();
    node.create(&left, &config).expect("a removed container's name is free");
    node.finish();
}

#[test]
fn a_guest_that_does_not_listen_to_signals_is_stopped_at_once() {
    let Some(node) = Node::with(&[PROBE, SPIN]) else { return };
    let pod = node.pod("web");
    for config in [PROBE.container("sleeps", &["sleep", "forever"]), SPIN.container("spins", &[])] {
        let id = node.launch(&pod, &config);
        let begin = Instant::now();
        node.stop_container(&id, 60).unwrap();
        assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        let status = node.status(&id);
        // SIGTERM; WASI has no signals that a guest could wait for.
        assert_eq!((status.state(), status.exit_code), (cri::ContainerState::ContainerExited, 143));
        node.stop_container(&id, 60).unwrap();
        assert_eq!(node.status(&id), status, "stopping again changes nothing");
    }
    node.finish();
}

#[test]
fn stopping_without_a_grace_period_kills() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
    node.stop_container(&id, 0).unwrap();
    let status = node.status(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    node.finish();
}

#[test]
fn a_container_that_has_ended_or_never_ran_can_be_stopped() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let ended = node.run(&pod, &PROBE.container("ended", &["exit", "3"])).status;
    node.stop_container(&ended.id, 1).unwrap();
    assert_eq!(node.status(&ended.id), ended);
    let created = node.create(&pod, &PROBE.container("created", &["echo"])).unwrap();
    node.stop_container(&created, 1).unwrap();
    node.finish();
}

#[test]
fn the_stop_signal_of_the_container_is_the_one_that_is_sent() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let mut config = PROBE.container("main", &["sleep", "forever"]);
    config.stop_signal = cri::Signal::Sigint.into();
    let id = node.launch(&pod, &config);
    assert_eq!(node.status(&id).stop_signal(), cri::Signal::Sigint);
    node.stop_container(&id, 10).unwrap();
    assert_eq!(node.status(&id).exit_code, 130);
    node.finish();
}

#[test]
fn removing_a_running_container_ends_it_and_removing_again_is_well() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    node.run(&pod, &PROBE.container("warm", &["echo"]));
    let before = node.holdings();
    let id = node.launch(&pod, &PROBE.container("main", &words("echo hi + sleep forever")));
    node.wait_stdout(&id, "hi\n");
    let (pid, log) = (node.guest_pid(&id), node.status(&id).log_path);
    for _ in 0..2 {
        node.remove_container(&id).unwrap();
    }
    assert!(node.containers(Some(cri::ContainerFilter { id: id.clone(), ..Default::default() })).is_empty());
    until("the guest's process is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(std::path::Path::new(&log).exists(), "its log is the kubelet's to delete");
    node.assert_nothing_leaked(&before);
    let created = node.create(&pod, &PROBE.container("created", &["echo"])).unwrap();
    node.remove_container(&created).unwrap();
    node.assert_nothing_leaked(&before);
    node.finish();
}

#[test]
fn many_containers_of_one_pod_run_at_once() {
    let Some(node) = Node::with(&[FIRST_LINE]) else { return };
    let pod = node.pod("web");
    std::thread::scope(|scope| {
        for number in 0..40 {
            let (node, pod) = (&node, &pod);
            scope.spawn(move || {
                let ended = node.run(pod, &FIRST_LINE.container(&format!("c{number}"), &[]));
                assert_eq!((ended.status.exit_code, ended.log.stdout().as_str()), (0, "hello\n"));
            });
        }
    });
    assert_eq!(node.containers(None).len(), 40);
    node.finish();
}

#[test]
fn a_verbose_status_tells_the_process_id_as_json() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
    let request = cri::ContainerStatusRequest { container_id: id.clone(), verbose: true };
    let info = node.client.container_status(request).unwrap().info;
    // Where crictl and its users look: `crictl inspect -o go-template --template {{.info.pid}}`.
    let json: serde_json::Value = serde_json::from_str(&info["info"]).unwrap();
    assert_eq!(json["pid"].as_i64(), Some(i64::from(node.guest_pid(&id))));
    node.finish();
}
