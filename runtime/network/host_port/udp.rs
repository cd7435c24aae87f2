//! Datagrams: each client of a port has a socket of its own into the pod, by which answers find their way back, until both
//! have been silent for a while.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::mapping::Mapping;

/// Clients of a port at one time. A further one takes the place of the one that has been silent longest.
pub(super) const SESSIONS: usize = 256;
/// How long a client is remembered after its last datagram or answer.
const IDLE: Duration = Duration::from_secs(60);
/// The largest datagram there is.
const MAX_DATAGRAM: usize = 65_535;
/// After an error that may be there again at once.
const PAUSE: Duration = Duration::from_millis(100);

struct Session {
    to_pod: Rc<UdpSocket>,
    heard: Instant,
    /// The task that carries answers.
    answers: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.answers.abort();
    }
}

type Sessions = Rc<RefCell<HashMap<SocketAddr, Session>>>;

/// Where a datagram lies on its way: one for all sessions of a port, none of which waits while it has one there.
type Scratch = Rc<RefCell<Vec<u8>>>;

/// Forwards for ever.
pub(super) async fn serve(socket: UdpSocket, mapping: Mapping, pod: Rc<[IpAddr]>) {
    let socket = Rc::new(socket);
    let sessions = Sessions::default();
    let scratch = Scratch::new(RefCell::new(vec![0; MAX_DATAGRAM]));
    let mut datagram = vec![0; MAX_DATAGRAM];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut datagram).await else {
            sleep(PAUSE).await;
            continue;
        };
        let Some(bytes) = datagram.get(..length) else { continue };
        let known = sessions.borrow_mut().get_mut(&from).map(|session| {
            session.heard = Instant::now();
            Rc::clone(&session.to_pod)
        });
        let to_pod = match known {
            Some(to_pod) => to_pod,
            None => match begin(&socket, &sessions, &scratch, from, &mapping.targets(&pod, from.ip())).await {
                Ok(to_pod) => to_pod,
                // Datagrams get lost.
                Err(_) => continue,
            },
        };
        // Where nobody listens in the pod this fails, or the next one does: the client hears nothing, as from any closed port.
        let _ = to_pod.send(bytes).await;
    }
}

async fn begin(
    socket: &Rc<UdpSocket>,
    sessions: &Sessions,
    scratch: &Scratch,
    from: SocketAddr,
    targets: &[SocketAddr],
) -> io::Result<Rc<UdpSocket>> {
    let target = targets.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any = if target.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let to_pod = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    to_pod.connect(target).await?;
    let to_pod = Rc::new(to_pod);
    let carry = carry(Rc::clone(socket), Rc::clone(&to_pod), from, Rc::clone(sessions), Rc::clone(scratch));
    let mut sessions = sessions.borrow_mut();
    if sessions.len() >= SESSIONS {
        let silent = sessions.iter().min_by_key(|(_, session)| session.heard).map(|(client, _)| *client);
        if let Some(client) = silent {
            sessions.remove(&client);
        }
    }
    let answers = tokio::task::spawn_local(carry).abort_handle();
    sessions.insert(from, Session { to_pod: Rc::clone(&to_pod), heard: Instant::now(), answers });
    Ok(to_pod)
}

/// Carries answers to the client until both sides have been silent.
async fn carry(socket: Rc<UdpSocket>, to_pod: Rc<UdpSocket>, client: SocketAddr, sessions: Sessions, scratch: Scratch) {
    loop {
        let Some(heard) = sessions.borrow().get(&client).map(|session| session.heard) else { return };
        match timeout_at(heard + IDLE, to_pod.readable()).await {
            Ok(Ok(())) => match answer(&socket, &to_pod, client, &scratch) {
                Ok(()) => {
                    if let Some(session) = sessions.borrow_mut().get_mut(&client) {
                        session.heard = Instant::now();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Nobody listens in the pod, as yet.
                Err(_) => sleep(PAUSE).await,
            },
            Ok(Err(_)) => sleep(PAUSE).await,
            Err(_) => {
                // The client may have spoken while this waited for the pod.
                let silent = sessions.borrow().get(&client).is_none_or(|session| session.heard.elapsed() >= IDLE);
                if silent {
                    sessions.borrow_mut().remove(&client);
                    return;
                }
            }
        }
    }
}

/// Hands over one answer. Where the client's way is full it is lost, as datagrams are.
fn answer(socket: &UdpSocket, to_pod: &UdpSocket, client: SocketAddr, scratch: &Scratch) -> io::Result<()> {
    let mut datagram = scratch.borrow_mut();
    let length = to_pod.try_recv(&mut datagram)?;
    if let Some(bytes) = datagram.get(..length) {
        let _ = socket.try_send_to(bytes, client);
    }
    Ok(())
}
