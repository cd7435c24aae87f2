//! What a pod and its containers go through within one daemon's life.

use super::*;
use tonic::Code;

#[tokio::test]
async fn a_pod_lives_from_run_to_remove_and_leaves_nothing() {
    if !can_run("a_pod_lives_from_run_to_remove_and_leaves_nothing") {
        return;
    }
    let node = Node::new().await;
    let image = node.pull().await;
    let pod_id = node.run_pod("web").await.unwrap();
    let id = node.create(&pod_id, container("app", &image)).await.unwrap();
    assert_eq!(node.status(&id).await.unwrap().state(), cri::ContainerState::ContainerCreated);
    node.start_container(&id).await.unwrap();
    let status = node.status(&id[..12]).await.unwrap();
    assert_eq!(status.state(), cri::ContainerState::ContainerRunning);
    assert!(status.started_at >= status.created_at && status.finished_at == 0);
    assert_eq!((status.image_id.as_str(), status.log_path.ends_with("/logs/app.log")), (image.as_str(), true));
    let image_name = status.image.unwrap().image;
    assert!(image_name.ends_with("/app:latest"), "a name and no id: {image_name}");

    let running = cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning.into() };
    let filter = cri::ContainerFilter { state: Some(running), pod_sandbox_id: pod_id.clone(), ..Default::default() };
    assert_eq!(node.containers(filter).await, std::slice::from_ref(&id));
    let labels = |value: &str| [("container".to_owned(), value.to_owned())].into();
    assert_eq!(
        node.containers(cri::ContainerFilter { label_selector: labels("app"), ..Default::default() }).await,
        std::slice::from_ref(&id)
    );
    assert!(node.containers(cri::ContainerFilter { label_selector: labels("other"), ..Default::default() }).await.is_empty());
    assert!(node.containers(cri::ContainerFilter { id: "none".into(), ..Default::default() }).await.is_empty());

    node.stop_container(&id, 60).await.unwrap();
    let exited = node.status(&id).await.unwrap();
    assert_eq!((exited.state(), exited.exit_code), (cri::ContainerState::ContainerExited, 143));
    assert!(exited.finished_at >= exited.started_at);
    node.stop_pod(&pod_id).await.unwrap();
    let ready = cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() };
    assert!(node.pods(cri::PodSandboxFilter { state: Some(ready), ..Default::default() }).await.is_empty());
    assert_eq!(node.pods(cri::PodSandboxFilter::default()).await, std::slice::from_ref(&pod_id));
    node.remove_pod(&pod_id).await.unwrap();
    assert_eq!(node.status(&id).await.unwrap_err().code(), Code::NotFound);
    assert!(node.pods(cri::PodSandboxFilter::default()).await.is_empty());
    node.assert_empty().await;
}

#[tokio::test]
async fn stops_and_removals_are_idempotent_and_statuses_of_the_unknown_are_not_found() {
    if !can_run("stops_and_removals_are_idempotent_and_statuses_of_the_unknown_are_not_found") {
        return;
    }
    let node = Node::new().await;
    for id in ["none", &"0".repeat(64)] {
        node.stop_container(id, 0).await.unwrap();
        node.remove_container(id).await.unwrap();
        node.stop_pod(id).await.unwrap();
        node.remove_pod(id).await.unwrap();
        assert_eq!(node.status(id).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(node.start_container(id).await.unwrap_err().code(), Code::NotFound);
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: true };
        assert_eq!(node.service().pod_sandbox_status(Request::new(request)).await.unwrap_err().code(), Code::NotFound);
    }
    assert_eq!(node.stop_container("", 0).await.unwrap_err().code(), Code::InvalidArgument);
    let id = node.run_pod("web").await.unwrap();
    node.stop_pod(&id).await.unwrap();
    node.stop_pod(&id).await.unwrap();
    let image = node.pull().await;
    let refused = node.create(&id, container("app", &image)).await.unwrap_err();
    assert_eq!((refused.code(), refused.message().contains("NotReady")), (Code::FailedPrecondition, true));
    node.remove_pod(&id).await.unwrap();
    node.remove_pod(&id).await.unwrap();
    node.assert_empty().await;
}

#[tokio::test]
async fn a_name_in_use_is_refused_and_free_again_after_the_removal() {
    if !can_run("a_name_in_use_is_refused_and_free_again_after_the_removal") {
        return;
    }
    let node = Node::new().await;
    let image = node.pull().await;
    let first = node.run_pod("web").await.unwrap();
    assert_eq!(node.run_pod("web").await.unwrap_err().code(), Code::AlreadyExists);
    let id = node.create(&first, container("app", &image)).await.unwrap();
    assert_eq!(node.create(&first, container("app", &image)).await.unwrap_err().code(), Code::AlreadyExists);
    node.remove_container(&id).await.unwrap();
    node.create(&first, container("app", &image)).await.unwrap();
    node.remove_pod(&first).await.unwrap();
    let second = node.run_pod("web").await.unwrap();
    assert_ne!(first, second);
    node.remove_pod(&second).await.unwrap();
    node.assert_empty().await;
}

#[tokio::test]
async fn a_create_whose_caller_goes_away_is_handed_to_its_retry() {
    if !can_run("a_create_whose_caller_goes_away_is_handed_to_its_retry") {
        return;
    }
    let node = Node::new().await;
    // Polled once: the work has begun, and nobody waits for it.
    let mut abandoned = Box::pin(node.run_pod("web"));
    let pending = std::future::poll_fn(|context| std::task::Poll::Ready(abandoned.as_mut().poll(context).is_pending())).await;
    assert!(pending);
    drop(abandoned);
    let id = node.run_pod("web").await.unwrap();
    assert_eq!(node.pods(cri::PodSandboxFilter::default()).await, std::slice::from_ref(&id));
    assert_eq!(node.run_pod("web").await.unwrap_err().code(), Code::AlreadyExists);
    node.remove_pod(&id).await.unwrap();
    node.assert_empty().await;
}

#[tokio::test]
async fn a_running_container_is_killed_by_its_removal_and_by_its_pods() {
    if !can_run("a_running_container_is_killed_by_its_removal_and_by_its_pods") {
        return;
    }
    let node = Node::new().await;
    let image = node.pull().await;
    let pod = node.run_pod("web").await.unwrap();
    for name in ["one", "two", "three"] {
        let id = node.create(&pod, container(name, &image)).await.unwrap();
        node.start_container(&id).await.unwrap();
    }
    let all = node.containers(cri::ContainerFilter::default()).await;
    node.remove_container(&all[0]).await.unwrap();
    assert_eq!(node.status(&all[0]).await.unwrap_err().code(), Code::NotFound);
    node.stop_pod(&pod).await.unwrap();
    assert_eq!(node.status(&all[1]).await.unwrap().exit_code, 137);
    node.remove_pod(&pod).await.unwrap();
    node.assert_empty().await;
}

#[tokio::test]
async fn a_container_that_cannot_start_says_why_and_can_be_removed() {
    if !can_run("a_container_that_cannot_start_says_why_and_can_be_removed") {
        return;
    }
    let node = Node::new().await;
    let image = node.pull().await;
    let pod = node.run_pod("web").await.unwrap();
    let volume = node.place.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let mount =
        cri::Mount { host_path: volume.to_string_lossy().into_owned(), container_path: "/v".into(), ..Default::default() };
    let config = cri::ContainerConfig { mounts: vec![mount.clone()], ..container("app", &image) };
    let id = node.create(&pod, config).await.unwrap();
    std::fs::remove_dir(&volume).unwrap();
    let error = node.start_container(&id).await.unwrap_err();
    assert!(error.message().contains("volume"), "{error}");
    let status = node.status(&id).await.unwrap();
    assert_eq!(
        (status.state(), status.exit_code, status.reason.as_str()),
        (cri::ContainerState::ContainerExited, 128, "StartError")
    );
    assert_eq!(status.mounts, [mount]);
    assert!(status.message.contains("volume"));
    assert_eq!(node.start_container(&id).await.unwrap_err().code(), Code::FailedPrecondition);
    node.remove_pod(&pod).await.unwrap();
    node.assert_empty().await;
}

#[tokio::test]
async fn a_container_starts_though_its_image_was_removed() {
    if !can_run("a_container_starts_though_its_image_was_removed") {
        return;
    }
    let node = Node::new().await;
    let image = node.pull().await;
    let pod = node.run_pod("web").await.unwrap();
    let id = node.create(&pod, container("app", &image)).await.unwrap();
    let remove = || cri::RemoveImageRequest { image: Some(spec(&image)) };
    node.service().remove_image(Request::new(remove())).await.unwrap();
    node.service().remove_image(Request::new(remove())).await.unwrap();
    let request = cri::ImageStatusRequest { image: Some(spec(&image)), verbose: false };
    assert!(node.service().image_status(Request::new(request)).await.unwrap().into_inner().image.is_none());
    node.start_container(&id).await.unwrap();
    assert_eq!(node.create(&pod, container("late", &image)).await.unwrap_err().code(), Code::NotFound);
    node.remove_pod(&pod).await.unwrap();
    node.assert_empty().await;
}

#[tokio::test]
async fn pods_without_a_cni_configuration_and_of_unknown_handlers_are_refused_and_leave_nothing() {
    if !can_run("pods_without_a_cni_configuration_and_of_unknown_handlers_are_refused_and_leave_nothing") {
        return;
    }
    let node = Node::new().await;
    let config = cri::PodSandboxConfig { linux: None, ..pod("web", node.place.path()) };
    let request = cri::RunPodSandboxRequest { config: Some(config), ..Default::default() };
    let error = node.service().run_pod_sandbox(Request::new(request)).await.unwrap_err();
    assert_eq!((error.code(), error.message().starts_with("network is not ready: ")), (Code::Unavailable, true), "{error}");
    let config = pod("web", node.place.path());
    let request = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: "runc".into() };
    let error = node.service().run_pod_sandbox(Request::new(request)).await.unwrap_err();
    assert_eq!((error.code(), error.message().contains("\"wasm\"")), (Code::InvalidArgument, true), "{error}");
    let id = node.run_pod("web").await.unwrap();
    node.remove_pod(&id).await.unwrap();
    node.assert_empty().await;
}

#[tokio::test]
async fn version_status_and_configuration_are_what_the_kubelet_needs() {
    if !can_run("version_status_and_configuration_are_what_the_kubelet_needs") {
        return;
    }
    let node = Node::new().await;
    let version = node.service().version(Request::new(cri::VersionRequest::default())).await.unwrap().into_inner();
    assert_eq!((version.version.as_str(), version.runtime_api_version.as_str()), ("0.1.0", "v1"));
    let request = cri::StatusRequest { verbose: true };
    let status = RuntimeService::status(node.service(), Request::new(request)).await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    assert_eq!(
        conditions.iter().map(|found| (found.r#type.as_str(), found.status)).collect::<Vec<_>>(),
        [("RuntimeReady", true), ("NetworkReady", false)]
    );
    assert_eq!(
        status.runtime_handlers.iter().map(|handler| handler.name.as_str()).collect::<Vec<_>>(),
        ["", "wasm", "wasm-compat"]
    );
    let config: serde_json::Value = serde_json::from_str(&status.info["config"]).unwrap();
    assert_eq!(config["stateDir"], node.config.state.to_string_lossy().as_ref());
    let config = node.service().runtime_config(Request::new(cri::RuntimeConfigRequest {})).await.unwrap().into_inner();
    assert_eq!(config.linux.unwrap().cgroup_driver(), cri::CgroupDriver::Cgroupfs);
    let usage = node.service().image_fs_info(Request::new(cri::ImageFsInfoRequest {})).await.unwrap().into_inner();
    for filesystem in usage.image_filesystems.iter().chain(&usage.container_filesystems) {
        assert!(Path::new(&filesystem.fs_id.as_ref().unwrap().mountpoint).is_dir());
        assert!(filesystem.used_bytes.is_some());
    }
    let refused = node.service().checkpoint_container(Request::new(cri::CheckpointContainerRequest::default())).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
}
