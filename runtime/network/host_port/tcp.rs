//! Connections: one to the node's port, one to the pod, bytes and ends of both ways between them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::mapping::Mapping;

/// Connections of a pod at one time; more wait in the kernel's queue.
pub(super) const CONNECTIONS: usize = 1024;
/// How long the pod may take to accept.
const CONNECT: Duration = Duration::from_secs(10);
/// After an accept that failed, for lack of memory, say.
const PAUSE: Duration = Duration::from_millis(100);
/// A peer that has gone without a word is noticed after this much silence and a few questions.
const KEEP_ALIVE: Duration = Duration::from_secs(120);

/// Room for the connections of all ports.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CONNECTIONS))
}

/// Accepts for ever.
pub(super) async fn serve(listener: TcpListener, mapping: Mapping, pod: Rc<[IpAddr]>, places: Arc<Semaphore>) {
    loop {
        let Ok((client, from)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let pod = Rc::clone(&pod);
        tokio::task::spawn_local(async move {
            let _place = place;
            // Whose fault it is, both sides see by their own ends.
            let _ = forward(client, &mapping.targets(&pod, from.ip())).await;
        });
    }
}

async fn forward(mut client: TcpStream, targets: &[SocketAddr]) -> io::Result<()> {
    let mut server = connect(targets).await?;
    for stream in [&client, &server] {
        // What is forwarded is as often a few bytes that somebody waits for as a file.
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    }
    // An end of one way is passed on, and the other way goes on.
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn connect(targets: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for target in targets {
        match timeout(CONNECT, TcpStream::connect(target)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}
