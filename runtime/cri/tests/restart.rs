//! What a daemon finds when it starts again.

use super::*;

#[tokio::test]
async fn a_new_daemon_finds_every_pod_and_container_as_it_is() {
    if !can_run("a_new_daemon_finds_every_pod_and_container_as_it_is") {
        return;
    }
    let mut node = Node::new().await;
    let image = node.pull().await;
    let pod = node.run_pod("web").await.unwrap();
    let empty = node.run_pod("empty").await.unwrap();
    let mut ids = Vec::new();
    for name in ["runs", "ends", "waits", "stopped"] {
        ids.push(node.create(&pod, container(name, &image)).await.unwrap());
    }
    for id in [&ids[0], &ids[1], &ids[3]] {
        node.start_container(id).await.unwrap();
    }
    node.stop_container(&ids[3], 10).await.unwrap();
    let before = node.status(&ids[0]).await.unwrap();
    let stopped = node.status(&ids[3]).await.unwrap();
    let pid = node.runtime().containers.get(&ids[1]).unwrap().status().process.unwrap().pid;
    node.stop().await;

    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::INT);
    let mut record = node.config.state.join("guests").join(&ids[1]);
    record.add_extension("exit");
    for _ in 0..500 {
        if record.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.start().await;

    assert_eq!(node.status(&ids[0]).await.unwrap(), before);
    assert_eq!(node.status(&ids[3]).await.unwrap(), stopped);
    assert_eq!(node.wait_for(&ids[1], cri::ContainerState::ContainerExited).await.exit_code, 130);
    assert_eq!(node.status(&ids[2]).await.unwrap().state(), cri::ContainerState::ContainerCreated);
    // Whoever made these may never have heard of them: they are handed over, once.
    assert_eq!(node.create(&pod, container("waits", &image)).await.unwrap(), ids[2]);
    assert_eq!(node.create(&pod, container("runs", &image)).await.unwrap_err().code(), tonic::Code::AlreadyExists);
    assert_eq!(node.run_pod("empty").await.unwrap(), empty);
    assert_eq!(node.run_pod("web").await.unwrap_err().code(), tonic::Code::AlreadyExists);

    node.start_container(&ids[2]).await.unwrap();
    node.stop_container(&ids[0], 10).await.unwrap();
    assert_eq!(node.status(&ids[0]).await.unwrap().exit_code, 143);
    node.remove_pod(&pod).await.unwrap();
    node.remove_pod(&empty).await.unwrap();
    node.assert_empty().await;
    node.stop().await;
}

#[tokio::test]
async fn what_an_earlier_daemon_left_half_done_is_finished() {
    if !can_run("what_an_earlier_daemon_left_half_done_is_finished") {
        return;
    }
    use crate::container::{ContainerEvent, directory};
    use crate::sandbox::{Held, Sandbox, SandboxEvent};
    let mut node = Node::new().await;
    let image = node.pull().await;
    let pod = node.run_pod("web").await.unwrap();
    let removing = node.create(&pod, container("removing", &image)).await.unwrap();
    let starting = node.create(&pod, container("starting", &image)).await.unwrap();
    let gone = node.run_pod("gone").await.unwrap();
    // As a daemon leaves it that is killed in the middle of a removal, of a start, and of RunPodSandbox.
    let runtime = Arc::clone(node.runtime());
    runtime.change_container(&runtime.containers.get(&removing).unwrap(), ContainerEvent::Remove).unwrap();
    runtime.change_container(&runtime.containers.get(&starting).unwrap(), ContainerEvent::Start).unwrap();
    runtime.change_sandbox(&runtime.sandboxes.find(&gone).unwrap(), SandboxEvent::Remove).unwrap();
    let mut half_made = runtime.sandboxes.find(&pod).unwrap().metadata().clone();
    half_made.id = crate::store::SandboxId::generate();
    half_made.config.name.name = "half".into();
    half_made.cgroup_owned = false;
    let files = node.config.state.join("sandboxes").join(half_made.id.as_str());
    std::fs::create_dir_all(&files).unwrap();
    Sandbox::create(half_made, Held { files: true, ..Held::default() }, Arc::clone(&runtime.store)).unwrap();
    let stray = directory(&node.config.root, &crate::store::ContainerId::generate());
    std::fs::create_dir_all(&stray).unwrap();
    drop(runtime);
    node.stop().await;
    node.start().await;

    assert_eq!(node.status(&starting).await.unwrap().state(), cri::ContainerState::ContainerCreated);
    for _ in 0..500 {
        let pods = node.pods(cri::PodSandboxFilter::default()).await;
        if pods == [pod.clone()] && node.status(&removing).await.is_err() && !files.exists() && !stray.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(node.pods(cri::PodSandboxFilter::default()).await, std::slice::from_ref(&pod));
    assert_eq!(node.containers(cri::ContainerFilter::default()).await, std::slice::from_ref(&starting));
    assert!(!files.exists() && !stray.exists());
    node.start_container(&starting).await.unwrap();
    node.run_pod("half").await.unwrap();
    for pod in node.pods(cri::PodSandboxFilter::default()).await {
        node.remove_pod(&pod).await.unwrap();
    }
    node.assert_empty().await;
    node.stop().await;
}

#[tokio::test]
async fn after_a_reboot_nothing_runs_and_everything_can_be_removed() {
    if !can_run("after_a_reboot_nothing_runs_and_everything_can_be_removed") {
        return;
    }
    let mut node = Node::new().await;
    let image = node.pull().await;
    let pod = node.run_pod("web").await.unwrap();
    let id = node.create(&pod, container("app", &image)).await.unwrap();
    node.start_container(&id).await.unwrap();
    let pid = node.runtime().containers.get(&id).unwrap().status().process.unwrap().pid;
    node.stop().await;
    // The mirror was flushed by the stop. Now the boot id changes, the guest is gone, and the state directory is empty but for the
    // socket of the new supervisor.
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL);
    let mut record = node.config.state.join("guests").join(&id);
    record.add_extension("exit");
    for _ in 0..500 {
        if record.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for name in ["records.redb", "sandboxes", "containers"] {
        let path = node.config.state.join(name);
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
    for entry in std::fs::read_dir(node.config.state.join("guests")).unwrap().flatten() {
        std::fs::remove_file(entry.path()).unwrap();
    }
    node.start().await;
    let status = node.status(&id).await.unwrap();
    assert_eq!(
        (status.state(), status.exit_code, status.reason.as_str()),
        (cri::ContainerState::ContainerExited, 255, "Unknown")
    );
    node.stop_pod(&pod).await.unwrap();
    node.remove_pod(&pod).await.unwrap();
    node.assert_empty().await;
    node.stop().await;
}
