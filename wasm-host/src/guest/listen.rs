//! Sockets that listen in the pod's network namespace.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

/// Connections that wait to be accepted. The kernel takes its own limit (net.core.somaxconn) where that is less.
const BACKLOG: i32 = 1024;

/// Listens on `address`. `[::]` takes IPv4 as well, and is `0.0.0.0` where there is no IPv6. The socket is closed on exec, and has
/// these `flags` besides.
///
/// # Errors
/// The kernel's: the address is in use, is none of this network's, or is not for this user.
pub(super) fn on(address: SocketAddr, flags: SocketFlags) -> io::Result<OwnedFd> {
    match bind(address, flags) {
        Err(error) if without_ipv6(&error) && address.ip().is_unspecified() && address.is_ipv6() => {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), flags)
        }
        bound => bound,
    }
}

fn without_ipv6(error: &io::Error) -> bool {
    [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL].map(Some).contains(&error.raw_os_error())
}

fn bind(address: SocketAddr, flags: SocketFlags) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = flags | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // A container that is started again finds its port although old connections are not forgotten yet.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}
