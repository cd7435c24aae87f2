//! Listening sockets of a service, in its pod's network namespace.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use tokio::net::{TcpListener, TcpStream};

/// Connections that wait to be accepted. The kernel takes its own limit (net.core.somaxconn) where that is less.
const BACKLOG: i32 = 1024;

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
        let bound = match bind(address) {
            Err(error) if without_ipv6(&error) && address.ip().is_unspecified() && address.is_ipv6() => {
                bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
            }
            bound => bound,
        };
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

fn without_ipv6(error: &io::Error) -> bool {
    [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL].map(Some).contains(&error.raw_os_error())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // A container that is started again finds its port although old connections are not forgotten yet.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    TcpListener::from_std(socket.into())
}
