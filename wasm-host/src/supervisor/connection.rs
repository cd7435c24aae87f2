//! Daemons that talk to the supervisor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::SocketFlags;

use super::{Source, Supervisor};
use crate::protocol::{self, Failure, PROTOCOL, Reply, Request, Stopping, Welcome, reply, request};

/// One daemon, and during an upgrade a second. More is somebody else's mistake.
const MAX_CONNECTIONS: usize = 8;

/// A connected daemon.
#[derive(Debug)]
pub(super) struct Connection(OwnedFd);

impl Connection {
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Supervisor {
    pub(super) fn accept(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
        let by_root = rustix::net::sockopt::socket_peercred(&socket).is_ok_and(|peer| peer.uid.is_root());
        if !by_root || self.connections.len() >= MAX_CONNECTIONS {
            return;
        }
        let key = self.key();
        self.connections.insert(key, Connection(socket));
        if self.watch(Source::Connection(key)).is_err() {
            self.connections.remove(&key);
        }
    }

    pub(super) fn serve(&mut self, key: u64) {
        let Some(connection) = self.connections.get(&key) else { return };
        let (request, descriptors) = match protocol::receive::<Request>(&connection.0) {
            Ok(Some(message)) => message,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
            Ok(None) | Err(_) => return self.disconnect(key),
        };
        let id = request.id;
        let answer = match request.body {
            Some(request::Body::Hello(_)) => Some(reply::Body::Welcome(Welcome {
                protocol: PROTOCOL,
                pid: rustix::process::getpid().as_raw_nonzero().get(),
                engine_fingerprint: self.fingerprint.clone(),
                guests: u32::try_from(self.guests.len()).unwrap_or(u32::MAX),
                build: self.build.clone(),
            })),
            // Answered when the guest reports.
            Some(request::Body::Launch(launch)) => self.launch(key, id, &launch, descriptors).err().map(reply::Body::Failure),
            Some(request::Body::Shutdown(_)) if self.guests.is_empty() => {
                self.stopping = true;
                Some(reply::Body::Stopping(Stopping {}))
            }
            Some(request::Body::Shutdown(_)) => Some(reply::Body::Failure(Failure {
                message: format!("{} guests are running", self.guests.len()),
                errno: rustix::io::Errno::BUSY.raw_os_error(),
            })),
            None => Some(reply::Body::Failure(Failure {
                message: "this supervisor does not know that request".into(),
                errno: rustix::io::Errno::NOSYS.raw_os_error(),
            })),
        };
        if let Some(body) = answer {
            self.reply(key, id, body);
        }
    }

    /// Sends to one daemon. One that does not read is dropped: it finds everything in the files when it comes back.
    pub(super) fn reply(&mut self, key: u64, id: u64, body: reply::Body) {
        let Some(connection) = self.connections.get(&key) else { return };
        if protocol::send(&connection.0, &Reply { id, body: Some(body) }, &[]).is_err() {
            self.disconnect(key);
        }
    }

    pub(super) fn broadcast(&mut self, body: &reply::Body) {
        let keys: Vec<u64> = self.connections.keys().copied().collect();
        for key in keys {
            self.reply(key, 0, body.clone());
        }
    }

    fn disconnect(&mut self, key: u64) {
        self.connections.remove(&key);
        self.unwatch(|source| !matches!(source, Source::Connection(connection) if connection == key));
    }
}
