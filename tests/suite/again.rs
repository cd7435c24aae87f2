//! Calls that come again, at the same time as others, or after somebody else has changed what they are about: each does what it
//! says, or is refused for a reason, and in the end nothing is left.

use std::time::{Duration, Instant};

use tonic::Code;

use crate::harness::guests::{LARGE, PROBE};
use crate::harness::process::Process;
use crate::harness::{AT_ONCE, Node, Options, cri, until};
use crate::restart::is_alive;

/// A container whose guest its stop signal does not end.
fn stubborn(name: &str) -> cri::ContainerConfig {
    let stop_signal = cri::Signal::Sigwinch.into();
    cri::ContainerConfig { stop_signal, ..PROBE.container(name, &["sleep", "forever"]) }
}

#[test]
fn a_container_whose_caller_gave_up_is_finished_and_handed_to_the_retry_and_to_no_other() {
    // The first start of this guest takes a while: it is compiled by its CreateContainer.
    let options = Options { config: "[compile]\nwhen = \"start\"", ..Options::default() };
    let Some(()) = LARGE.push() else { return };
    let Some(node) = Node::start_with(&options) else { return };
    node.pull(&LARGE.reference()).unwrap();
    let pod = node.pod("web");
    let config = LARGE.container("main", &[]);
    let request = cri::CreateContainerRequest {
        pod_sandbox_id: pod.id.clone(),
        config: Some(config.clone()),
        sandbox_config: Some(pod.config.clone()),
    };
    let gave_up = node.client.create_container_within(Duration::from_millis(100), request).unwrap_err();
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&gave_up.code()), "{gave_up:?}");
    let other = LARGE.container("main", &["something", "else"]);
    let refused = node.create(&pod, &other).expect_err("the first is finished, and has the name");
    assert_eq!(refused.code(), Code::AlreadyExists);
    let made = node.containers(None).remove(0).id;
    assert!(refused.message().contains(&made), "it says who has the name: {refused}");
    assert_eq!(node.create(&pod, &config).expect("the retry"), made);
    assert_eq!(node.create(&pod, &config).unwrap_err().code(), Code::AlreadyExists, "it has been handed over now");
    node.remove_container(&made).unwrap();
    node.create(&pod, &other).expect("the name is free");
    assert_eq!(node.containers(None).len(), 1);
    node.finish();
}

#[test]
fn a_name_is_free_again_once_its_container_or_pod_is_gone_however_it_went() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let config = PROBE.container("main", &["sleep", "forever"]);
    let mut pod = node.pod("web");
    for _ in 0..3 {
        let created = node.create(&pod, &config).unwrap();
        node.remove_container(&created).unwrap();
        let running = node.launch(&pod, &config);
        node.remove_container(&running).unwrap();
        let stopped = node.launch(&pod, &config);
        node.stop_container(&stopped, 0).unwrap();
        node.remove_container(&stopped).unwrap();
        node.launch(&pod, &config);
        // With its containers.
        node.remove_pod(&pod.id).unwrap();
        pod = node.run_pod(&pod.config).unwrap();
    }
    node.finish();
}

#[test]
fn of_two_stops_the_shorter_grace_decides() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    // The longest that the message can say is as good as for ever.
    for patient in [600, i64::MAX] {
        let id = node.launch(&pod, &stubborn(&format!("c{patient}")));
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| node.stop_container(&id, patient));
            std::thread::sleep(Duration::from_millis(300));
            assert!(!stop.is_finished() && node.status(&id).state() == cri::ContainerState::ContainerRunning);
            node.stop_container(&id, 1).unwrap();
            stop.join().unwrap().unwrap();
        });
        assert!(begin.elapsed() < AT_ONCE + Duration::from_secs(2));
        assert_eq!(node.status(&id).exit_code, 137);
    }
    node.finish();
}

#[test]
fn no_grace_and_less_than_none_kill_at_once() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    for timeout in [0, -1, i64::MIN] {
        let id = node.launch(&pod, &stubborn(&format!("c{timeout}")));
        node.stop_container(&id, timeout).unwrap();
        assert_eq!(node.status(&id).exit_code, 137, "a timeout of {timeout}");
    }
    node.finish();
}

#[test]
fn a_stop_whose_caller_gave_up_kills_after_its_grace_all_the_same() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &stubborn("main"));
    let request = cri::StopContainerRequest { container_id: id.clone(), timeout: 1 };
    node.client.stop_container_within(Duration::from_millis(200), request).unwrap_err();
    assert_eq!(node.wait_exit(&id).status.exit_code, 137);
    node.finish();
}

#[test]
fn a_removal_and_a_pods_stop_get_through_a_long_grace_period() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let (removed, stopped) = (node.launch(&pod, &stubborn("removed")), node.launch(&pod, &stubborn("stopped")));
    std::thread::scope(|scope| {
        let stops = [&removed, &stopped].map(|id| scope.spawn(|| node.stop_container(id, 600)));
        until("the stops wait", || {
            std::thread::sleep(Duration::from_millis(100));
            stops.iter().all(|stop| !stop.is_finished())
        });
        node.remove_container(&removed).unwrap();
        node.stop_pod(&pod.id).unwrap();
        for stop in stops {
            stop.join().unwrap().unwrap();
        }
    });
    assert_eq!(node.try_status(&removed).unwrap_err().code(), Code::NotFound);
    assert_eq!(node.status(&stopped).exit_code, 137);
    node.finish();
}

#[test]
fn nothing_starts_in_a_stopped_pod() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.create(&pod, &PROBE.container("main", &["echo"])).unwrap();
    node.stop_pod(&pod.id).unwrap();
    let refused = node.start_container(&id).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(&pod.id) && refused.message().contains("NotReady"), "{refused}");
    assert_eq!(node.status(&id).state(), cri::ContainerState::ContainerCreated);
    node.finish();
}

#[test]
fn a_container_can_be_removed_while_a_command_runs_in_it_and_its_log_is_reopened() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    for round in 0..5 {
        let config = PROBE.container(&format!("c{round}"), &["write", "/up", "x", "+", "sleep", "forever"]);
        let id = node.launch(&pod, &config);
        std::thread::scope(|scope| {
            let command = scope.spawn(|| node.try_exec(&id, &["probe", "sleep", "forever"], 0));
            let reopen = scope.spawn(|| {
                loop {
                    let request = cri::ReopenContainerLogRequest { container_id: id.clone() };
                    match node.client.reopen_container_log(request) {
                        // A guest that writes nothing has room for a few messages only.
                        Err(status) if status.code() != Code::Unavailable => break status,
                        _ => std::thread::sleep(Duration::from_millis(2)),
                    }
                }
            });
            until("the command runs", || command.is_finished() || node.container_pids(&id).len() == 2);
            node.remove_container(&id).unwrap();
            assert!([Code::NotFound, Code::FailedPrecondition].contains(&reopen.join().unwrap().code()));
            // It was killed with its container, however soon its end is seen.
            match command.join().unwrap() {
                Ok(answer) => assert_ne!(answer.exit_code, 0, "{answer:?}"),
                Err(status) => assert!(
                    [Code::NotFound, Code::FailedPrecondition].contains(&status.code()),
                    "a command that was cut off: {status:?}"
                ),
            }
        });
        assert_eq!(node.try_status(&id).unwrap_err().code(), Code::NotFound);
    }
    node.finish();
}

#[test]
fn what_was_removed_is_in_no_list_and_the_rest_is_whole() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let stays = node.launch(&pod, &PROBE.container("stays", &["sleep", "forever"]));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (node, pod, stays) = (&node, &pod, &stays);
            scope.spawn(move || {
                for round in 0..10 {
                    let id = node.launch(pod, &PROBE.container(&format!("c{thread}-{round}"), &["sleep", "forever"]));
                    let listed = node.containers(None);
                    assert!(listed.iter().any(|container| container.id == id));
                    node.remove_container(&id).unwrap();
                    let listed = node.containers(None);
                    assert!(listed.iter().all(|container| container.id != id), "a removed container is listed");
                    for container in &listed {
                        assert!(container.metadata.is_some() && container.image.is_some() && container.pod_sandbox_id == pod.id);
                    }
                    let state = listed.iter().find(|container| container.id == *stays).expect("it stays").state();
                    assert_eq!(state, cri::ContainerState::ContainerRunning);
                }
            });
        }
    });
    node.finish();
}

#[test]
fn a_pod_removed_while_containers_are_made_in_it_has_none_afterwards() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    for round in 0..10 {
        let pod = node.pod(&format!("p{round}"));
        std::thread::scope(|scope| {
            for number in 0..4 {
                let (node, pod) = (&node, &pod);
                scope.spawn(move || {
                    if let Err(status) = node.create(pod, &PROBE.container(&format!("c{number}"), &["echo"])) {
                        assert!([Code::NotFound, Code::FailedPrecondition].contains(&status.code()), "{status:?}");
                    }
                });
            }
            for _ in 0..2 {
                scope.spawn(|| node.remove_pod(&pod.id).unwrap());
            }
        });
        assert!(node.containers(None).is_empty());
        assert_eq!(node.pod_status(&pod.id).unwrap_err().code(), Code::NotFound);
    }
    node.finish();
}

#[test]
fn a_guest_of_which_nothing_is_left_has_ended_for_unknown_reasons_and_its_container_can_be_replaced() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let config = PROBE.container("main", &["sleep", "forever"]);
    let id = node.launch(&pod, &config);
    let pid = node.guest_pid(&id);
    node.kill_daemon();
    Process::look(pid).unwrap().signal(rustix::process::Signal::KILL);
    until("the guest is gone", || !is_alive(pid));
    let files = || {
        let entries = std::fs::read_dir(node.place.state.join("guests")).unwrap().flatten();
        entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains(&id)).collect::<Vec<_>>()
    };
    until("its end is on record", || files().iter().any(|path| path.extension().is_some_and(|kind| kind == "exit")));
    files().iter().for_each(|path| std::fs::remove_file(path).unwrap());
    node.start_daemon();
    let status = node.status(&id);
    assert_eq!((status.state(), status.exit_code), (cri::ContainerState::ContainerExited, 255));
    assert_eq!(status.reason, "Unknown");
    assert!(status.finished_at >= status.started_at && status.started_at > 0, "{status:?}");
    node.stop_container(&id, 10).unwrap();
    node.remove_container(&id).unwrap();
    node.launch(&pod, &config);
    node.finish();
}
