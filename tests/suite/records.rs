//! What the daemon has on record: never forgotten once acknowledged, set aside where it is damaged, and read after a reboot.

use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;
use rustix::process::Signal;

use crate::harness::guests::PROBE;
use crate::harness::process::{self, Process};
use crate::harness::{Node, cri, eventually, until};
use crate::restart::is_alive;

#[test]
fn whatever_was_acknowledged_before_a_kill_is_there_after_it() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let mut known: Vec<(String, Vec<String>)> = Vec::new();
    for round in 0_u64..60 {
        // Six times, and more often where the machine has so much else to do that nothing comes about.
        if round >= 6 && known.len() > 6 {
            break;
        }
        // Clients at work while the daemon is killed, each time a little later.
        let made = std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut made: Vec<(String, Vec<String>)> = Vec::new();
                for number in 0..1000 {
                    let Ok(pod) = node.run_pod(&node.pod_config(&format!("r{round}-{number}"))) else { break };
                    made.push((pod.id.clone(), Vec::new()));
                    for name in ["one", "two"] {
                        let Ok(id) = node.create(&pod, &PROBE.container(name, &["exit", "3"])) else { break };
                        made.last_mut().unwrap().1.push(id.clone());
                        if node.start_container(&id).is_err() {
                            break;
                        }
                    }
                }
                made
            });
            let daemon = Process::look(node.daemon_pid()).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(15 + 17 * round));
            daemon.signal(Signal::KILL);
            worker.join().unwrap()
        });
        known.extend(made);
        node.restart_daemon();
        let pods: Vec<String> = node.pods(None).into_iter().map(|pod| pod.id).collect();
        for (pod, containers) in &known {
            assert!(pods.contains(pod), "round {round}: a pod was forgotten");
            for id in containers {
                node.try_status(id).unwrap_or_else(|error| panic!("round {round}: a container was forgotten: {error}"));
            }
        }
    }
    assert!(known.len() > 6, "there was something to forget: {}", known.len());
    for (_, containers) in &known {
        for id in containers {
            let status = eventually("the container is created or has exited", || {
                Some(node.status(id)).filter(|status| status.state() != cri::ContainerState::ContainerRunning)
            });
            if status.state() == cri::ContainerState::ContainerExited {
                assert_eq!(status.exit_code, 3, "{status:?}");
            }
        }
    }
    // What was half made when the daemon was killed has been undone.
    node.finish();
}

/// Files of a name in the state and root directories.
fn records(node: &Node) -> [PathBuf; 2] {
    [node.place.state.join("records.redb"), node.place.root.join("records.redb")]
}

#[test]
fn records_that_do_not_open_are_set_aside_and_the_daemon_serves() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
    let pid = node.guest_pid(&id);
    node.kill_daemon();
    let garbage = b"this is no database".repeat(1000);
    for file in records(&node) {
        assert!(file.is_file(), "{}", file.display());
        std::fs::write(file, &garbage).unwrap();
    }
    node.start_daemon();
    let kept = |directory: &Path| {
        let entries = std::fs::read_dir(directory).unwrap().flatten();
        entries.filter(|entry| std::fs::read(entry.path()).is_ok_and(|bytes| bytes == garbage)).count()
    };
    assert_eq!((kept(&node.place.state), kept(&node.place.root)), (1, 1), "set aside, and not deleted");
    assert!(node.daemon_log().contains("records.redb"), "and named: {}", node.daemon_log());
    assert!(node.pods(None).is_empty());
    // Nobody can stop the guest of a pod that is not known any more, so it is ended.
    until("the stray guest is gone", || !is_alive(pid));
    let again = node.run_pod(&pod.config).expect("the name is free");
    assert_eq!(node.run(&again, &PROBE.container("main", &["echo", "hi"])).status.exit_code, 0);
    node.remove_pod(&again.id).unwrap();
    until("nothing of the forgotten container is left", || !node.place.root.join("containers").join(&id).exists());
}

#[test]
fn with_the_live_records_damaged_the_mirror_is_read() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let id = node.launch(&pod, &PROBE.container("main", &["sleep", "forever"]));
    // A second at most until it is in the mirror.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    node.kill_daemon();
    std::fs::write(&records(&node)[0], b"this is no database".repeat(1000)).unwrap();
    node.start_daemon();
    assert_eq!(node.pod_status(&pod.id).unwrap().metadata, pod.config.metadata);
    assert_eq!(node.status(&id).metadata.unwrap().name, "main");
    for entry in std::fs::read_dir(&node.place.state).unwrap().flatten() {
        if entry.file_name().to_string_lossy().contains(".bad") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    node.finish();
}

#[test]
fn after_a_reboot_pods_are_known_and_not_ready_and_can_be_removed() {
    let Some(mut node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    let running = node.launch(&pod, &PROBE.container("running", &["sleep", "forever"]));
    let exited = node.run(&pod, &PROBE.container("exited", &["exit", "5"])).status;
    std::thread::sleep(std::time::Duration::from_millis(1500));
    node.kill_daemon();
    // What a reboot does: no process, no mount, an empty /run, and no cgroups.
    let left = process::of_place(&node.place.name);
    left.iter().for_each(|process| process.signal(Signal::KILL));
    left.iter().for_each(|process| until("the process is gone", || !is_alive(process.pid)));
    for mount in crate::harness::place::mounts_of(&node.place.name).into_iter().rev() {
        rustix::mount::unmount(mount, UnmountFlags::DETACH).unwrap();
    }
    for entry in std::fs::read_dir(&node.place.state).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }
    for group in crate::harness::place::cgroups_of(&node.place.name).into_iter().rev() {
        std::fs::remove_dir(group).unwrap();
    }
    let boot_id = node.place.files.join("boot_id");
    std::fs::write(&boot_id, "01234567-89ab-cdef-0123-456789abcdef\n").unwrap();
    node.boot_id = Some(boot_id);
    node.start_daemon();
    assert_eq!(node.pod_status(&pod.id).unwrap().state(), cri::PodSandboxState::SandboxNotready);
    let status = node.status(&running);
    assert_eq!(
        (status.state(), status.exit_code, status.reason.as_str()),
        (cri::ContainerState::ContainerExited, 255, "Unknown")
    );
    assert!(status.finished_at > 0 && !status.message.is_empty(), "{status:?}");
    let known = node.status(&exited.id);
    assert_eq!((known.exit_code, known.finished_at), (exited.exit_code, exited.finished_at));
    node.remove_pod(&pod.id).unwrap();
    let again = node.run_pod(&pod.config).unwrap();
    assert_eq!(node.run(&again, &PROBE.container("main", &["echo", "hi"])).status.exit_code, 0);
    node.finish();
}
