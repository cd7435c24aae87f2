//! HTTP requests that a guest makes: `wasi:http/outgoing-handler` of 0.2 and `wasi:http/client` of 0.3.
//!
//! All instances of a guest's process share one client, so connections are used again, and HTTP/2 is spoken where a server
//! offers it over TLS. Names are looked up by the C library, in the container's root and the pod's network namespace: what
//! the pod's resolv.conf, hosts and NetworkPolicies say holds. The client is made at the first request.

mod body;
mod connect;
mod error;
pub(crate) mod roots;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use self::body::Timed;
use self::connect::Connector;
use crate::egress::Allowed;
use crate::protocol::GuestSpec;

/// How long each step may take where the guest sets no limit of its own: to connect, until the answer begins, and between
/// two pieces of it.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a connection that nobody uses is kept for the next request. Most servers close theirs after a minute.
const IDLE: Duration = Duration::from_secs(30);

/// Headers of W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE: [HeaderName; 2] = [TRACEPARENT, HeaderName::from_static("tracestate")];

/// Connections to one server that are kept while nobody uses them.
const IDLE_PER_HOST: usize = 16;

/// What makes a guest's requests. Copies share their connections.
#[derive(Clone)]
pub(crate) struct Outgoing {
    shared: Arc<Shared>,
    /// Headers by which the request that is being answered belongs to a trace; its own requests belong to it, too.
    trace: Vec<(HeaderName, HeaderValue)>,
}

struct Shared {
    client: OnceLock<HttpClient>,
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR` of the container.
    named: roots::Named,
    allowed: Allowed,
}

type HttpClient = Client<HttpsConnector<Connector>, WasiBody>;

type Sent = Result<(Response<WasiBody>, Io), Error>;

/// wasmtime drives the connection by it; here the connection has a task of its own.
type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl Outgoing {
    pub(crate) fn new(spec: &GuestSpec) -> Self {
        let (named, allowed) = (roots::Named::of(&spec.env), Allowed::of(&spec.egress));
        Self { shared: Arc::new(Shared { client: OnceLock::new(), named, allowed }), trace: Vec::new() }
    }

    /// Requests from now on are made for one with these headers (W3C Trace Context: one who makes no span of his own passes
    /// them on as they are).
    pub(super) fn belong_to(&mut self, headers: &HeaderMap) {
        let trace = TRACE.into_iter().filter_map(|name| headers.get(&name).cloned().map(|value| (name, value)));
        self.trace.clear();
        self.trace.extend(trace);
    }

    /// Where the guest may connect to.
    pub(crate) fn allowed(&self) -> &Allowed {
        &self.shared.allowed
    }

    fn client(&self) -> HttpClient {
        self.shared.client.get_or_init(|| client(&self.shared)).clone()
    }
}

fn client(shared: &Shared) -> HttpClient {
    let connector = Connector::new(shared.allowed.clone());
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots::load(&shared.named)).with_no_client_auth();
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(connector);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        // The guest has said which header it wants, or wasmtime has set it.
        .set_host(false)
        .build(connector)
}

impl WasiHttpHooks for Outgoing {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        // Of the response's body, which the guest reads or not as it likes.
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let client = self.client();
        // A guest that makes its own spans says so itself.
        if !request.headers().contains_key(&TRACEPARENT) {
            request.headers_mut().extend(self.trace.iter().cloned());
        }
        Box::new(send(client, request, options.unwrap_or_default()))
    }
}

async fn send(client: HttpClient, mut request: Request<WasiBody>, options: RequestOptions) -> Sent {
    if request.uri().authority().is_none_or(|authority| authority.host().is_empty()) {
        return Err(Error::HttpRequestUriInvalid);
    }
    // HTTP/2 has a pseudo header in its place, which is made of the URI; HTTP/1.1 needs it.
    if !request.headers().contains_key(HOST)
        && let Some(host) = host(request.uri())
    {
        request.headers_mut().insert(HOST, host);
    }
    let connect = options.connect_timeout.unwrap_or(PATIENCE);
    let first_byte = options.first_byte_timeout.unwrap_or(PATIENCE);
    let mut connected = capture_connection(&mut request);
    let mut answer = std::pin::pin!(client.request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        established = established(&mut connected, connect) => {
            if !established {
                return Err(Error::ConnectionTimeout);
            }
            tokio::time::timeout(first_byte, answer).await.map_err(|_| Error::ConnectionReadTimeout)?
        }
    };
    let between = options.between_bytes_timeout.unwrap_or(PATIENCE);
    let answer = answer.map_err(|error| error::of_request(&error))?;
    Ok((answer.map(|body| Timed::new(body, between).boxed_unsync()), Box::new(async { Ok(()) })))
}

async fn established(connected: &mut CaptureConnection, within: Duration) -> bool {
    let established = async { drop(connected.wait_for_connection_metadata().await) };
    tokio::time::timeout(within, established).await.is_ok()
}

fn host(uri: &Uri) -> Option<HeaderValue> {
    let authority = uri.authority()?;
    match (authority.port(), uri.scheme_str()) {
        (Some(port), Some("http")) if port.as_u16() == 80 => authority.host().parse().ok(),
        (Some(port), Some("https")) if port.as_u16() == 443 => authority.host().parse().ok(),
        (Some(port), _) => format!("{}:{port}", authority.host()).parse().ok(),
        (None, _) => authority.host().parse().ok(),
    }
}
