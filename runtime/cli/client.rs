//! A client of the CRI socket, for the commands that use the daemon as a kubelet does.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::proto::images::v1::images_client::ImagesClient;
use crate::proto::runtime::v1::image_service_client::ImageServiceClient;
use crate::proto::runtime::v1::runtime_service_client::RuntimeServiceClient;
use crate::proto::runtime::v1::{
    ContainerState, ContainerStatus, ContainerStatusRequest, ImageSpec, ImageStatusRequest, ListPodSandboxRequest,
    PullImageRequest, RemovePodSandboxRequest, StopPodSandboxRequest, VersionRequest,
};

/// The services over one connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) runtime: RuntimeServiceClient<Channel>,
    pub(super) images: ImageServiceClient<Channel>,
    pub(super) pulls: ImagesClient<Channel>,
}

/// The text that the daemon sent, without tonic's wrapping.
pub(super) fn plain(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("{}", status.message())
}

impl Client {
    /// Connects, and asks for the version to see that a CRI runtime answers.
    pub(super) async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let path = socket.to_owned();
        // The address is never looked up: the connector ignores it.
        let channel = Endpoint::from_static("http://localhost")
            .connect_timeout(Duration::from_secs(5))
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
            .await
            .with_context(|| format!("no daemon answers on {}", socket.display()))?;
        let mut client = Self {
            runtime: RuntimeServiceClient::new(channel.clone()),
            images: ImageServiceClient::new(channel.clone()),
            pulls: ImagesClient::new(channel),
        };
        let version = VersionRequest { version: "v1".to_owned() };
        tokio::time::timeout(Duration::from_secs(5), client.runtime.version(version))
            .await
            .with_context(|| format!("no answer on {}", socket.display()))?
            .map_err(plain)?;
        Ok(client)
    }

    /// Pulls the image unless it is there, and returns its id.
    pub(super) async fn ensure_image(&mut self, reference: &str) -> anyhow::Result<String> {
        let spec = ImageSpec { image: reference.to_owned(), ..ImageSpec::default() };
        let request = ImageStatusRequest { image: Some(spec.clone()), verbose: false };
        if let Some(image) = self.images.image_status(request).await.map_err(plain)?.into_inner().image {
            return Ok(image.id);
        }
        let request = PullImageRequest { image: Some(spec), ..PullImageRequest::default() };
        Ok(self.images.pull_image(request).await.map_err(plain)?.into_inner().image_ref)
    }

    /// The container's status.
    pub(super) async fn status(&mut self, container: &str) -> anyhow::Result<ContainerStatus> {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: false };
        let response = self.runtime.container_status(request).await.map_err(plain)?.into_inner();
        response.status.context("the daemon sent a status without content")
    }

    /// Removes every pod of the daemon.
    pub(super) async fn remove_all_pods(&mut self) -> anyhow::Result<()> {
        let pods = self.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await.map_err(plain)?.into_inner().items;
        for pod in pods {
            self.remove_pod(&pod.id).await?;
        }
        Ok(())
    }

    /// Stops and removes a pod with all that is in it.
    pub(super) async fn remove_pod(&mut self, pod: &str) -> anyhow::Result<()> {
        let pod_sandbox_id = pod.to_owned();
        self.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await.map_err(plain)?;
        self.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.map_err(plain)?;
        Ok(())
    }
}

/// Whether the guest has ended.
pub(super) fn has_exited(status: &ContainerStatus) -> bool {
    status.state() == ContainerState::ContainerExited
}
