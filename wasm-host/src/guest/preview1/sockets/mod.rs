//! Sockets of WASI 0.1: listening ones on the ports that the container declares, and the connections that they accept.
//!
//! WASI 0.1 can accept, read, write and wait, but neither listen nor connect: who starts a program hands it sockets that listen, as
//! systemd does, from descriptor 3 on. wasmtime has none, and keeps its table of descriptors to itself. So a module that can
//! accept, in a container that declares ports, gets the functions here in place of wasmtime's, in its own process: they
//! keep the guest's numbers in a [`Table`], serve sockets themselves, and pass on all else.

mod abi;
mod calls;
mod poll;
mod socket;
mod table;

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use rustix::net::SocketFlags;
use wasmtime::Module;
use wasmtime_wasi::WasiCtxBuilder;

pub(in crate::guest) use self::calls::link;
use self::socket::Socket;
pub(super) use self::table::{Entry, Table};
use crate::guest::listen;
use crate::protocol::GuestSpec;

/// The version that has these calls, and the one before it, which has no way to accept.
const SNAPSHOT: &str = "wasi_snapshot_preview1";
const UNSTABLE: &str = "wasi_unstable";

/// A declared port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on port {port}{name}, which the container declares: {error}")]
pub(in crate::guest) struct SocketsError {
    port: u32,
    name: String,
    error: io::Error,
}

/// Sockets that a guest is given.
pub(in crate::guest) struct Sockets {
    listening: Vec<Socket>,
    names: Vec<String>,
}

impl Sockets {
    /// Listens on the ports of `spec`, if `module` can accept connections. `None`: it has no sockets.
    ///
    /// # Errors
    /// A port is in use, or not for this user.
    pub(in crate::guest) fn open(module: &Module, spec: &GuestSpec) -> Result<Option<Self>, SocketsError> {
        let mut accepts = false;
        for import in module.imports() {
            // The numbers of descriptors are those of one version.
            if import.module() == UNSTABLE {
                return Ok(None);
            }
            accepts |= import.module() == SNAPSHOT && import.name() == "sock_accept";
        }
        if !accepts || spec.listeners.is_empty() {
            return Ok(None);
        }
        let mut sockets = Sockets { listening: Vec::new(), names: Vec::new() };
        for listener in &spec.listeners {
            let failed = |error| SocketsError {
                port: listener.port,
                name: if listener.name.is_empty() { String::new() } else { format!(" ({})", listener.name) },
                error,
            };
            let port = u16::try_from(listener.port).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
            let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let descriptor = match listen::on(everywhere, SocketFlags::empty()) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && listener.any_containers => continue,
                bound => bound.map_err(failed)?,
            };
            sockets.listening.push(Socket::listening(descriptor));
            sockets.names.push(name(&listener.name));
        }
        Ok(if sockets.listening.is_empty() { None } else { Some(sockets) })
    }

    /// Tells the guest of them as systemd does, where the pod does not say otherwise.
    pub(in crate::guest) fn announce(&self, spec: &GuestSpec, context: &mut WasiCtxBuilder) {
        for (variable, value) in [("LISTEN_FDS", self.listening.len().to_string()), ("LISTEN_FDNAMES", self.names.join(":"))] {
            let is_said = |entry: &String| entry.strip_prefix(variable).is_some_and(|rest| rest.starts_with('='));
            if !spec.env.iter().any(is_said) {
                context.env(variable, value);
            }
        }
    }

    pub(super) fn into_table(self) -> Box<Table> {
        Box::new(Table::new(self.listening))
    }
}

/// A port's name as LISTEN_FDNAMES has it (sd_listen_fds(3)): without colons, and `unknown` where there is none.
fn name(name: &str) -> String {
    if name.is_empty() { "unknown".to_owned() } else { name.replace(':', "_") }
}
