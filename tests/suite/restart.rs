//! The daemon and the supervisor killed at every moment: pods run on, and everything is found again.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::guests::{Guest, PROBE, SPIN};
use crate::harness::process::Process;
use crate::harness::{AT_ONCE, Node, Pod, cri, eventually, until, words};

fn state(node: &Node, id: &str) -> cri::ContainerState {
    node.status(id).state()
}

/// A container that waits for a file in its volume and then does the rest.
fn waiting(node: &Node, guest: Guest, name: &str, then: &[&str]) -> (cri::ContainerConfig, PathBuf) {
    let volume = node.place.directory(&format!("volumes/{name}"));
    let mount = cri::Mount { host_path: volume.display().to_string(), container_path: "/data".into(), ..Default::default() };
    let args = [&words("echo here + wait-for /data/go +"), then].concat();
    (cri::ContainerConfig { mounts: vec![mount], ..guest.container(name, &args) }, volume.join("go"))
}

/// Starts such a container and returns it once it waits.
fn launch_waiting(node: &Node, pod: &Pod, name: &str, then: &[&str]) -> (String, PathBuf) {
    let (config, go) = waiting(node, PROBE, name, then);
    let id = node.launch(pod, &config);
    node.wait_stdout(&id, "here\n");
    (id, go)
}

pub(crate) fn is_alive(pid: i32) -> bool {
    Process::look(pid).is_some()
}

#[test]
fn a_killed_daemon_finds_pods_and_containers_in_every_state() {
    let Some(mut node) = Node::with(&[PROBE, SPIN]) else { return };
    let (ready, stopped) = (node.pod("ready"), node.pod("stopped"));
    let created = node.create(&ready, &PROBE.container("created", &["echo", "late"])).unwrap();
    let (running, go) = launch_waiting(&node, &ready, "running", &["exit", "9"]);
    let spinning = node.launch(&ready, &SPIN.container("spinning", &[]));
    let exited = node.run(&ready, &PROBE.container("exited", &["exit", "5"])).status.id;
    let trapped = node.run(&ready, &PROBE.container("trapped", &["trap"])).status.id;
    let of_stopped = node.launch(&stopped, &PROBE.container("main", &["sleep", "forever"]));
    node.stop_pod(&stopped.id).unwrap();
    let all = [&created, &running, &spinning, &exited, &trapped, &of_stopped];
    let before: Vec<_> = all.iter().map(|id| node.status(id)).collect();
    let pods: Vec<_> = [&ready, &stopped].iter().map(|pod| node.pod_status(&pod.id).unwrap()).collect();
    let processes: Vec<i32> = [&running, &spinning].iter().map(|id| node.guest_pid(id)).collect();

    node.restart_daemon();
    assert_eq!(all.map(|id| node.status(id)).to_vec(), before);
    assert_eq!([&ready, &stopped].map(|pod| node.pod_status(&pod.id).unwrap()).to_vec(), pods);
    assert_eq!([&running, &spinning].map(|id| node.guest_pid(id)).to_vec(), processes, "no guest was started again");
    assert_eq!(node.containers(None).len(), all.len());

    // And everything can go on.
    node.start_container(&created).unwrap();
    assert_eq!(node.wait_exit(&created).log.stdout(), "late\n");
    std::fs::write(go, "").unwrap();
    let ended = node.wait_exit(&running);
    assert_eq!((ended.status.exit_code, ended.log.stdout().as_str()), (9, "here\n"));
    node.stop_container(&spinning, 10).unwrap();
    assert_eq!(node.status(&spinning).exit_code, 143);
    let refused = node.run_pod(&ready.config).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists, "names are still taken");
    node.finish();
}

#[test]
fn guests_that_end_while_no_daemon_is_there_are_told_with_their_codes_and_whole_logs() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let mut guests = Vec::new();
    for (name, then, code, reason) in [
        ("well", &["lines", "5000"][..], 0, "Completed"),
        ("badly", &["exit", "7"], 7, "Error"),
        ("trap", &["trap"], 134, "Trap"),
        ("killed", &["sleep", "forever"], 137, "Error"),
    ] {
        let (id, go) = launch_waiting(&node, &pod, name, then);
        guests.push((name, node.guest_pid(&id), id, go, code, reason));
    }
    let (hungry, go) = {
        let (mut config, go) = waiting(&node, PROBE, "hungry", &["eat-memory", "256M"]);
        let resources = cri::LinuxContainerResources { memory_limit_in_bytes: 32 << 20, ..Default::default() };
        config.linux.as_mut().unwrap().resources = Some(resources);
        let id = node.launch(&pod, &config);
        node.wait_stdout(&id, "here\n");
        (id, go)
    };
    guests.push(("hungry", node.guest_pid(&hungry), hungry, go, 137, "OOMKilled"));
    node.kill_daemon();
    for (name, pid, _, go, ..) in &guests {
        std::fs::write(go, "").unwrap();
        if *name == "killed" {
            Process::look(*pid).unwrap().signal(Signal::KILL);
        }
    }
    for (name, pid, ..) in &guests {
        until(&format!("{name} ends"), || !is_alive(*pid));
    }
    node.start_daemon();
    for (name, _, id, _, code, reason) in &guests {
        // At once, and not some time after the start.
        let status = node.status(id);
        assert_eq!(status.state(), cri::ContainerState::ContainerExited, "{name}");
        assert_eq!((status.exit_code, status.reason.as_str()), (*code, *reason), "{name}: {}", status.message);
        assert!(status.finished_at >= status.started_at && status.started_at > 0, "{name}: {status:?}");
        if *name == "trap" {
            assert!(status.message.contains("outer"), "{}", status.message);
        }
        if *name == "well" {
            let log = node.log(id);
            assert_eq!((log.0.len(), log.0.last().unwrap().text.as_slice()), (5001, b"line 5000".as_slice()));
        }
    }
    node.finish();
}

#[test]
fn a_guest_writes_its_log_while_the_daemon_is_away_and_rotation_goes_on_after() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &words("lines 0 0 1")));
    node.wait_stdout(&id, "line 1\n");
    let log = PathBuf::from(node.status(&id).log_path);
    node.kill_daemon();
    let size = || std::fs::metadata(&log).unwrap().len();
    let before = size();
    until("the log grows without a daemon", || size() > before + 100);
    node.start_daemon();
    let old = log.with_extension("old");
    std::fs::rename(&log, &old).unwrap();
    node.client.reopen_container_log(cri::ReopenContainerLogRequest { container_id: id.clone() }).unwrap();
    until("the new log grows", || std::fs::metadata(&log).is_ok_and(|file| file.len() > 100));
    node.stop_container(&id, 0).unwrap();
    let lines = [&old, &log].map(|file| crate::harness::log::Log::read(file).0).concat();
    for (index, entry) in lines.iter().enumerate() {
        assert_eq!(entry.text, format!("line {}", index + 1).as_bytes());
    }
    node.finish();
}

#[test]
fn a_daemon_told_to_stop_leaves_its_pods_running() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let (id, go) = launch_waiting(&node, &pod, "main", &["exit", "3"]);
    let pid = node.guest_pid(&id);
    assert!(node.terminate_daemon().success());
    assert!(is_alive(pid));
    node.start_daemon();
    assert_eq!(state(&node, &id), cri::ContainerState::ContainerRunning);
    std::fs::write(go, "").unwrap();
    assert_eq!(node.wait_exit(&id).status.exit_code, 3);
    node.finish();
}

#[test]
fn the_supervisor_is_outside_of_the_daemons_process_group_and_cgroup() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
    let (daemon, supervisor) = (Process::look(node.daemon_pid()).unwrap(), node.supervisor());
    let session = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let rest = stat.rsplit_once(") ").unwrap().1.to_owned();
        rest.split(' ').nth(2).unwrap().to_owned()
    };
    assert_ne!(session(daemon.pid), session(supervisor.pid), "process groups");
    // A service manager ends everything that is in the service's own cgroup.
    assert!(supervisor.cgroups.contains(&node.place.name), "{}", supervisor.cgroups);
    assert_eq!(std::fs::read_dir(format!("/proc/{}/task", supervisor.pid)).unwrap().count(), 1, "a fork copies one thread only");
    node.finish();
}

#[test]
fn guests_outlive_their_supervisor_their_ends_are_told_and_new_ones_start() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let (well, go_well) = launch_waiting(&node, &pod, "well", &words("lines 100 + exit 9"));
    let (trapped, go_trapped) = launch_waiting(&node, &pod, "trapped", &["trap"]);
    let (stopped, _) = launch_waiting(&node, &pod, "stopped", &["echo"]);
    let (killed, _) = launch_waiting(&node, &pod, "killed", &["echo"]);
    let supervisor = node.supervisor();
    supervisor.signal(Signal::KILL);
    until("the supervisor is gone", || !is_alive(supervisor.pid));
    for id in [&well, &trapped, &stopped, &killed] {
        assert_eq!(state(&node, id), cri::ContainerState::ContainerRunning);
        assert!(is_alive(node.guest_pid(id)));
    }
    let fresh = eventually("a new guest starts", || {
        let config = PROBE.container(&format!("fresh-{}", node.containers(None).len()), &["echo", "again"]);
        let id = node.create(&pod, &config).expect("creating needs no supervisor");
        node.start_container(&id).ok().map(|()| id)
    });
    assert_eq!(node.wait_exit(&fresh).log.stdout(), "again\n");

    std::fs::write(go_well, "").unwrap();
    std::fs::write(go_trapped, "").unwrap();
    let ended = node.wait_exit(&well);
    assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (9, "Error"));
    assert!(ended.log.stdout().ends_with("line 100\n"));
    let ended = node.wait_exit(&trapped);
    assert_eq!((ended.status.exit_code, ended.status.reason.as_str()), (134, "Trap"));
    assert!(ended.status.message.contains("outer"), "{}", ended.status.message);
    node.stop_container(&stopped, 10).unwrap();
    assert_eq!(state(&node, &stopped), cri::ContainerState::ContainerExited);
    Process::look(node.guest_pid(&killed)).unwrap().signal(Signal::KILL);
    // Nobody is left who could wait for it: that it ended is known, and that it did not end well.
    let status = node.wait_exit(&killed).status;
    assert_ne!(status.exit_code, 0);
    node.finish();
}

#[test]
fn guests_outlive_both_and_what_they_end_with_is_found() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let (ends, go) = launch_waiting(&node, &pod, "ends", &["exit", "6"]);
    let (stays, go_on) = launch_waiting(&node, &pod, "stays", &["exit", "4"]);
    let pids = [&ends, &stays].map(|id| node.guest_pid(id));
    let supervisor = node.supervisor();
    supervisor.signal(Signal::KILL);
    node.kill_daemon();
    until("the supervisor is gone", || !is_alive(supervisor.pid));
    std::fs::write(go, "").unwrap();
    until("the guest ends", || !is_alive(pids[0]));
    assert!(is_alive(pids[1]));
    node.start_daemon();
    let status = node.status(&ends);
    assert_eq!((status.state(), status.exit_code), (cri::ContainerState::ContainerExited, 6));
    assert_eq!(state(&node, &stays), cri::ContainerState::ContainerRunning);
    assert_eq!(node.run(&pod, &PROBE.container("fresh", &["echo", "hi"])).log.stdout(), "hi\n");
    std::fs::write(go_on, "").unwrap();
    assert_eq!(node.wait_exit(&stays).status.exit_code, 4);
    node.finish();
}

#[test]
fn a_daemon_starts_quickly_with_many_pods() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let node = &node;
            scope.spawn(move || {
                for number in 0..15 {
                    let pod = node.pod(&format!("p{thread}-{number}"));
                    node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
                }
            });
        }
    });
    node.kill_daemon();
    let begin = std::time::Instant::now();
    node.start_daemon();
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    let running = cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning.into() };
    let filter = cri::ContainerFilter { state: Some(running), ..Default::default() };
    assert_eq!(node.containers(Some(filter)).len(), 60);
    node.finish();
}
