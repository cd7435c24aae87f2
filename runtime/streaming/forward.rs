//! A connection into a pod's network: to a port of its loopback, where a guest listens that need not be reachable otherwise.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::net::{TcpSocket, TcpStream};

use crate::network::netns;
use crate::sandbox::{SandboxState, network};
use crate::state::Runtime;

/// Connects; IPv4 first, then IPv6, as `localhost` is tried everywhere. The caller has the deadline.
pub(super) async fn connect(runtime: &Arc<Runtime>, sandbox: &str, port: u16) -> io::Result<TcpStream> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, format!("sandbox {sandbox} is not there any more"));
    let sandbox = runtime.sandboxes.find(sandbox).map_err(|_| gone())?;
    if sandbox.state() != SandboxState::Ready {
        return Err(io::Error::other(format!("sandbox {} is not ready", sandbox.id())));
    }
    let netns = (!sandbox.metadata().config.host_network()).then(|| network::namespace(runtime, sandbox.metadata()));
    let mut refused = None;
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        match connect_to(netns.clone(), SocketAddr::new(address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    let error = refused.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
    Err(io::Error::new(error.kind(), format!("connecting to port {port} of the pod {}: {error}", sandbox.id())))
}

async fn connect_to(netns: Option<PathBuf>, address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match netns {
        None => socket(family)?,
        Some(netns) => {
            let made = tokio::task::spawn_blocking(move || netns::tcp_socket(&netns, family)).await;
            made.map_err(io::Error::other)?.map_err(io::Error::other)?
        }
    };
    let stream = TcpSocket::from_std_stream(std::net::TcpStream::from(socket)).connect(address).await?;
    // What is forwarded is as often a few bytes that somebody waits for as a file.
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(family, SocketType::STREAM, flags, None)?)
}
