//! The calls that a kubelet makes while nothing happens, at the rates that were seen of kubelet 1.36.2.

use std::time::{Duration, Instant};

use cri_wasm::proto::runtime::v1 as cri;

use crate::client::block_on;
use crate::life::Pod;
use crate::node::Node;

/// Everything is a multiple of this.
const TICK: Duration = Duration::from_millis(100);

/// What was asked during a while.
#[derive(Debug, Default)]
pub struct Asked {
    /// Calls.
    pub calls: usize,
    /// Of them, those that the runtime refused.
    pub refused: usize,
}

/// Asks for a while.
pub fn poll(node: &Node, pods: &[Pod], window: Duration) -> anyhow::Result<Asked> {
    let mut asked = Asked::default();
    let mut containers = pods.iter().map(|pod| pod.container.clone()).cycle();
    let begin = Instant::now();
    let mut tick = 0;
    while begin.elapsed() < window {
        let every = |period: u32| tick % period == 0;
        let client = &node.client;
        let mut note = |refused: bool| {
            asked.calls += 1;
            asked.refused += usize::from(refused);
        };
        // The watch for pods' changes, every second.
        if every(10) {
            note(client.list_pod_sandbox(cri::ListPodSandboxRequest::default()).is_err());
            note(client.list_containers(cri::ListContainersRequest::default()).is_err());
        }
        // Housekeeping, every two.
        if every(20) {
            let state = Some(cri::PodSandboxStateValue { state: cri::PodSandboxState::SandboxReady.into() });
            let filter = Some(cri::PodSandboxFilter { state, ..cri::PodSandboxFilter::default() });
            note(client.list_pod_sandbox(cri::ListPodSandboxRequest { filter }).is_err());
            let state = Some(cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning.into() });
            let filter = Some(cri::ContainerFilter { state, ..cri::ContainerFilter::default() });
            note(client.list_containers(cri::ListContainersRequest { filter }).is_err());
        }
        // The node's condition, and one of the two further lists of ten seconds (log rotation, statistics).
        if every(50) {
            note(client.status(cri::StatusRequest::default()).is_err());
            note(client.list_containers(cri::ListContainersRequest::default()).is_err());
        }
        // The eviction manager.
        if every(100) {
            note(client.version(cri::VersionRequest::default()).is_err());
            note(client.image_fs_info(cri::ImageFsInfoRequest::default()).is_err());
            note(client.list_container_stats(cri::ListContainerStatsRequest::default()).is_err());
        }
        if every(300) {
            note(client.list_images(cri::ListImagesRequest::default()).is_err());
        }
        // Log rotation looks at each container every ten seconds: at a hundredth of them each tick.
        let due = (pods.len() * usize::try_from(tick % 100 + 1)? / 100) - (pods.len() * usize::try_from(tick % 100)? / 100);
        for container_id in containers.by_ref().take(due) {
            note(client.container_status(cri::ContainerStatusRequest { container_id, verbose: false }).is_err());
        }
        tick += 1;
        // Inside the executor, so that the connection answers what the daemon asks of it.
        let next = begin + TICK * tick;
        block_on(async { tokio::time::sleep_until(next.into()).await })?;
    }
    Ok(asked)
}
