//! One TCP connection: TLS if asked for, one HTTP request, its token, the answer, and then the session it opens.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_util::sync::CancellationToken;

use crate::negotiation::{
    ACCEPTED_PROTOCOLS, Agreed, Declined, Protocol, STREAM_PROTOCOL, WEBSOCKET_PROTOCOL, declined, negotiate,
};
use crate::server::{Server, Waiting};
use crate::sessions::{Sessions, Wanted};
use crate::token;
use crate::wire::Wire;
use crate::{session, websocket};

/// The longest request head. Go's clients send less than 1 KiB.
const LONGEST_REQUEST: usize = 16 * 1024;

/// What a good request opens.
pub(crate) enum Session<S: Sessions> {
    Command { command: S::Command, wanted: Wanted },
    Forward { forward: S::Forward, ports: Vec<u16> },
}

/// A session and how to get at its bytes.
type Opened<S> = (Session<S>, Protocol, OnUpgrade);

/// What a client is answered.
type Answer = Response<Full<Bytes>>;

/// Serves one connection to its end. `full`: there is no place for a session, which is all that it is told.
pub(crate) async fn connection<S: Sessions>(
    server: Arc<Server<S>>,
    tcp: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    full: bool,
    stop: CancellationToken,
) {
    // Keystrokes and their echoes are small, and nobody waits for more.
    let _ = tcp.set_nodelay(true);
    let opened = tokio::select! {
        // An error is a client that went away, or spoke no HTTP; there is nobody to tell.
        opened = timeout(server.config.request, request(&server, tcp, tls, full)) => opened.ok().flatten(),
        () = stop.cancelled() => None,
    };
    let Some((session, protocol, upgrade)) = opened else { return };
    // The connection is here as soon as the answer is written.
    let Ok(Ok(upgraded)) = timeout(server.config.request, upgrade).await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<Wire>>() else { return };
    let (wire, first) = (parts.io.into_inner(), parts.read_buf.to_vec());
    match protocol {
        Protocol::SpdyCommand { .. } | Protocol::SpdyForward => {
            session::spdy(&server, session, protocol, wire.split(), first, stop).await;
        }
        Protocol::WebSocketCommand { .. } | Protocol::WebSocketForward { .. } | Protocol::Tunnel => {
            websocket::session(&server, session, protocol, wire, first, stop).await;
        }
    }
}

async fn request<S: Sessions>(
    server: &Arc<Server<S>>,
    tcp: TcpStream,
    tls: Option<Arc<rustls::ServerConfig>>,
    full: bool,
) -> Option<Opened<S>> {
    let wire = match tls {
        None => Wire::Plain(tcp),
        Some(config) => Wire::Tls(Box::new(TlsAcceptor::from(config).accept(tcp).await.ok()?)),
    };
    let opened = Mutex::new(None);
    let service = hyper::service::service_fn(|mut request: Request<Incoming>| {
        let answer = match if full { Err(busy()) } else { open(server, &mut request) } {
            Ok((session, answer)) => {
                *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
                answer
            }
            Err(declined) => decline(declined),
        };
        async { Ok::<_, Infallible>(answer) }
    });
    // Not `keep_alive(false)`: hyper would write `Connection: close` over the `Upgrade` that clients look for.
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(server.config.request)
        .max_buf_size(LONGEST_REQUEST)
        .serve_connection(TokioIo::new(wire), service)
        .with_upgrades()
        .await
        .ok()?;
    opened.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Uses up the token and answers; the session begins after the answer.
fn open<S: Sessions>(server: &Server<S>, request: &mut Request<Incoming>) -> Result<(Opened<S>, Answer), Declined> {
    if !matches!(*request.method(), Method::GET | Method::POST) {
        return Err(declined(StatusCode::METHOD_NOT_ALLOWED, "GET and POST are served here"));
    }
    let not_found = || declined(StatusCode::NOT_FOUND, "404 page not found");
    let (door, token) = token::parse_path(request.uri().path()).ok_or_else(not_found)?;
    let waiting = server.take(door, token).ok_or_else(not_found)?;
    let agreed = negotiate(door, request.method(), request.headers())?;
    let session = match waiting {
        Waiting::Command { command, wanted } => Session::Command { command, wanted },
        Waiting::Forward { forward, ports } => {
            let ports = match agreed.protocol {
                Protocol::WebSocketForward { .. } => websocket_ports(ports, request, server.config.forwards),
                _ => Ok(ports),
            };
            Session::Forward { forward, ports: ports.map_err(|reason| declined(StatusCode::BAD_REQUEST, reason))? }
        }
    };
    let answer = switch(&agreed);
    Ok(((session, agreed.protocol, hyper::upgrade::on(request)), answer))
}

/// The ports of the CRI request, or those of the query, which such clients gave to the API server.
fn websocket_ports(mut ports: Vec<u16>, request: &Request<Incoming>, most: usize) -> Result<Vec<u16>, &'static str> {
    if ports.is_empty() {
        let query = request.uri().query().unwrap_or_default();
        let values = query.split('&').filter_map(|pair| pair.strip_prefix("port=").or_else(|| pair.strip_prefix("ports=")));
        for port in values.flat_map(|value| value.split("%2C").flat_map(|part| part.split(','))) {
            ports.push(port.parse().map_err(|_| "the query's port is none")?);
        }
    }
    // Each has two channels, whose number is one byte.
    let most = most.min(127);
    match ports.as_slice() {
        [] => Err("the protocol needs the query's port"),
        ports if ports.contains(&0) => Err("port 0 is none"),
        ports if ports.len() > most => Err("too many ports for one session"),
        _ => Ok(ports),
    }
}

fn switch(agreed: &Agreed) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let (upgrade, protocol) = match &agreed.key {
        None => ("SPDY/3.1", STREAM_PROTOCOL),
        Some(key) => {
            if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
                headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
            }
            ("websocket", WEBSOCKET_PROTOCOL)
        }
    };
    headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
    if let Some(name) = HeaderValue::from_str(&agreed.name).ok().filter(|name| !name.is_empty()) {
        headers.insert(protocol, name);
    }
    response
}

fn decline(declined: Declined) -> Answer {
    let mut answer = Response::new(Full::from(declined.reason + "\n"));
    *answer.status_mut() = declined.status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // One request for each connection, since a token is good for one only. Hyper's own switch for that would say so in the
    // answers that upgrade as well, where Go's clients take it for a refusal.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for name in declined.accepted {
        headers.append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(name));
    }
    answer
}

fn busy() -> Declined {
    declined(StatusCode::SERVICE_UNAVAILABLE, "too many streaming connections; try again when some of them have ended")
}
