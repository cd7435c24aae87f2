//! Connections of a service: accepted, read as HTTP/1.1 or HTTP/2, and at the end let go when they are done.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, UPGRADE};
use http::{HeaderValue, Method, Request, Response, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::WasiBody;

use super::access;
use super::instances::Instances;
use super::limits::{Full, Turns};
use super::listener::{self, Listener};
use super::refusal::Refusal;
use crate::protocol::HttpService;
use crate::stdio::{Output, Streams};

/// How long a client may take for the head of a request; also how long a connection waits for the next one.
const HEAD: Duration = Duration::from_secs(75);

/// Most bytes of the head of a request.
const HEAD_BYTES: u32 = 64 << 10;

/// Requests at once on one connection of HTTP/2; the turns bound all together.
const STREAMS: u32 = 128;

/// How long nothing is accepted after the kernel has refused to: it has run out of something.
const REFUSED: Duration = Duration::from_millis(50);

/// Serves connections.
pub(super) struct Server {
    instances: Arc<Instances>,
    turns: Turns,
    connections: Arc<Semaphore>,
    http: Builder<TokioExecutor>,
    access: Option<Output>,
}

impl Server {
    pub(super) fn new(instances: Arc<Instances>, settings: &HttpService, streams: &Streams) -> Self {
        let mut http = Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(usize::try_from(HEAD_BYTES).unwrap_or(usize::MAX));
        http.http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BYTES)
            .max_concurrent_streams(STREAMS)
            .keep_alive_interval(HEAD)
            .keep_alive_timeout(HEAD);
        let connections = usize::try_from(settings.max_connections.max(1)).unwrap_or(Semaphore::MAX_PERMITS);
        Server {
            instances,
            turns: Turns::new(settings.max_requests, settings.max_queued),
            connections: Arc::new(Semaphore::new(connections)),
            http,
            access: settings.access_log.then(|| streams.stdout.clone()),
        }
    }

    /// Serves until `stop`, then closes the listeners and waits for what runs.
    pub(super) async fn serve(self: Arc<Self>, listeners: Vec<Listener>, stop: impl Future<Output = ()>) {
        let connections = GracefulShutdown::new();
        tokio::select! {
            () = stop => {}
            () = self.accept(&listeners, &connections) => {}
        }
        drop(listeners);
        connections.shutdown().await;
        self.turns.all_done().await;
    }

    /// For ever.
    async fn accept(self: &Arc<Self>, listeners: &[Listener], connections: &GracefulShutdown) {
        loop {
            // Nobody closes the semaphore.
            let place = Arc::clone(&self.connections).acquire_owned().await.ok();
            match listener::accept(listeners).await {
                Ok((stream, peer)) => {
                    let server = Arc::clone(self);
                    let watcher = connections.watcher();
                    tokio::spawn(async move {
                        server.connection(stream, peer, watcher).await;
                        drop(place);
                    });
                }
                Err(_) => tokio::time::sleep(REFUSED).await,
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        let local = stream.local_addr().ok();
        let server = Arc::clone(&self);
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.respond(request, peer, local).await) }
        });
        // What a client does wrong is its own affair; it has been answered where HTTP has an answer.
        let _ = watcher.watch(self.http.serve_connection(TokioIo::new(stream), service).into_owned()).await;
    }

    async fn respond(&self, request: Request<Incoming>, peer: SocketAddr, local: Option<SocketAddr>) -> Response<WasiBody> {
        let entry = self.access.as_ref().map(|output| access::Entry::new(output.clone(), &request, peer));
        let response = self.answer(request, local).await;
        match entry {
            Some(entry) => entry.of(response),
            None => response,
        }
    }

    async fn answer(&self, mut request: Request<Incoming>, local: Option<SocketAddr>) -> Response<WasiBody> {
        let version = request.version();
        let is_head = request.method() == Method::HEAD;
        if request.method() == Method::CONNECT || wants_upgrade(&request) {
            return Refusal::Upgrade.response(version);
        }
        if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
            match local.and_then(|local| HeaderValue::try_from(local.to_string()).ok()) {
                // HTTP/1.0 has no Host, and a guest must be told some authority.
                Some(host) if version == Version::HTTP_10 => drop(request.headers_mut().insert(HOST, host)),
                _ => return Refusal::NoHost.response(version),
            }
        }
        let Ok(turn) = self.turns.take().await.map_err(|Full| ()) else { return Refusal::Busy.response(version) };
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        match self.instances.answer(request, turn).await {
            // The answer to HEAD has none (RFC 9110, 9.3.2), whatever the guest writes.
            Ok(response) if is_head => response.map(|_| Empty::new().map_err(|never| match never {}).boxed_unsync()),
            Ok(response) => response.map(BodyExt::boxed_unsync),
            Err(refusal) => refusal.response(version),
        }
    }
}

/// Another protocol is asked for. HTTP/2 over plain text is one that may be ignored (RFC 9113, 3.1): it is spoken to those who begin
/// with it.
fn wants_upgrade(request: &Request<Incoming>) -> bool {
    let mut protocols = request.headers().get_all(UPGRADE).iter();
    request.version() == Version::HTTP_11 && protocols.any(|protocol| protocol != "h2c")
}
