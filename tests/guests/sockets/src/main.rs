//! A guest of the pod's network, through the sockets of WASI 0.2: run it as a component.
//!
//! `sockets serve PORT [COUNT]` listens on every IPv4 address, says `listening on PORT`, and serves one connection
//! after the other (COUNT of them; for ever unless told): a request that begins with `GET ` is answered as HTTP with
//! the line `served by HOSTNAME`, anything else is sent back as it comes. Called by another name, as web servers' images
//! call it, it says that name before what it says.
//! `sockets connect ADDRESS PORT TEXT` sends the text, closes its side, and prints what comes back.
//! `sockets resolve NAME` prints the name's addresses, one a line.
//! What fails is told on stderr by WASI's name for it (`connect: connection-refused`), with exit code 1.

use std::process::ExitCode;

use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp::ShutdownType;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

const USAGE: &str = "usage: sockets serve PORT [COUNT] | connect ADDRESS PORT TEXT | resolve NAME";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["serve", port] => serve(port, u64::MAX),
        ["serve", port, count] => count.parse().map_err(|_| USAGE.into()).and_then(|count| serve(port, count)),
        ["connect", address, port, text] => connect(address, port, text),
        ["resolve", name] => resolve(name),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for the second half of an operation that WASI splits in two.
macro_rules! finished {
    ($socket:expr, $finish:expr) => {
        loop {
            match $finish {
                Err(ErrorCode::WouldBlock) => $socket.subscribe().block(),
                outcome => break outcome,
            }
        }
    };
}

fn serve(port: &str, count: u64) -> Result<(), String> {
    let number: u16 = port.parse().map_err(|_| USAGE.to_string())?;
    let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(named("create"))?;
    let here = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: number, address: (0, 0, 0, 0) });
    socket.start_bind(&instance_network(), here).map_err(named("bind"))?;
    finished!(socket, socket.finish_bind()).map_err(named("bind"))?;
    socket.start_listen().map_err(named("listen"))?;
    finished!(socket, socket.finish_listen()).map_err(named("listen"))?;
    let own = own_name();
    println!("{own}listening on {number}");
    for _ in 0..count {
        let (peer, input, output) = finished!(socket, socket.accept()).map_err(named("accept"))?;
        // A client that goes away is its own affair.
        let _ = answer(&input, &output);
        drop((input, output));
        let _ = peer.shutdown(ShutdownType::Both);
        println!("{own}served a connection");
    }
    Ok(())
}

/// What its lines begin with.
fn own_name() -> String {
    let called = std::env::args().next().unwrap_or_default();
    match called.rsplit('/').next() {
        None | Some("" | "sockets") => String::new(),
        Some(name) if name.ends_with(".wasm") => String::new(),
        Some(name) => format!("{name}: "),
    }
}

fn answer(input: &InputStream, output: &OutputStream) -> Result<(), StreamError> {
    let mut first = true;
    loop {
        let bytes = match input.blocking_read(4096) {
            Err(StreamError::Closed) => return Ok(()),
            bytes => bytes?,
        };
        if first && bytes.starts_with(b"GET ") {
            let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "nobody".into());
            let body = format!("served by {name}\n");
            let head = format!("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len());
            return send(output, format!("{head}{body}").as_bytes());
        }
        first = false;
        send(output, &bytes)?;
    }
}

fn send(output: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    // The most that one such call takes.
    bytes.chunks(4096).try_for_each(|part| output.blocking_write_and_flush(part))
}

fn connect(address: &str, port: &str, text: &str) -> Result<(), String> {
    let number: u16 = port.parse().map_err(|_| USAGE.to_string())?;
    let target = match address.parse::<std::net::Ipv4Addr>().map(|address| address.octets()) {
        Ok([a, b, c, d]) => (a, b, c, d),
        Err(_) => lookup(address)?
            .into_iter()
            .find_map(|found| if let IpAddress::Ipv4(found) = found { Some(found) } else { None })
            .ok_or("resolve: no IPv4 address")?,
    };
    let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(named("create"))?;
    let there = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: number, address: target });
    socket.start_connect(&instance_network(), there).map_err(named("connect"))?;
    let (input, output) = finished!(socket, socket.finish_connect()).map_err(named("connect"))?;
    send(&output, text.as_bytes()).map_err(|error| format!("send: {error}"))?;
    socket.shutdown(ShutdownType::Send).map_err(named("shutdown"))?;
    let mut received = Vec::new();
    loop {
        match input.blocking_read(4096) {
            Ok(bytes) => received.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(format!("receive: {error}")),
        }
    }
    println!("{}", String::from_utf8_lossy(&received).trim_end());
    Ok(())
}

fn lookup(name: &str) -> Result<Vec<IpAddress>, String> {
    let addresses = resolve_addresses(&instance_network(), name).map_err(named("resolve"))?;
    let mut found = Vec::new();
    while let Some(address) = finished!(addresses, addresses.resolve_next_address()).map_err(named("resolve"))? {
        found.push(address);
    }
    Ok(found)
}

fn resolve(name: &str) -> Result<(), String> {
    for address in lookup(name)? {
        match address {
            IpAddress::Ipv4((a, b, c, d)) => println!("{a}.{b}.{c}.{d}"),
            IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => println!("{}", std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h)),
        }
    }
    Ok(())
}

/// `STEP: error-name`.
fn named(step: &'static str) -> impl Fn(ErrorCode) -> String {
    move |code| format!("{step}: {}", code.name())
}
