//! The connector of the client: HTTP's own, but for guests that may not connect everywhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::egress::Allowed;

/// The guest may not connect there.
#[derive(Debug, thiserror::Error)]
#[error("the egress list of the pod or its handler does not have {host}:{port}")]
pub(super) struct Denied {
    host: String,
    port: u16,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Connects where the guest may.
#[derive(Clone)]
pub(super) struct Connector {
    http: HttpConnector,
    allowed: Allowed,
}

impl Connector {
    pub(super) fn new(allowed: Allowed) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        Connector { http, allowed }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Cause;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Cause>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Cause>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if self.allowed.everything() {
            let connecting = self.http.call(uri);
            return Box::pin(async move { connecting.await.map_err(Into::into) });
        }
        let (mut http, allowed) = (self.http.clone(), self.allowed.clone());
        Box::pin(async move {
            let target = target(uri, &allowed).await?;
            http.call(target).await.map_err(Into::into)
        })
    }
}

/// What may be connected to: the name itself, or the first of its addresses that may. The name is not looked up again, for it may
/// have other addresses then.
async fn target(uri: Uri, allowed: &Allowed) -> Result<Uri, Cause> {
    let host = uri.host().unwrap_or_default().to_owned();
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = match bare.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) if allowed.name(bare, port) => return Ok(uri),
        Err(_) => tokio::net::lookup_host((bare, port)).await.map_err(unknown)?.collect(),
    };
    let Some(address) = addresses.into_iter().find(|address| allowed.address(*address)) else {
        return Err(Denied { host, port }.into());
    };
    let scheme = uri.scheme_str().unwrap_or("http");
    Ok(Uri::builder().scheme(scheme).authority(address.to_string()).path_and_query("/").build()?)
}

/// As hyper-util marks what its own resolver says.
fn unknown(error: io::Error) -> super::error::Dns {
    super::error::Dns(error)
}
