//! The calls of the RuntimeService, each a file of its own beside this one.

use tonic::{Request, Response, Status};

use super::service::{Kind, Messages, Service};
use super::{
    container_checkpoint, container_create, container_events, container_exec, container_exec_sync, container_list,
    container_log_reopen, container_remove, container_start, container_stats, container_stats_list, container_status,
    container_stop, container_update, metric_descriptors, runtime_config, runtime_status, runtime_version, sandbox_list,
    sandbox_metrics_list, sandbox_port_forward, sandbox_remove, sandbox_run, sandbox_stats, sandbox_stats_list, sandbox_status,
    sandbox_stop, sandbox_update,
};
use crate::proto::runtime::v1 as cri;
use crate::proto::runtime::v1::runtime_service_server::RuntimeService;

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

    async fn container_stats(
        &self,
        request: Request<cri::ContainerStatsRequest>,
    ) -> Result<Response<cri::ContainerStatsResponse>, Status> {
        self.call("ContainerStats", Kind::Reads, request, container_stats::stats).await
    }

    async fn list_container_stats(
        &self,
        request: Request<cri::ListContainerStatsRequest>,
    ) -> Result<Response<cri::ListContainerStatsResponse>, Status> {
        self.call("ListContainerStats", Kind::Reads, request, container_stats_list::list).await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<cri::PodSandboxStatsRequest>,
    ) -> Result<Response<cri::PodSandboxStatsResponse>, Status> {
        self.call("PodSandboxStats", Kind::Reads, request, sandbox_stats::stats).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<cri::ListPodSandboxStatsRequest>,
    ) -> Result<Response<cri::ListPodSandboxStatsResponse>, Status> {
        self.call("ListPodSandboxStats", Kind::Reads, request, sandbox_stats_list::list).await
    }

    async fn list_metric_descriptors(
        &self,
        request: Request<cri::ListMetricDescriptorsRequest>,
    ) -> Result<Response<cri::ListMetricDescriptorsResponse>, Status> {
        self.call("ListMetricDescriptors", Kind::Reads, request, metric_descriptors::list).await
    }

    async fn list_pod_sandbox_metrics(
        &self,
        request: Request<cri::ListPodSandboxMetricsRequest>,
    ) -> Result<Response<cri::ListPodSandboxMetricsResponse>, Status> {
        self.call("ListPodSandboxMetrics", Kind::Reads, request, sandbox_metrics_list::list).await
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        request: Request<cri::StreamPodSandboxMetricsRequest>,
    ) -> Result<Response<Messages<cri::StreamPodSandboxMetricsResponse>>, Status> {
        self.stream("StreamPodSandboxMetrics", request, sandbox_metrics_list::stream).await
    }

    async fn update_container_resources(
        &self,
        request: Request<cri::UpdateContainerResourcesRequest>,
    ) -> Result<Response<cri::UpdateContainerResourcesResponse>, Status> {
        self.call("UpdateContainerResources", Kind::Changes, request, container_update::update).await
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<cri::UpdatePodSandboxResourcesRequest>,
    ) -> Result<Response<cri::UpdatePodSandboxResourcesResponse>, Status> {
        self.call("UpdatePodSandboxResources", Kind::Changes, request, sandbox_update::update).await
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

    async fn stream_pod_sandboxes(
        &self,
        request: Request<cri::StreamPodSandboxesRequest>,
    ) -> Result<Response<Messages<cri::StreamPodSandboxesResponse>>, Status> {
        self.stream("StreamPodSandboxes", request, sandbox_list::stream).await
    }

    async fn stream_containers(
        &self,
        request: Request<cri::StreamContainersRequest>,
    ) -> Result<Response<Messages<cri::StreamContainersResponse>>, Status> {
        self.stream("StreamContainers", request, container_list::stream).await
    }

    async fn stream_container_stats(
        &self,
        request: Request<cri::StreamContainerStatsRequest>,
    ) -> Result<Response<Messages<cri::StreamContainerStatsResponse>>, Status> {
        self.stream("StreamContainerStats", request, container_stats_list::stream).await
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<cri::StreamPodSandboxStatsRequest>,
    ) -> Result<Response<Messages<cri::StreamPodSandboxStatsResponse>>, Status> {
        self.stream("StreamPodSandboxStats", request, sandbox_stats_list::stream).await
    }

    async fn checkpoint_container(
        &self,
        request: Request<cri::CheckpointContainerRequest>,
    ) -> Result<Response<cri::CheckpointContainerResponse>, Status> {
        self.call("CheckpointContainer", Kind::Reads, request, container_checkpoint::checkpoint).await
    }

    async fn get_container_events(
        &self,
        request: Request<cri::GetEventsRequest>,
    ) -> Result<Response<Messages<cri::ContainerEventResponse>>, Status> {
        self.stream("GetContainerEvents", request, container_events::follow).await
    }
}
