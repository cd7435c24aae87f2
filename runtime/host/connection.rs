//! One connection to one supervisor: requests with their replies, and a reader that hands on exits.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use wasm_host::protocol::{self, Exited, Hello, PROTOCOL, Reply, Request, Stopping, Welcome, reply, request};

use super::{HostError, lock, system};

/// Longest wait for a supervisor to greet.
const GREETING: Duration = Duration::from_secs(10);

/// A supervisor that has greeted. Clones share the connection.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: AsyncFd<OwnedFd>,
    waiting: Mutex<HashMap<u64, oneshot::Sender<reply::Body>>>,
    next: AtomicU64,
    welcome: Welcome,
}

impl Connection {
    /// Connects and greets. `None`: nobody listens there.
    pub(super) async fn open(path: &Path) -> Result<Option<Self>, HostError> {
        let failed = |error: io::Error| system(format!("connecting to {}", path.display()))(error);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|error| failed(error.into()))?;
        match super::connect(&socket, path) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        let socket = super::watch_descriptor(socket, Interest::READABLE | Interest::WRITABLE).map_err(failed)?;
        let hello = Request { id: 1, body: Some(request::Body::Hello(Hello { protocol: PROTOCOL })) };
        let greet = async {
            send(&socket, &hello, &[]).await?;
            loop {
                match receive(&socket).await? {
                    Some(Reply { body: Some(reply::Body::Welcome(welcome)), .. }) => return Ok(welcome),
                    // An exit that happened between connecting and greeting; the scan finds it in the files.
                    Some(_) => {}
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                }
            }
        };
        let welcome = match tokio::time::timeout(GREETING, greet).await {
            Ok(welcome) => welcome.map_err(failed)?,
            Err(_) => return Err(HostError::TimedOut { what: "the greeting", seconds: GREETING.as_secs() }),
        };
        Ok(Some(Self(Arc::new(Inner { socket, waiting: Mutex::default(), next: AtomicU64::new(2), welcome }))))
    }

    pub(super) fn welcome(&self) -> &Welcome {
        &self.0.welcome
    }

    /// Sends a request and waits for its reply.
    pub(super) async fn call(
        &self,
        body: request::Body,
        descriptors: Vec<OwnedFd>,
        deadline: Duration,
        what: &'static str,
    ) -> Result<reply::Body, HostError> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.0.waiting).insert(id, sender);
        let sent = send(&self.0.socket, &Request { id, body: Some(body) }, &descriptors).await;
        drop(descriptors);
        let result = match sent {
            Err(error) => Err(system(format!("asking the supervisor for {what}"))(error)),
            Ok(()) => match tokio::time::timeout(deadline, receiver).await {
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(_)) => Err(HostError::NotRunning),
                Err(_) => Err(HostError::TimedOut { what, seconds: deadline.as_secs() }),
            },
        };
        lock(&self.0.waiting).remove(&id);
        result
    }

    /// Sends a request after the reader has been stopped, and reads the reply itself.
    pub(super) async fn call_last(&self, body: request::Body) -> Result<reply::Body, HostError> {
        const DEADLINE: Duration = Duration::from_secs(5);
        let failed = |error| system("asking the supervisor to end")(error);
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let ask = async {
            send(&self.0.socket, &Request { id, body: Some(body) }, &[]).await?;
            loop {
                match receive(&self.0.socket).await? {
                    Some(Reply { id: found, body: Some(body) }) if found == id => return Ok(body),
                    // An exit: the next daemon finds it in the files.
                    Some(_) => {}
                    // The reader took the reply with its last breath. It has ended, which is what was asked.
                    None => return Ok(reply::Body::Stopping(Stopping {})),
                }
            }
        };
        match tokio::time::timeout(DEADLINE, ask).await {
            Ok(reply) => reply.map_err(failed),
            Err(_) => Err(HostError::TimedOut { what: "a shutdown", seconds: DEADLINE.as_secs() }),
        }
    }

    /// Waits until the supervisor has closed its end, which it does by ending. `false` if it does not within a second.
    pub(super) async fn ended(&self) -> bool {
        let closed = async { while let Ok(Some(_)) = receive(&self.0.socket).await {} };
        tokio::time::timeout(Duration::from_secs(1), closed).await.is_ok()
    }

    /// Reads until the supervisor has gone. Replies go to who waits for them, ends of guests to `exits`.
    pub(super) async fn read(&self, exits: &mpsc::Sender<Exited>) {
        loop {
            match receive(&self.0.socket).await {
                Ok(Some(Reply { body: Some(reply::Body::Exited(event)), .. })) => {
                    // Who listens lives as long as this connection.
                    let _ = exits.send(event).await;
                }
                Ok(Some(Reply { id, body: Some(body) })) => {
                    if let Some(sender) = lock(&self.0.waiting).remove(&id) {
                        // Who waited has given up.
                        let _ = sender.send(body);
                    }
                }
                Ok(Some(Reply { body: None, .. })) => tracing::warn!("a message of the supervisor is of an unknown kind"),
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "reading from the supervisor");
                    break;
                }
            }
        }
        // Dropping the senders ends every wait.
        lock(&self.0.waiting).clear();
    }
}

async fn send(socket: &AsyncFd<OwnedFd>, request: &Request, descriptors: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    socket.async_io(Interest::WRITABLE, |socket| protocol::send(socket, request, &borrowed)).await
}

async fn receive(socket: &AsyncFd<OwnedFd>) -> io::Result<Option<Reply>> {
    match socket.async_io(Interest::READABLE, |socket| protocol::receive::<Reply>(socket)).await {
        Ok(message) => Ok(message.map(|(reply, _)| reply)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error),
    }
}
