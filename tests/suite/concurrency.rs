//! Many clients at once: whatever they do to each other's pods, no call fails for a reason of the runtime's own, and nothing is left.

use std::sync::Mutex;

use tonic::Code;

use crate::harness::guests::{FIRST_LINE, PROBE, SPIN};
use crate::harness::{Node, Pod, cri};

/// Numbers that look random, and are the same in every run.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// What another client may have taken away in the meantime, or used up.
fn is_a_race(status: &tonic::Status) -> bool {
    [Code::NotFound, Code::FailedPrecondition, Code::AlreadyExists].contains(&status.code())
}

#[test]
fn a_storm_of_calls_ends_with_nothing_left() {
    let Some(node) = Node::with(&[PROBE, SPIN, FIRST_LINE]) else { return };
    let pods: Mutex<Vec<Pod>> = Mutex::new(vec![node.pod("first")]);
    let containers: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let pick = |dice: &mut Dice| {
        let pods = pods.lock().unwrap();
        pods[dice.throw(pods.len())].clone()
    };
    let any = |dice: &mut Dice| {
        let containers = containers.lock().unwrap();
        if containers.is_empty() { "nobody".to_owned() } else { containers[dice.throw(containers.len())].clone() }
    };
    std::thread::scope(|scope| {
        for thread in 0..6_u64 {
            let (node, pods, containers, pick, any) = (&node, &pods, &containers, &pick, &any);
            scope.spawn(move || {
                let mut dice = Dice(thread + 1);
                for round in 0..80 {
                    let name = format!("t{thread}-r{round}");
                    let done = match dice.throw(10) {
                        0 => node.run_pod(&node.pod_config(&name)).map(|pod| pods.lock().unwrap().push(pod)),
                        1..=4 => {
                            let config = match dice.throw(3) {
                                0 => SPIN.container(&name, &[]),
                                1 => FIRST_LINE.container(&name, &[]),
                                _ => PROBE.container(&name, &["sleep", "0.05"]),
                            };
                            node.create(&pick(&mut dice), &config).and_then(|id| {
                                containers.lock().unwrap().push(id.clone());
                                node.start_container(&id)
                            })
                        }
                        5 => node.stop_container(&any(&mut dice), 1),
                        6 => node.remove_container(&any(&mut dice)),
                        7 => {
                            let id = any(&mut dice);
                            node.client.reopen_container_log(cri::ReopenContainerLogRequest { container_id: id }).map(drop)
                        }
                        8 => node.stop_pod(&pick(&mut dice).id),
                        _ => {
                            let pod = pick(&mut dice);
                            node.remove_pod(&pod.id)
                        }
                    };
                    if let Err(status) = done {
                        assert!(is_a_race(&status), "{name}: {status:?}");
                    }
                    node.containers(None);
                    node.pods(None);
                }
            });
        }
    });
    node.finish();
}

#[test]
fn a_pod_removed_while_its_containers_start_leaves_nothing() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    for round in 0..25 {
        let pod = node.pod(&format!("p{round}"));
        let ids: Vec<String> = (0..3)
            .map(|number| node.create(&pod, &PROBE.container(&format!("c{number}"), &["sleep", "forever"])).unwrap())
            .collect();
        std::thread::scope(|scope| {
            for id in &ids {
                scope.spawn(|| {
                    if let Err(status) = node.start_container(id) {
                        assert!(is_a_race(&status), "{status:?}");
                    }
                });
            }
            scope.spawn(|| node.remove_pod(&pod.id).unwrap());
        });
        assert_eq!(node.pod_status(&pod.id).unwrap_err().code(), Code::NotFound);
    }
    assert!(node.containers(None).is_empty());
    node.finish();
}

#[test]
fn a_container_stopped_and_removed_by_many_at_once_is_gone() {
    let Some(node) = Node::with(&[PROBE]) else { return };
    let pod = node.pod("web");
    for round in 0..10 {
        let id = node.launch(&pod, &PROBE.container(&format!("c{round}"), &["sleep", "forever"]));
        std::thread::scope(|scope| {
            for timeout in [0, 1, 30] {
                scope.spawn({
                    let (node, id) = (&node, &id);
                    move || node.stop_container(id, timeout).unwrap()
                });
                scope.spawn(|| node.remove_container(&id).unwrap());
            }
        });
        assert_eq!(node.try_status(&id).unwrap_err().code(), Code::NotFound);
    }
    node.finish();
}
