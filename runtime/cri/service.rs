//! What tonic calls. Each RPC goes through one wrapper: it refuses calls while the daemon ends, opens the span, logs, and maps
//! errors.
//!
//! RPCs that are not here answer UNIMPLEMENTED by the generated default; docs/cri.md names them.

use std::sync::Arc;
use std::time::Instant;

use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::error::Error;
use super::{
    container_create, container_exec, container_exec_sync, container_list, container_log_reopen, container_remove,
    container_start, container_status, container_stop, image_fs_info, image_list, image_pull, image_remove, image_status,
    runtime_config, runtime_status, runtime_version, sandbox_list, sandbox_port_forward, sandbox_remove, sandbox_run,
    sandbox_status, sandbox_stop,
};
use crate::proto::images::v1::images_server::ImagesServer;
use crate::proto::runtime::v1 as cri;
use crate::proto::runtime::v1::image_service_server::{ImageService, ImageServiceServer};
use crate::proto::runtime::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use crate::server::MAX_MESSAGE;
use crate::state::Runtime;
use crate::store::chain;

/// The services of the CRI, and the daemon's own, over one [`Runtime`].
#[derive(Clone)]
pub struct Service {
    pub(super) runtime: Arc<Runtime>,
}

/// How an RPC is logged: lists and statuses come several times a second.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Reads,
    Changes,
}

impl Runtime {
    /// The services to be mounted on a server.
    pub fn services(self: Arc<Self>) -> Routes {
        let service = Service { runtime: self };
        let runtime = RuntimeServiceServer::new(service.clone());
        let images = ImageServiceServer::new(service.clone());
        Routes::new(runtime.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
            .add_service(images.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
            .add_service(ImagesServer::new(service))
    }
}

impl Service {
    async fn call<Q, A, W>(
        &self,
        name: &'static str,
        kind: Kind,
        request: Request<Q>,
        work: impl FnOnce(Arc<Runtime>, Q) -> W,
    ) -> Result<Response<A>, Status>
    where
        W: Future<Output = Result<A, Error>>,
    {
        let runtime = Arc::clone(&self.runtime);
        let span = tracing::info_span!("rpc", method = name);
        async move {
            if runtime.stop.is_cancelled() {
                return Err(Error::Unavailable("the daemon is shutting down".to_owned()).into());
            }
            let started = Instant::now();
            let outcome = work(runtime, request.into_inner()).await;
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            match outcome {
                Ok(answer) => {
                    if kind == Kind::Changes {
                        tracing::debug!(micros, "done");
                    } else {
                        tracing::trace!(micros, "done");
                    }
                    Ok(Response::new(answer))
                }
                Err(error) => {
                    let code = error.code();
                    // Asking for what is gone is how clients find out that it is.
                    if error.is_not_found() {
                        tracing::debug!(micros, error = %chain(&error), "not found");
                    } else {
                        tracing::warn!(micros, ?code, error = %chain(&error), "failed");
                    }
                    Err(error.into())
                }
            }
        }
        .instrument(span)
        .await
    }
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, request: Request<cri::VersionRequest>) -> Result<Response<cri::VersionResponse>, Status> {
        self.call("Version", Kind::Reads, request, runtime_version::version).await
    }

    async fn status(&self, request: Request<cri::StatusRequest>) -> Result<Response<cri::StatusResponse>, Status> {
        self.call("Status", Kind::Reads, request, runtime_status::status).await
    }

    async fn runtime_config(
        &self,
        request: Request<cri::RuntimeConfigRequest>,
    ) -> Result<Response<cri::RuntimeConfigResponse>, Status> {
        self.call("RuntimeConfig", Kind::Reads, request, runtime_config::get).await
    }

    async fn update_runtime_config(
        &self,
        request: Request<cri::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<cri::UpdateRuntimeConfigResponse>, Status> {
        self.call("UpdateRuntimeConfig", Kind::Reads, request, runtime_config::update).await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<cri::RunPodSandboxRequest>,
    ) -> Result<Response<cri::RunPodSandboxResponse>, Status> {
        self.call("RunPodSandbox", Kind::Changes, request, sandbox_run::run).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<cri::StopPodSandboxRequest>,
    ) -> Result<Response<cri::StopPodSandboxResponse>, Status> {
        self.call("StopPodSandbox", Kind::Changes, request, sandbox_stop::stop).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<cri::RemovePodSandboxRequest>,
    ) -> Result<Response<cri::RemovePodSandboxResponse>, Status> {
        self.call("RemovePodSandbox", Kind::Changes, request, sandbox_remove::remove).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<cri::PodSandboxStatusRequest>,
    ) -> Result<Response<cri::PodSandboxStatusResponse>, Status> {
        self.call("PodSandboxStatus", Kind::Reads, request, sandbox_status::status).await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<cri::ListPodSandboxRequest>,
    ) -> Result<Response<cri::ListPodSandboxResponse>, Status> {
        self.call("ListPodSandbox", Kind::Reads, request, sandbox_list::list).await
    }

    async fn create_container(
        &self,
        request: Request<cri::CreateContainerRequest>,
    ) -> Result<Response<cri::CreateContainerResponse>, Status> {
        self.call("CreateContainer", Kind::Changes, request, container_create::create).await
    }

    async fn start_container(
        &self,
        request: Request<cri::StartContainerRequest>,
    ) -> Result<Response<cri::StartContainerResponse>, Status> {
        self.call("StartContainer", Kind::Changes, request, container_start::start).await
    }

    async fn stop_container(
        &self,
        request: Request<cri::StopContainerRequest>,
    ) -> Result<Response<cri::StopContainerResponse>, Status> {
        self.call("StopContainer", Kind::Changes, request, container_stop::stop).await
    }

    async fn remove_container(
        &self,
        request: Request<cri::RemoveContainerRequest>,
    ) -> Result<Response<cri::RemoveContainerResponse>, Status> {
        self.call("RemoveContainer", Kind::Changes, request, container_remove::remove).await
    }

    async fn container_status(
        &self,
        request: Request<cri::ContainerStatusRequest>,
    ) -> Result<Response<cri::ContainerStatusResponse>, Status> {
        self.call("ContainerStatus", Kind::Reads, request, container_status::status).await
    }

    async fn list_containers(
        &self,
        request: Request<cri::ListContainersRequest>,
    ) -> Result<Response<cri::ListContainersResponse>, Status> {
        self.call("ListContainers", Kind::Reads, request, container_list::list).await
    }

    async fn reopen_container_log(
        &self,
        request: Request<cri::ReopenContainerLogRequest>,
    ) -> Result<Response<cri::ReopenContainerLogResponse>, Status> {
        self.call("ReopenContainerLog", Kind::Changes, request, container_log_reopen::reopen).await
    }

    async fn exec_sync(&self, request: Request<cri::ExecSyncRequest>) -> Result<Response<cri::ExecSyncResponse>, Status> {
        self.call("ExecSync", Kind::Reads, request, container_exec_sync::exec_sync).await
    }

    async fn exec(&self, request: Request<cri::ExecRequest>) -> Result<Response<cri::ExecResponse>, Status> {
        self.call("Exec", Kind::Changes, request, container_exec::exec).await
    }

    async fn attach(&self, request: Request<cri::AttachRequest>) -> Result<Response<cri::AttachResponse>, Status> {
        self.call("Attach", Kind::Changes, request, container_exec::attach).await
    }

    async fn port_forward(
        &self,
        request: Request<cri::PortForwardRequest>,
    ) -> Result<Response<cri::PortForwardResponse>, Status> {
        self.call("PortForward", Kind::Changes, request, sandbox_port_forward::port_forward).await
    }
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<cri::ListImagesRequest>) -> Result<Response<cri::ListImagesResponse>, Status> {
        self.call("ListImages", Kind::Reads, request, image_list::list).await
    }

    async fn image_status(
        &self,
        request: Request<cri::ImageStatusRequest>,
    ) -> Result<Response<cri::ImageStatusResponse>, Status> {
        self.call("ImageStatus", Kind::Reads, request, image_status::status).await
    }

    async fn pull_image(&self, request: Request<cri::PullImageRequest>) -> Result<Response<cri::PullImageResponse>, Status> {
        self.call("PullImage", Kind::Changes, request, image_pull::pull).await
    }

    async fn remove_image(
        &self,
        request: Request<cri::RemoveImageRequest>,
    ) -> Result<Response<cri::RemoveImageResponse>, Status> {
        self.call("RemoveImage", Kind::Changes, request, image_remove::remove).await
    }

    async fn image_fs_info(
        &self,
        request: Request<cri::ImageFsInfoRequest>,
    ) -> Result<Response<cri::ImageFsInfoResponse>, Status> {
        self.call("ImageFsInfo", Kind::Reads, request, image_fs_info::info).await
    }
}
