//! wasi:tls over a connection of wasi:sockets.

use wasip2::io::streams::StreamError;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

use crate::bindings::wasi::tls::types::ClientHandshake;

pub fn exchange(name: &str, address: &str, port: &str, text: &str) -> Result<String, String> {
    let address: std::net::Ipv4Addr = address.parse().map_err(|_| "no IPv4 address")?;
    let [a, b, c, d] = address.octets();
    let port = port.parse().map_err(|_| "no port")?;
    let there = IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) });
    let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(|code| code.name())?;
    socket.start_connect(&instance_network(), there).map_err(|code| code.name())?;
    let (input, output) = loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            connected => break connected.map_err(|code| code.name())?,
        }
    };
    let future = ClientHandshake::finish(ClientHandshake::new(name, input, output));
    future.subscribe().block();
    let done = future.get().ok_or("not ready")?.map_err(|()| "asked twice")?;
    let (connection, input, output) = done.map_err(|error| format!("tls: {}", error.to_debug_string()))?;
    output.blocking_write_and_flush(text.as_bytes()).map_err(|error| format!("send: {error}"))?;
    connection.close_output();
    let mut received = Vec::new();
    loop {
        match input.blocking_read(4096) {
            Ok(bytes) => received.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(format!("receive: {error}")),
        }
    }
    Ok(String::from_utf8_lossy(&received).into_owned())
}
