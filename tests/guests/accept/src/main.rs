//! A server of WASI 0.1 by Rust's standard library alone, on the sockets that it is handed.
//!
//! `accept echo [COUNT]` serves one connection after the other on descriptor 3 (COUNT of them; for ever unless told), and sends
//! back what comes until its end. `accept told` prints what it is told of its sockets and the first line of /etc/hosts.
//! `accept hold COUNT` accepts so many connections, or as many as it may, and says how that ended.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["echo"] => echo(usize::MAX),
        ["echo", count] => echo(count.parse().expect("a number")),
        ["told"] => told(),
        ["hold", count] => hold(count.parse().expect("a number")),
        _ => panic!("usage: accept echo [COUNT] | told | hold COUNT"),
    }
}

fn listener() -> TcpListener {
    // SAFETY: it is handed over, and nobody else in this program takes it.
    unsafe { TcpListener::from_raw_fd(3) }
}

fn echo(count: usize) {
    let listener = listener();
    println!("ready");
    for stream in listener.incoming().take(count) {
        match stream.and_then(answer) {
            Ok(bytes) => println!("sent {bytes} bytes back"),
            Err(error) => println!("{:?}", error.kind()),
        }
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<usize> {
    let (mut buffer, mut sum) = (vec![0; 16 << 10], 0);
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            stream.shutdown(Shutdown::Write)?;
            return Ok(sum);
        }
        stream.write_all(&buffer[..length])?;
        sum += length;
    }
}

fn told() {
    for name in ["LISTEN_FDS", "LISTEN_FDNAMES"] {
        println!("{name}={}", std::env::var(name).unwrap_or_else(|_| "?".to_owned()));
    }
    let hosts = std::fs::read_to_string("/etc/hosts").expect("files are found beside sockets");
    println!("{}", hosts.lines().next().unwrap_or_default());
    let file = std::fs::File::open("/etc/hosts").expect("a file");
    println!("a file is {}", file.as_raw_fd());
}

fn hold(count: usize) {
    let listener = listener();
    println!("ready");
    let mut held = Vec::new();
    for _ in 0..count {
        match listener.accept() {
            Ok((stream, _)) => held.push(stream),
            Err(error) => {
                println!("after {}: {:?}", held.len(), error.raw_os_error());
                held.pop();
                println!("one less: {}", listener.accept().is_ok());
                break;
            }
        }
    }
    println!("done");
}
