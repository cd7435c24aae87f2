//! Listening sockets of a service.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;

use rustix::net::SocketFlags;
use tokio::net::{TcpListener, TcpStream};

use crate::guest::listen;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    #[error("{0:?} is no address and port to listen on, such as [::]:8080")]
    Address(String),
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, #[source] io::Error),
}

/// A socket that accepts.
pub(super) struct Listener(TcpListener);

impl Listener {
    /// Binds `address`. `[::]` takes IPv4 as well, and is `0.0.0.0` where there is no IPv6.
    pub(super) fn bind(address: &str) -> Result<Self, ListenError> {
        let address: SocketAddr = address.parse().map_err(|_| ListenError::Address(address.to_owned()))?;
        let bound = listen::on(address, SocketFlags::NONBLOCK).and_then(|socket| TcpListener::from_std(socket.into()));
        bound.map(Listener).map_err(|error| ListenError::Bind(address, error))
    }
}

/// The next connection to any of them.
pub(super) async fn accept(listeners: &[Listener]) -> io::Result<(TcpStream, SocketAddr)> {
    let accepted = poll_fn(|context| {
        let mut all = listeners.iter().map(|listener| listener.0.poll_accept(context));
        all.find(Poll::is_ready).unwrap_or(Poll::Pending)
    });
    let (stream, peer) = accepted.await?;
    // Pieces of a body go out as the guest writes them.
    stream.set_nodelay(true)?;
    Ok((stream, peer))
}
