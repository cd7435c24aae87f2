//! The forwarder's own process: listens in the node's network, enters the pod's, gives up root, and forwards until it is killed.
//!
//! In this order, since each step needs what the next takes away; and with one thread throughout, so that every step holds for
//! all of the process.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use clap::Args;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, LinkNameSpaceType, move_into_link_name_space};

use super::{READY, mapping::Mapping, tcp, udp};
use crate::host::Process;

/// User and group that own nothing.
const NOBODY: u32 = 65534;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Descriptors beside those of connections and sessions: sockets that listen come on top.
const OTHER_DESCRIPTORS: usize = 64;

/// `ports`
#[derive(Debug, Args)]
pub struct PortsArgs {
    /// The pod's network namespace
    #[arg(long)]
    netns: PathBuf,
    /// An address of the pod
    #[arg(long)]
    pod_address: Vec<IpAddr>,
    /// A port, as `tcp,*,8080,80`
    #[arg(long)]
    port: Vec<Mapping>,
}

/// Why it does not forward; told to the daemon in one line.
#[derive(Debug, thiserror::Error)]
enum ForwarderError {
    #[error("host port {port}/{protocol} is taken on {address}: {source}")]
    Listen { port: u16, protocol: &'static str, address: IpAddr, source: Errno },
    #[error("the forwarder of host ports cannot {step}: {source}")]
    Step { step: &'static str, source: io::Error },
}

fn step<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> ForwarderError {
    move |source| ForwarderError::Step { step, source: source.into() }
}

/// A socket that listens, and where to.
pub(super) struct Listening<S> {
    pub(super) socket: S,
    pub(super) mapping: Mapping,
}

/// Runs until it is killed. Says `ready`, or why not, in one line.
pub fn main(arguments: &PortsArgs) -> ExitCode {
    let say = |line: &str| {
        let mut stdout = io::stdout();
        // The daemon may have gone meanwhile; the next one finds this process by its file.
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    };
    match prepare(arguments) {
        Ok((tcp, udp)) => {
            say(READY);
            match forward(tcp, udp, &arguments.pod_address) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

type Sockets = (Vec<Listening<TcpListener>>, Vec<Listening<UdpSocket>>);

fn prepare(arguments: &PortsArgs) -> Result<Sockets, ForwarderError> {
    identify().map_err(step("say who it is"))?;
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for &mapping in &arguments.port {
        for address in mapping.listens() {
            match listen(&mapping, address) {
                Ok(socket) if mapping.udp => udp.push(Listening { socket: UdpSocket::from(socket), mapping }),
                Ok(socket) => tcp.push(Listening { socket: TcpListener::from(socket), mapping }),
                // A node without IPv6.
                Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if mapping.host_ip.is_none() && address.is_ipv6() => {}
                Err(Errno::ADDRINUSE) => {
                    let (port, protocol, address) = (mapping.host_port, mapping.protocol(), address.ip());
                    return Err(ForwarderError::Listen { port, protocol, address, source: Errno::ADDRINUSE });
                }
                Err(error) => {
                    let source = io::Error::other(format!("{address}/{}: {}", mapping.protocol(), io::Error::from(error)));
                    return Err(ForwarderError::Step { step: "listen on a host port", source });
                }
            }
        }
    }
    enter(&arguments.netns).map_err(step("enter the pod's network"))?;
    let descriptors = OTHER_DESCRIPTORS + tcp.len() + udp.len() + tcp::CONNECTIONS * 2 + udp.len() * udp::SESSIONS;
    give_up(descriptors).map_err(step("give up root"))?;
    Ok((tcp, udp))
}

/// Writes into the locked file, which is standard input, which process this is.
fn identify() -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let unreadable = || io::Error::other("/proc/self/stat has no start time");
    let start_ticks = wasm_host::exit_record::start_ticks(&stat).ok_or_else(unreadable)?;
    let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let text = serde_json::to_vec(&Process { pid, start_ticks, started_at: wasm_host::protocol::now() })?;
    // In one call, so that a reader sees all of it or nothing.
    match rustix::io::pwrite(rustix::stdio::stdin(), &text, 0)? {
        written if written == text.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

fn listen(mapping: &Mapping, address: SocketAddr) -> Result<std::os::fd::OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if mapping.udp { SocketType::DGRAM } else { SocketType::STREAM };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv6() {
        // IPv4 has a socket of its own.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if !mapping.udp {
        // Connections of an earlier pod may still be fading away; a socket that listens there is refused all the same.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if !mapping.udp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn enter(netns: &Path) -> io::Result<()> {
    let namespace = rustix::fs::open(netns, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Becomes nobody, without capabilities, core dumps or a way back.
fn give_up(descriptors: usize) -> io::Result<()> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none)?;
    let wanted = u64::try_from(descriptors).unwrap_or(u64::MAX);
    let most = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX).min(wanted);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
    rustix::process::chdir("/")?;
    rustix::thread::set_thread_groups(&[])?;
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    for number in 0..64_u32 {
        let Some(capability) = CapabilitySet::from_bits(1 << number) else { continue };
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let empty = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: empty, permitted: empty, inheritable: empty })?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

fn forward(tcp: Vec<Listening<TcpListener>>, udp: Vec<Listening<UdpSocket>>, pod: &[IpAddr]) -> io::Result<()> {
    // Of a network that tells no address, what listens everywhere is reached by loopback.
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let pod: Rc<[IpAddr]> = if pod.is_empty() { Rc::from(loopback) } else { Rc::from(pod) };
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&executor, async {
        let places = tcp::places();
        for listening in tcp {
            let socket = tokio::net::TcpListener::from_std(listening.socket)?;
            tokio::task::spawn_local(tcp::serve(socket, listening.mapping, Rc::clone(&pod), places.clone()));
        }
        for listening in udp {
            let socket = tokio::net::UdpSocket::from_std(listening.socket)?;
            tokio::task::spawn_local(udp::serve(socket, listening.mapping, Rc::clone(&pod)));
        }
        std::future::pending().await
    })
}
