//! Traces to a collector: whose children the spans are, and that a collector that does not take them is no burden.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::{Request, Response, Status};

use crate::harness::guests::FIRST_LINE;
use crate::harness::wait::eventually;
use crate::harness::{Node, Options, cri};

/// A collector on loopback that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(&self, request: Request<ExportTraceServiceRequest>) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.unwrap_or_default().attributes;
            let name = attributes.iter().find(|attribute| attribute.key == "service.name").and_then(|found| {
                match found.value.as_ref()?.value.as_ref()? {
                    Value::StringValue(text) => Some(text.clone()),
                    _ => None,
                }
            });
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let spans = spans.map(|span| (name.clone().unwrap_or_default(), span));
            self.0.lock().unwrap().extend(spans);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Serves on a free port, with the test's own runtime.
    fn serve(&self) -> (tokio::runtime::Runtime, SocketAddr) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone()));
        runtime.spawn(server.serve_with_incoming(incoming));
        (runtime, address)
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap().iter().map(|(_, span)| span.clone()).collect()
    }

    fn span(&self, name: &str) -> Span {
        eventually(&format!("the span {name} arrives"), || self.spans().into_iter().find(|span| span.name == name))
    }
}

fn config(address: SocketAddr) -> String {
    format!("[tracing]\nendpoint = 'http://{address}'\n")
}

fn attribute(span: &Span, key: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value
}

#[test]
fn spans_of_rpcs_join_the_callers_trace_and_slow_steps_lie_below_them() {
    let collector = Collector::default();
    let (_serving, address) = collector.serve();
    let config = config(address);
    let options = Options { config: &config, ..Default::default() };
    let Some(node) = Node::with_options(&options, &[FIRST_LINE]) else { return };
    let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let pod = node.pod("traced");
    let id = node.create(&pod, &FIRST_LINE.container("hello", &[])).unwrap();
    let header = format!("00-{trace}-{caller}-01");
    let start = "/runtime.v1.RuntimeService/StartContainer";
    let request = cri::StartContainerRequest { container_id: id };
    let _: cri::StartContainerResponse = node.client.call_with(start, &[("traceparent", &header)], request).unwrap();

    let rpc = collector.span("runtime.v1.RuntimeService/StartContainer");
    assert_eq!((hex(&rpc.trace_id), hex(&rpc.parent_span_id)), (trace.to_owned(), caller.to_owned()));
    assert_eq!(rpc.kind, 2, "a server's span");
    assert_eq!(attribute(&rpc, "rpc.method"), Some(Value::StringValue("StartContainer".to_owned())));
    assert_eq!(attribute(&rpc, "rpc.grpc.status_code"), Some(Value::IntValue(0)));
    let launch = collector.span("launch");
    assert_eq!((hex(&launch.trace_id), &launch.parent_span_id), (trace.to_owned(), &rpc.span_id));
    assert!(launch.start_time_unix_nano >= rpc.start_time_unix_nano && launch.end_time_unix_nano <= rpc.end_time_unix_nano);

    // The pull came with no trace, so it began one; its stages are in it.
    let pull = collector.span("runtime.v1.ImageService/PullImage");
    assert!(pull.parent_span_id.is_empty() && hex(&pull.trace_id) != trace);
    for stage in ["resolve", "fetch", "compile"] {
        assert_eq!(collector.span(stage).trace_id, pull.trace_id, "{stage}");
    }
    assert!(collector.0.lock().unwrap().iter().all(|(service, _)| service == "cri-wasm"));
    node.finish();
}

#[test]
fn a_failed_rpc_is_a_failed_span_and_a_caller_who_does_not_sample_gets_none() {
    let collector = Collector::default();
    let (_serving, address) = collector.serve();
    let config = config(address);
    let Some(node) = Node::start_with(&Options { config: &config, ..Default::default() }) else { return };
    let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let missing = || cri::PodSandboxStatusRequest { pod_sandbox_id: "none".into(), verbose: false };
    // A header that is none counts as none.
    for header in [unsampled, "00-zz"] {
        let path = "/runtime.v1.RuntimeService/PodSandboxStatus";
        let asked = node.client.call_with(path, &[("traceparent", header)], missing());
        assert!(asked.map(|_: cri::PodSandboxStatusResponse| ()).is_err());
    }
    let span = collector.span("runtime.v1.RuntimeService/PodSandboxStatus");
    assert_eq!(attribute(&span, "rpc.grpc.status_code"), Some(Value::IntValue(5)));
    let status = span.status.unwrap();
    assert_eq!(status.code, 2, "an error");
    assert!(status.message.contains("not found"), "{status:?}");
    let failed = collector.spans().into_iter().filter(|span| span.name.ends_with("/PodSandboxStatus"));
    assert!(failed.into_iter().all(|span| hex(&span.trace_id) != "0af7651916cd43dd8448eb211c80319c"));
    node.finish();
}

#[test]
fn what_is_left_when_the_daemon_ends_is_sent() {
    let collector = Collector::default();
    let (_serving, address) = collector.serve();
    let config = config(address);
    let Some(mut node) = Node::start_with(&Options { config: &config, ..Default::default() }) else { return };
    node.pod("last");
    node.terminate_daemon();
    collector.span("runtime.v1.RuntimeService/RunPodSandbox");
    node.start_daemon();
    node.finish();
}

#[test]
fn a_collector_that_hangs_or_is_not_there_delays_no_rpc_and_not_the_end() {
    // It accepts, by its queue, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let absent = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap()
    };
    for address in [silent.local_addr().unwrap(), absent] {
        let config = config(address);
        let Some(mut node) = Node::start_with(&Options { config: &config, ..Default::default() }) else { return };
        for _ in 0..50 {
            node.client.version(cri::VersionRequest::default()).unwrap();
        }
        let pod = node.pod("unseen");
        node.remove_pod(&pod.id).unwrap();
        let begun = Instant::now();
        assert!(node.terminate_daemon().success());
        // The deadline for what is left is a second, that of the drain ten.
        assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
        node.start_daemon();
        node.finish();
    }
}

#[test]
fn an_endpoint_that_cannot_be_used_is_told_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    for (endpoint, words) in [("https://127.0.0.1:4317", "without TLS"), ("collector", "http://HOST:PORT")] {
        std::fs::write(&file, format!("[tracing]\nendpoint = '{endpoint}'\n")).unwrap();
        let output =
            std::process::Command::new(crate::harness::node::PROGRAM).args(["config", "--config"]).arg(&file).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("tracing.endpoint") && text.contains(words), "{text}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
