//! Sends back what comes, over TCP, to many clients at once: a command component with the sockets of WASI 0.2.
//!
//! `tcp-echo [PORT]` (7000 unless told) listens on every address, IPv4 and IPv6.

use std::process::ExitCode;

use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

/// No more clients than this; others wait in the kernel's queue.
const CLIENTS: usize = 100;

fn main() -> ExitCode {
    let port = std::env::args().nth(1).map_or(Ok(7000), |word| word.parse());
    let Ok(port) = port else {
        eprintln!("usage: tcp-echo [PORT]");
        return ExitCode::from(2);
    };
    let v4 = IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (0, 0, 0, 0) });
    let v6 = IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info: 0, address: (0, 0, 0, 0, 0, 0, 0, 0), scope_id: 0 });
    let mut listeners = Vec::new();
    // A node without IPv6 serves IPv4 alone.
    for (family, address) in [(IpAddressFamily::Ipv4, v4), (IpAddressFamily::Ipv6, v6)] {
        match listen(family, address) {
            Ok(listener) => listeners.push(listener),
            Err(error) => eprintln!("no listener on {address:?}: {error:?}"),
        }
    }
    if listeners.is_empty() {
        return ExitCode::FAILURE;
    }
    println!("listening on {port}");
    serve(&listeners)
}

/// A client. Streams go before their socket, so they come before it here.
struct Client {
    input: InputStream,
    output: OutputStream,
    _socket: TcpSocket,
    /// What came and has not been sent back yet; nothing more is read before it is.
    pending: Vec<u8>,
}

fn serve(listeners: &[TcpSocket]) -> ! {
    let mut clients: Vec<Client> = Vec::new();
    loop {
        let accepting = if clients.len() < CLIENTS { listeners.len() } else { 0 };
        let incoming = listeners[..accepting].iter().map(TcpSocket::subscribe);
        let waited: Vec<Pollable> = incoming.chain(clients.iter().map(Client::subscribe)).collect();
        let mut ready = poll(&waited.iter().collect::<Vec<_>>());
        // They go before their streams.
        drop(waited);
        // They come in any order. Backwards, so that taking one away leaves the places of those that are still to come.
        ready.sort_unstable();
        for ready in ready.into_iter().rev() {
            let ready = ready as usize;
            if ready < accepting {
                if let Ok((socket, input, output)) = listeners[ready].accept() {
                    clients.push(Client { input, output, _socket: socket, pending: Vec::new() });
                }
            } else if clients[ready - accepting].go_on().is_err() {
                drop(clients.remove(ready - accepting));
            }
        }
    }
}

impl Client {
    /// Waits until it can be read from, or written to if something is to be sent.
    fn subscribe(&self) -> Pollable {
        if self.pending.is_empty() { self.input.subscribe() } else { self.output.subscribe() }
    }

    fn go_on(&mut self) -> Result<(), StreamError> {
        if self.pending.is_empty() {
            self.pending = self.input.read(64 * 1024)?;
        }
        // As much as may be written at this moment, which is nothing while the last piece is under way.
        let taken = usize::try_from(self.output.check_write()?).unwrap_or(usize::MAX).min(self.pending.len());
        if taken > 0 {
            self.output.write(&self.pending[..taken])?;
            self.output.flush()?;
            self.pending.drain(..taken);
        }
        Ok(())
    }
}

fn listen(family: IpAddressFamily, address: IpSocketAddress) -> Result<TcpSocket, ErrorCode> {
    let socket = create_tcp_socket(family)?;
    socket.start_bind(&instance_network(), address)?;
    finished(&socket, || socket.finish_bind())?;
    socket.start_listen()?;
    finished(&socket, || socket.finish_listen())?;
    Ok(socket)
}

/// Waits for the second half of an operation that WASI splits in two.
fn finished(socket: &TcpSocket, finish: impl Fn() -> Result<(), ErrorCode>) -> Result<(), ErrorCode> {
    loop {
        match finish() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            outcome => return outcome,
        }
    }
}
