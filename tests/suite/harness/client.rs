//! A client of the CRI socket whose calls block, so that tests read from top to bottom.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use cri::image_service_client::ImageServiceClient;
use cri::runtime_service_client::RuntimeServiceClient;
use cri_wasm::proto::runtime::v1 as cri;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use super::wait::PATIENCE;

/// No call of the suites takes longer than this.
const DEADLINE: Duration = Duration::from_secs(60);

/// Both services over one connection, which is made when it is first used and made again when it breaks.
#[derive(Debug, Clone)]
pub struct Client {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    channel: Channel,
}

/// What all clients of the suites run on.
pub fn executor() -> &'static Runtime {
    static EXECUTOR: OnceLock<Runtime> = OnceLock::new();
    EXECUTOR
        .get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("an executor"))
}

impl Client {
    pub fn new(socket: &Path) -> Client {
        let path = socket.to_owned();
        let _inside = executor().enter();
        // The address is never looked up: the connector ignores it.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }));
        // As the kubelet's own client.
        let runtime = RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(cri_wasm::server::MAX_MESSAGE);
        Client { runtime, images: ImageServiceClient::new(channel.clone()), channel }
    }

    /// A unary call by its path, for services that no generated client has.
    pub fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.call_with(path, &[], request)
    }

    /// A unary call with these headers.
    pub fn call_with<Q, A>(&self, path: &'static str, headers: &[(&'static str, &str)], request: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut request = within(DEADLINE, request);
        for (name, value) in headers {
            request.metadata_mut().insert(*name, value.parse().expect("a header"));
        }
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        executor().block_on(async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = tonic_prost::ProstCodec::<Q, A>::default();
            let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
            Ok(grpc.unary(request, path, codec).await?.into_inner())
        })
    }
}

impl Client {
    /// RunPodSandbox for a caller that gives up after a while.
    pub fn run_pod_sandbox_within(
        &self,
        deadline: Duration,
        request: cri::RunPodSandboxRequest,
    ) -> Result<cri::RunPodSandboxResponse, Status> {
        let mut service = self.runtime.clone();
        executor().block_on(async { Ok(service.run_pod_sandbox(within(deadline, request)).await?.into_inner()) })
    }

    /// CreateContainer for a caller that gives up after a while.
    pub fn create_container_within(
        &self,
        deadline: Duration,
        request: cri::CreateContainerRequest,
    ) -> Result<cri::CreateContainerResponse, Status> {
        let mut service = self.runtime.clone();
        executor().block_on(async { Ok(service.create_container(within(deadline, request)).await?.into_inner()) })
    }

    /// StopContainer for a caller that gives up after a while.
    pub fn stop_container_within(
        &self,
        deadline: Duration,
        request: cri::StopContainerRequest,
    ) -> Result<cri::StopContainerResponse, Status> {
        let mut service = self.runtime.clone();
        executor().block_on(async { Ok(service.stop_container(within(deadline, request)).await?.into_inner()) })
    }

    /// PullImage for a caller that gives up after a while.
    pub fn pull_image_within(
        &self,
        deadline: Duration,
        request: cri::PullImageRequest,
    ) -> Result<cri::PullImageResponse, Status> {
        let mut service = self.images.clone();
        executor().block_on(async { Ok(service.pull_image(within(deadline, request)).await?.into_inner()) })
    }
}

fn within<T>(deadline: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// The messages of a call that answers with many.
#[derive(Debug)]
pub struct Messages<T>(tonic::Streaming<T>);

impl<T> Messages<T> {
    /// The next one, or how the call ended: `Ok(None)` is its regular end.
    pub fn next(&mut self) -> Result<Option<T>, Status> {
        executor().block_on(async {
            match tokio::time::timeout(PATIENCE, self.0.message()).await {
                Ok(message) => message,
                Err(_) => panic!("no message came within {PATIENCE:?}"),
            }
        })
    }

    /// All of them up to the end.
    pub fn all(mut self) -> Result<Vec<T>, Status> {
        std::iter::from_fn(|| self.next().transpose()).collect()
    }
}

macro_rules! streams {
    ($($service:ident.$name:ident($request:ident) -> $response:ident;)*) => {
        impl Client {
            $(
                pub fn $name(&self, request: cri::$request) -> Result<Messages<cri::$response>, Status> {
                    let mut service = self.$service.clone();
                    executor().block_on(async { Ok(Messages(service.$name(request).await?.into_inner())) })
                }
            )*
        }
    };
}

streams! {
    runtime.get_container_events(GetEventsRequest) -> ContainerEventResponse;
    runtime.stream_pod_sandboxes(StreamPodSandboxesRequest) -> StreamPodSandboxesResponse;
    runtime.stream_containers(StreamContainersRequest) -> StreamContainersResponse;
    runtime.stream_container_stats(StreamContainerStatsRequest) -> StreamContainerStatsResponse;
    runtime.stream_pod_sandbox_stats(StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsResponse;
    images.stream_images(StreamImagesRequest) -> StreamImagesResponse;
}

macro_rules! calls {
    ($($service:ident.$name:ident($request:ident) -> $response:ident;)*) => {
        impl Client {
            $(
                pub fn $name(&self, request: cri::$request) -> Result<cri::$response, Status> {
                    let mut service = self.$service.clone();
                    executor().block_on(async { Ok(service.$name(within(DEADLINE, request)).await?.into_inner()) })
                }
            )*
        }
    };
}

calls! {
    runtime.version(VersionRequest) -> VersionResponse;
    runtime.status(StatusRequest) -> StatusResponse;
    runtime.runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
    runtime.update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
    runtime.run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
    runtime.stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
    runtime.remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
    runtime.pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
    runtime.list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
    runtime.create_container(CreateContainerRequest) -> CreateContainerResponse;
    runtime.start_container(StartContainerRequest) -> StartContainerResponse;
    runtime.stop_container(StopContainerRequest) -> StopContainerResponse;
    runtime.remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
    runtime.list_containers(ListContainersRequest) -> ListContainersResponse;
    runtime.container_status(ContainerStatusRequest) -> ContainerStatusResponse;
    runtime.update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
    runtime.update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
    runtime.reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
    runtime.exec_sync(ExecSyncRequest) -> ExecSyncResponse;
    runtime.exec(ExecRequest) -> ExecResponse;
    runtime.attach(AttachRequest) -> AttachResponse;
    runtime.port_forward(PortForwardRequest) -> PortForwardResponse;
    runtime.container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
    runtime.list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    runtime.pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
    runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
    runtime.checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
    runtime.list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
    runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
    images.pull_image(PullImageRequest) -> PullImageResponse;
    images.image_status(ImageStatusRequest) -> ImageStatusResponse;
    images.list_images(ListImagesRequest) -> ListImagesResponse;
    images.remove_image(RemoveImageRequest) -> RemoveImageResponse;
    images.image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
}
