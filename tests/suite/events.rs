//! GetContainerEvents: what happens is told in its order, completely, to everybody who listens.

use std::collections::{BTreeMap, BTreeSet};

use cri::ContainerEventType::{
    ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted, ContainerStartedEvent as Started,
    ContainerStoppedEvent as Stopped,
};
use cri::ContainerState::{ContainerCreated, ContainerExited, ContainerRunning};
use cri::PodSandboxState::{SandboxNotready, SandboxReady};
use cri::{ContainerEventResponse, ContainerEventType};
use tonic::Code;

use crate::harness::client::{Client, Messages};
use crate::harness::guests::{EXIT_CODE, PROBE};
use crate::harness::{AT_ONCE, Node, cri, until, words};
use crate::restart::is_alive;

fn follow(node: &Node) -> Messages<ContainerEventResponse> {
    node.client.get_container_events(cri::GetEventsRequest {}).expect("GetContainerEvents")
}

fn next(events: &mut Messages<ContainerEventResponse>) -> ContainerEventResponse {
    events.next().expect("the stream goes on").expect("the stream has no end")
}

fn take(events: &mut Messages<ContainerEventResponse>, count: usize) -> Vec<ContainerEventResponse> {
    (0..count).map(|_| next(events)).collect()
}

/// Everything up to this event.
fn take_until(
    events: &mut Messages<ContainerEventResponse>,
    kind: ContainerEventType,
    subject: &str,
) -> Vec<ContainerEventResponse> {
    let mut taken = Vec::new();
    loop {
        let event = next(events);
        let last = event.container_event_type() == kind && event.container_id == subject;
        taken.push(event);
        if last {
            return taken;
        }
    }
}

/// What happened to whom, what the sandbox was, and what each of its containers was.
type Told<'a> = (ContainerEventType, &'a str, cri::PodSandboxState, Vec<(&'a str, cri::ContainerState)>);

fn told(event: &ContainerEventResponse) -> Told<'_> {
    let statuses = event.containers_statuses.iter().map(|status| (status.id.as_str(), status.state())).collect();
    let sandbox = event.pod_sandbox_status.as_ref().expect("a sandbox's status");
    (event.container_event_type(), &event.container_id, sandbox.state(), statuses)
}

fn times_grow(events: &[ContainerEventResponse]) -> bool {
    events.windows(2).all(|pair| pair[0].created_at < pair[1].created_at)
}

#[test]
fn the_life_of_a_pod_is_told_in_order_with_the_whole_pod_each_time() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let mut events = follow(&node);
    let pod = node.pod("web");
    let first = node.create(&pod, &PROBE.container("first", &["exit", "3"])).unwrap();
    node.start_container(&first).unwrap();
    let ended = node.wait_exit(&first).status;
    let second = node.launch(&pod, &PROBE.container("second", &["sleep", "forever"]));
    let running = node.status(&second);
    node.stop_container(&second, 10).unwrap();
    let stopped = node.status(&second);
    node.remove_container(&first).unwrap();
    node.stop_pod(&pod.id).unwrap();
    node.remove_pod(&pod.id).unwrap();

    let events = take(&mut events, 12);
    let of_second = |state: cri::ContainerState| (second.as_str(), state);
    let both = |state: cri::ContainerState| {
        let mut both = vec![(first.as_str(), ContainerExited), of_second(state)];
        both.sort_unstable_by_key(|(id, _)| *id);
        both
    };
    let mut expected: Vec<Told<'_>> = vec![
        (Created, &pod.id, SandboxReady, vec![]),
        (Started, &pod.id, SandboxReady, vec![]),
        (Created, &first, SandboxReady, vec![(&first, ContainerCreated)]),
        (Started, &first, SandboxReady, vec![(&first, ContainerRunning)]),
        (Stopped, &first, SandboxReady, vec![(&first, ContainerExited)]),
    ];
    expected.push((Created, &second, SandboxReady, both(ContainerCreated)));
    expected.push((Started, &second, SandboxReady, both(ContainerRunning)));
    expected.push((Stopped, &second, SandboxReady, both(ContainerExited)));
    expected.push((Deleted, &first, SandboxReady, vec![(&second, ContainerExited)]));
    expected.push((Stopped, &pod.id, SandboxNotready, vec![(&second, ContainerExited)]));
    expected.push((Deleted, &second, SandboxNotready, vec![]));
    expected.push((Deleted, &pod.id, SandboxNotready, vec![]));
    assert_eq!(events.iter().map(told).collect::<Vec<_>>(), expected);
    assert!(times_grow(&events));

    // The statuses are those of the other calls, word for word.
    assert_eq!(events[4].containers_statuses, [ended]);
    let of = |event: &ContainerEventResponse| event.containers_statuses.iter().find(|status| status.id == second).cloned();
    assert_eq!((of(&events[6]), of(&events[7])), (Some(running), Some(stopped)));
    for event in &events {
        let status = event.pod_sandbox_status.as_ref().unwrap();
        assert_eq!((status.metadata.as_ref(), &status.id), (pod.config.metadata.as_ref(), &pod.id));
    }
    node.finish();
}

#[test]
fn also_the_shortest_guest_has_started_before_it_has_stopped() {
    let Some(node) = Node::with(&[EXIT_CODE]) else { return };
    let pod = node.pod("web");
    let mut events = follow(&node);
    for number in 0..60 {
        let id = node.launch(&pod, &EXIT_CODE.container(&format!("c{number}"), &["3"]));
        node.wait_exit(&id);
        node.remove_container(&id).unwrap();
        let told = take_until(&mut events, Deleted, &id);
        let of_it: Vec<_> = told.iter().filter(|event| event.container_id == id).collect();
        let kinds: Vec<_> = of_it.iter().map(|event| event.container_event_type()).collect();
        assert_eq!(kinds, [Created, Started, Stopped, Deleted]);
        let states: Vec<_> = of_it[..3].iter().map(|event| event.containers_statuses[0].state()).collect();
        assert_eq!(states, [ContainerCreated, ContainerRunning, ContainerExited]);
        assert!(of_it[1].containers_statuses[0].started_at > 0);
        assert_eq!(of_it[2].containers_statuses[0].exit_code, 3);
    }
    node.finish();
}

#[test]
fn a_container_that_cannot_be_started_has_stopped_and_never_started() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let config = cri::ContainerConfig { mounts: vec![mount], ..PROBE.container("app", &["echo", "x"]) };
    let id = node.create(&pod, &config).unwrap();
    std::fs::remove_dir(volume).unwrap();
    let mut events = follow(&node);
    node.start_container(&id).unwrap_err();
    node.remove_container(&id).unwrap();
    let told = take_until(&mut events, Deleted, &id);
    let of_it: Vec<_> = told.iter().filter(|event| event.container_id == id).collect();
    let kinds: Vec<_> = of_it.iter().map(|event| event.container_event_type()).collect();
    assert_eq!(kinds, [Created, Stopped, Deleted]);
    let status = &of_it[1].containers_statuses[0];
    assert_eq!((status.exit_code, status.reason.as_str(), status.started_at), (128, "StartError", 0));
    node.finish();
}

#[test]
fn a_sandbox_that_goes_while_its_pod_has_another_one_is_told_with_that_one() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let old = node.pod("web");
    node.launch(&old, &PROBE.container("app", &["sleep", "forever"]));
    node.stop_pod(&old.id).unwrap();
    let mut config = old.config.clone();
    config.metadata.as_mut().unwrap().attempt = 1;
    let new = node.run_pod(&config).unwrap();
    let app = node.launch(&new, &PROBE.container("app", &["sleep", "forever"]));
    node.pod("another");
    let mut events = follow(&node);
    node.remove_pod(&old.id).unwrap();
    let told = take_until(&mut events, Deleted, &old.id);
    let last = told.last().unwrap();
    assert_eq!(last.pod_sandbox_status.as_ref().unwrap().id, new.id);
    assert_eq!(self::told(last), (Deleted, &*old.id, SandboxReady, vec![(&*app, ContainerRunning)]));
    node.remove_pod(&new.id).unwrap();
    let told = take_until(&mut events, Deleted, &new.id);
    assert_eq!(told.last().unwrap().pod_sandbox_status.as_ref().unwrap().id, new.id);
    node.finish();
}

#[test]
fn several_clients_are_each_told_everything_in_the_same_order() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let mut clients: Vec<_> = (0..4).map(|_| follow(&node)).collect();
    let leaves = follow(&node);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let node = &node;
            scope.spawn(move || {
                let pod = node.pod(&format!("p{number}"));
                node.run(&pod, &PROBE.container("app", &["echo", "x"]));
                node.remove_pod(&pod.id).unwrap();
            });
        }
    });
    drop(leaves);
    // Two of the sandbox at each end and four of its container.
    let heard: Vec<_> = clients.iter_mut().map(|client| take(client, 4 * 8)).collect();
    assert!(times_grow(&heard[0]));
    for other in &heard[1..] {
        assert_eq!(other, &heard[0]);
    }
    node.finish();
}

#[test]
fn of_a_hundred_pods_at_once_nothing_is_lost_or_told_twice() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let mut events = follow(&node);
    let pods: Vec<(String, String)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..10)
            .map(|thread| {
                let node = &node;
                let life = move |number: i32| {
                    let pod = node.pod(&format!("p{thread}-{number}"));
                    let id = node.run(&pod, &PROBE.container("app", &["exit", &number.to_string()])).status.id;
                    node.remove_container(&id).unwrap();
                    node.stop_pod(&pod.id).unwrap();
                    node.remove_pod(&pod.id).unwrap();
                    (pod.id, id)
                };
                scope.spawn(move || (0..10).map(life).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let told = take(&mut events, 100 * 8);
    assert!(times_grow(&told));
    let mut by_pod: BTreeMap<&str, Vec<Told<'_>>> = BTreeMap::new();
    for event in &told {
        by_pod.entry(&event.pod_sandbox_status.as_ref().unwrap().id).or_default().push(self::told(event));
    }
    assert_eq!(by_pod.len(), 100);
    for (pod, id) in &pods {
        let alone = |state: cri::ContainerState| vec![(&id[..], state)];
        let expected: Vec<Told<'_>> = vec![
            (Created, pod, SandboxReady, vec![]),
            (Started, pod, SandboxReady, vec![]),
            (Created, id, SandboxReady, alone(ContainerCreated)),
            (Started, id, SandboxReady, alone(ContainerRunning)),
            (Stopped, id, SandboxReady, alone(ContainerExited)),
            (Deleted, id, SandboxReady, vec![]),
            (Stopped, pod, SandboxNotready, vec![]),
            (Deleted, pod, SandboxNotready, vec![]),
        ];
        assert_eq!(by_pod[&pod[..]], expected);
    }
    node.finish();
}

#[test]
fn a_client_that_falls_behind_is_told_so_and_disturbs_nobody() {
    let Some(node) = Node::with(&[]) else { return };
    let mut quick = follow(&node);
    let other = Client::new(&node.place.state.join("cri.sock"));
    let mut slow = other.get_container_events(cri::GetEventsRequest {}).unwrap();
    // What lies between the daemon and a client is full after a few of these.
    let mut config = node.pod_config("large");
    config.annotations.insert("large".to_owned(), "x".repeat(200_000));
    // Together more than are kept and are on their way.
    let pods = 300;
    std::thread::scope(|scope| {
        let listener = scope.spawn(|| take(&mut quick, pods * 4));
        for attempt in 0..pods {
            config.metadata.as_mut().unwrap().attempt = u32::try_from(attempt).unwrap();
            let pod = node.run_pod(&config).unwrap();
            node.remove_pod(&pod.id).unwrap();
        }
        assert!(times_grow(&listener.join().unwrap()));
    });
    let status = loop {
        match slow.next() {
            Ok(event) => assert!(event.is_some(), "it ends with an error"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().contains("list what is there and subscribe again"), "{}", status.message());
    drop((slow, other));
    node.finish();
}

#[test]
fn who_comes_late_is_told_what_has_just_happened_to_pods_that_are_there() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let (gone, stays) = (node.pod("gone"), node.pod("stays"));
    node.run(&gone, &PROBE.container("app", &["echo", "x"]));
    let id = node.run(&stays, &PROBE.container("app", &["exit", "4"])).status.id;
    node.remove_pod(&gone.id).unwrap();
    for _ in 0..2 {
        let mut late = follow(&node);
        let told = take(&mut late, 5);
        let kinds: Vec<_> = told.iter().map(|event| (event.container_event_type(), event.container_id.as_str())).collect();
        assert_eq!(kinds, [(Created, &*stays.id), (Started, &*stays.id), (Created, &*id), (Started, &*id), (Stopped, &*id)]);
        // And then what happens.
        let next_pod = node.pod("next");
        assert_eq!(next(&mut late).container_id, next_pod.id);
        node.remove_pod(&next_pod.id).unwrap();
    }
    node.finish();
}

#[test]
fn ends_around_a_restart_of_the_daemon_are_told_by_the_next_one() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let volume = node.place.directory("volume");
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let args = words("echo here + wait-for /data/go + exit 7");
    let config = cri::ContainerConfig { mounts: vec![mount], ..PROBE.container("waits", &args) };
    let waits = node.launch(&pod, &config);
    node.wait_stdout(&waits, "here\n");
    let before = node.run(&pod, &PROBE.container("before", &["exit", "6"])).status.id;
    let runs = node.launch(&pod, &PROBE.container("runs", &["sleep", "forever"]));
    let mut events = follow(&node);
    let pid = node.guest_pid(&waits);
    node.kill_daemon();
    let cut_off = loop {
        match events.next() {
            Ok(event) => assert!(event.is_some(), "a daemon that is killed says nothing"),
            Err(status) => break status,
        }
    };
    assert!(!cut_off.message().is_empty());
    std::fs::write(volume.join("go"), "").unwrap();
    until("the guest ends", || !is_alive(pid));
    node.start_daemon();

    let mut events = follow(&node);
    let told = take(&mut events, 2);
    let ends: BTreeSet<_> = told
        .iter()
        .map(|event| {
            let status = event.containers_statuses.iter().find(|status| status.id == event.container_id).unwrap();
            (event.container_id.clone(), event.container_event_type().as_str_name(), status.exit_code)
        })
        .collect();
    let stopped = Stopped.as_str_name();
    assert_eq!(ends, BTreeSet::from([(waits.clone(), stopped, 7), (before, stopped, 6)]));
    for event in &told {
        let of_running = event.containers_statuses.iter().find(|status| status.id == runs).unwrap();
        assert_eq!((of_running.state(), event.containers_statuses.len()), (ContainerRunning, 3), "the whole pod is told");
    }
    node.stop_container(&runs, 0).unwrap();
    let event = next(&mut events);
    assert_eq!((event.container_event_type(), event.container_id), (Stopped, runs));
    node.finish();
}

#[test]
fn a_pod_that_did_not_survive_a_reboot_has_stopped() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    node.launch(&pod, &PROBE.container("app", &["sleep", "forever"]));
    let reboot = node.place.files.join("boot_id");
    std::fs::write(&reboot, "a reboot\n").unwrap();
    assert!(node.terminate_daemon().success());
    node.boot_id = Some(reboot);
    node.start_daemon();
    let mut events = follow(&node);
    let told = take_until(&mut events, Stopped, &pod.id);
    let last = told.last().unwrap();
    assert_eq!(last.pod_sandbox_status.as_ref().unwrap().state(), SandboxNotready);
    assert_eq!(last.containers_statuses.len(), 1);
    node.finish();
}

#[test]
fn a_daemon_that_ends_says_so_to_who_listens() {
    let Some(mut node) = Node::with(&[]) else { return };
    let mut events = follow(&node);
    let begin = std::time::Instant::now();
    assert!(node.terminate_daemon().success());
    assert!(begin.elapsed() < AT_ONCE, "it does not wait for clients to leave");
    assert_eq!(events.next().unwrap_err().code(), Code::Unavailable);
    node.start_daemon();
    node.finish();
}

#[test]
fn a_sandbox_status_has_its_containers_and_is_older_than_what_is_told_after_it() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let app = node.launch(&pod, &PROBE.container("app", &["sleep", "forever"]));
    let other = node.create(&pod, &PROBE.container("other", &["echo", "x"])).unwrap();
    let request = cri::PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
    let answer = node.client.pod_sandbox_status(request).unwrap();
    let mut expected = vec![node.status(&app), node.status(&other)];
    expected.sort_by(|one, two| one.id.cmp(&two.id));
    assert_eq!(answer.containers_statuses, expected);
    node.stop_container(&app, 0).unwrap();
    let mut events = follow(&node);
    let told = take_until(&mut events, Stopped, &app);
    let (last, earlier) = told.split_last().unwrap();
    assert!(last.created_at > answer.timestamp);
    assert!(earlier.iter().all(|event| event.created_at < answer.timestamp));
    node.finish();
}
