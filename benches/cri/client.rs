//! A client of the CRI socket whose calls block. One thread does everything, so that no hand-over between threads is in the numbers.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{anyhow, bail};
use cri::image_service_client::ImageServiceClient;
use cri::runtime_service_client::RuntimeServiceClient;
use cri_wasm::proto::runtime::v1 as cri;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Response, Status};

/// No call takes longer than this; a burst on a loaded machine takes seconds.
const DEADLINE: Duration = Duration::from_secs(120);
/// Lists of many pods are large, and their containers' statuses more so.
const LARGEST_MESSAGE: usize = 64 << 20;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes calls fail after Ctrl-C or SIGTERM, so that everything is taken down in order.
pub fn notice_signals() {
    std::thread::spawn(|| {
        let waited = Builder::new_current_thread().enable_all().build().map(|runtime| {
            runtime.block_on(async {
                let mut terminate = signal(SignalKind::terminate())?;
                tokio::select! {
                    result = tokio::signal::ctrl_c() => result,
                    _ = terminate.recv() => Ok(()),
                }
            })
        });
        if matches!(waited, Ok(Ok(()))) {
            INTERRUPTED.store(true, Ordering::Relaxed);
        }
    });
}

/// Fails once somebody wants this to end.
pub fn check_interrupted() -> anyhow::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Runs a future to its end on this thread.
pub fn block_on<F: Future>(future: F) -> anyhow::Result<F::Output> {
    Ok(executor()?.block_on(future))
}

fn executor() -> anyhow::Result<&'static Runtime> {
    static EXECUTOR: OnceLock<Option<Runtime>> = OnceLock::new();
    let executor = EXECUTOR.get_or_init(|| Builder::new_current_thread().enable_all().build().ok());
    executor.as_ref().ok_or_else(|| anyhow!("no executor can be made"))
}

/// Both services over one connection, which is made when it is first used and made again when it breaks.
#[derive(Debug, Clone)]
pub struct Client {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Client {
    /// A client of the socket at a path.
    pub fn new(socket: &Path) -> anyhow::Result<Self> {
        let path = socket.to_owned();
        let _inside = executor()?.enter();
        // The address is never looked up: the connector ignores it.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        }));
        Ok(Self {
            runtime: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LARGEST_MESSAGE),
            images: ImageServiceClient::new(channel).max_decoding_message_size(LARGEST_MESSAGE),
        })
    }
}

/// A call that ends at a deadline, and does not begin once somebody wants this to end.
async fn answer<Q, A>(
    name: &'static str,
    call: impl AsyncFnOnce(Request<Q>) -> Result<Response<A>, Status>,
    request: Q,
) -> anyhow::Result<A> {
    check_interrupted()?;
    let mut request = Request::new(request);
    request.set_timeout(DEADLINE);
    match call(request).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(anyhow!("{name}: {:?}: {}", status.code(), status.message())),
    }
}

/// Calls as futures, for many at once.
macro_rules! futures {
    ($($service:ident.$name:ident($request:ident) -> $response:ident;)*) => {
        impl Client {
            $(
                pub async fn $name(&self, request: cri::$request) -> anyhow::Result<cri::$response> {
                    let mut service = self.$service.clone();
                    answer(stringify!($name), async |request| service.$name(request).await, request).await
                }
            )*
        }
    };
}

/// Calls one after the other.
macro_rules! calls {
    ($($service:ident.$name:ident($request:ident) -> $response:ident;)*) => {
        impl Client {
            $(
                pub fn $name(&self, request: cri::$request) -> anyhow::Result<cri::$response> {
                    let mut service = self.$service.clone();
                    block_on(answer(stringify!($name), async |request| service.$name(request).await, request))?
                }
            )*
        }
    };
}

futures! {
    runtime.run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
    runtime.create_container(CreateContainerRequest) -> CreateContainerResponse;
    runtime.start_container(StartContainerRequest) -> StartContainerResponse;
}

calls! {
    runtime.version(VersionRequest) -> VersionResponse;
    runtime.status(StatusRequest) -> StatusResponse;
    runtime.stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
    runtime.remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
    runtime.pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse;
    runtime.list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse;
    runtime.stop_container(StopContainerRequest) -> StopContainerResponse;
    runtime.remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
    runtime.list_containers(ListContainersRequest) -> ListContainersResponse;
    runtime.list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
    runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
    runtime.exec_sync(ExecSyncRequest) -> ExecSyncResponse;
    runtime.container_status(ContainerStatusRequest) -> ContainerStatusResponse;
    images.pull_image(PullImageRequest) -> PullImageResponse;
    images.remove_image(RemoveImageRequest) -> RemoveImageResponse;
    images.image_status(ImageStatusRequest) -> ImageStatusResponse;
    images.list_images(ListImagesRequest) -> ListImagesResponse;
    images.image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
}
