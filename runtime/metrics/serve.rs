//! `GET /metrics` over HTTP/1.1.
//!
//! Bounded for a port that every process of the node reaches: so many connections at once, each for so long. A port that is
//! taken is told and tried again: metrics are no reason for a node to have no pods.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{MEDIA_TYPE, Sources};

/// A scraper has one connection; a second and a person looking have room.
const CONNECTIONS: usize = 16;
/// How long one may last: scrapers come again every few seconds and keep theirs, and get a new one then.
const LIFETIME: Duration = Duration::from_secs(600);
/// How long the head of a request may take.
const HEAD: Duration = Duration::from_secs(10);
/// Between attempts to listen, or to accept.
const PAUSE: Duration = Duration::from_secs(5);

/// Serves on `address` until `stop`.
pub async fn serve(address: SocketAddr, sources: Sources, stop: CancellationToken) {
    let listen = async {
        let mut told = false;
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(%address, %error, "metrics are not served ([metrics] address); it is tried again");
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let listener = tokio::select! {
        listener = listen => listener,
        () = stop.cancelled() => return,
    };
    match listener.local_addr() {
        Ok(address) => tracing::info!(%address, "serving metrics"),
        Err(error) => tracing::warn!(%error, "serving metrics at an unknown address"),
    }
    let answers = Arc::new(Answers { registry: super::registry(), sources });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Dropping it ends what is left.
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // Those beyond the bound wait in the kernel's queue.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => return,
        };
        match accepted {
            (Ok(place), Ok((stream, _))) => {
                let answers = Arc::clone(&answers);
                connections.spawn(async move {
                    let _place = place;
                    // What a client does wrong is its own affair.
                    let _ = tokio::time::timeout(LIFETIME, connection(stream, answers)).await;
                });
            }
            (Ok(_), Err(error)) => {
                // Out of descriptors, say: it would fail at once again.
                tracing::warn!(%error, "a connection for metrics is not accepted");
                tokio::time::sleep(PAUSE).await;
            }
            (Err(_), _) => return,
        }
    }
}

async fn connection(stream: TcpStream, answers: Arc<Answers>) -> Result<(), hyper::Error> {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let response = answers.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(16 << 10);
    builder.serve_connection(TokioIo::new(stream), service).await
}

#[derive(Debug)]
struct Answers {
    registry: Registry,
    sources: Sources,
}

impl Answers {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        match (method, path) {
            (&Method::GET | &Method::HEAD, "/metrics") => {}
            (_, "/metrics") => return plain(StatusCode::METHOD_NOT_ALLOWED, "GET /metrics\n"),
            _ => return plain(StatusCode::NOT_FOUND, "there is /metrics\n"),
        }
        self.sources.read();
        match super::text(&self.registry) {
            Ok(text) => {
                let mut response = Response::new(Full::new(Bytes::from(text)));
                response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(MEDIA_TYPE));
                response
            }
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "a metric cannot be written\n"),
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
