//! Guests that wait for sockets and standard input at once, and sockets that a guest cannot have.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;

use super::writes;
use crate::guest::testing::Guest;
use crate::protocol::{Listener, StreamKind};

/// Waits for standard input, a connection, and 50 ms, of a descriptor 77 if `bad`; writes the kind of the first event to come (`i`,
/// `c`, `t`; `b` for an error), takes what it is of, and goes on until input ends.
const WAITS: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 512) "i\nc\nt\nb\n")
    (func $say (param $which i32)
        (i32.store (i32.const 0) (i32.add (i32.const 512) (i32.mul (local.get $which) (i32.const 2))))
        (i32.store (i32.const 4) (i32.const 2))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
    (func (export "_start") (local $data i32)
        ;; Subscriptions at 64: input, the socket, a clock, perhaps nothing. Events at 1024.
        (i64.store (i32.const 64) (i64.const 0)) (i32.store8 (i32.const 72) (i32.const 1)) (i32.store (i32.const 80) (i32.const 0))
        (i64.store (i32.const 112) (i64.const 1)) (i32.store8 (i32.const 120) (i32.const 1)) (i32.store (i32.const 128) (i32.const 3))
        (i64.store (i32.const 160) (i64.const 2)) (i32.store8 (i32.const 168) (i32.const 0)) (i32.store (i32.const 176) (i32.const 1))
        (i64.store (i32.const 184) (i64.const {timeout}))
        (i64.store (i32.const 208) (i64.const 3)) (i32.store8 (i32.const 216) (i32.const 2)) (i32.store (i32.const 224) (i32.const 77))
        (loop $more
            (if (call $poll (i32.const 64) (i32.const 1024) (i32.const {count}) (i32.const 8)) (then unreachable))
            (if (i32.eqz (i32.load (i32.const 8))) (then unreachable))
            (local.set $data (i32.load (i32.const 1024)))
            (call $say (local.get $data))
            (if (i32.eq (local.get $data) (i32.const 0)) (then
                (i32.store (i32.const 0) (i32.const 2048))
                (i32.store (i32.const 4) (i32.const 1))
                (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
                (if (i32.eqz (i32.load (i32.const 8))) (then return))))
            (if (i32.eq (local.get $data) (i32.const 1)) (then
                (if (call $accept (i32.const 3) (i32.const 0) (i32.const 16)) (then unreachable))
                (if (call $close (i32.load (i32.const 16))) (then unreachable))))
            (if (i32.eq (local.get $data) (i32.const 3)) (then
                (if (i32.ne (i32.load16_u (i32.const 1032)) (i32.const 8)) (then unreachable))
                return))
            (br $more))))"#;

fn waits(count: u32, timeout: u64) -> (Guest, u16) {
    let mut guest = Guest::new(&WAITS.replace("{count}", &count.to_string()).replace("{timeout}", &timeout.to_string()));
    let port = free_port();
    guest.spec.stdin = StreamKind::StreamDescriptor.into();
    guest.spec.listeners = vec![Listener { name: String::new(), port: port.into(), any_containers: false }];
    (guest, port)
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn input_and_sockets_are_waited_for_at_once() {
    let (guest, port) = waits(2, 0);
    let mut child = guest.start(Stdio::piped());
    let mut input = child.stdin.take().unwrap();
    guest.wait_for(|directory| directory.join("ready").exists());
    let mut wanted = Vec::new();
    for which in ["c", "i", "i", "c", "c", "i"] {
        if which == "i" {
            input.write_all(b"x").unwrap();
        } else {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        wanted.push(which);
        guest.wait_for(|_| guest.log().lines().count() == wanted.len());
    }
    drop(input);
    let ended = guest.end(child);
    wanted.push("i");
    assert_eq!((ended.lines("stdout"), ended.outcome.exit_code), (wanted, 0), "{}", ended.log);
}

#[test]
fn a_clock_ends_the_wait_for_both() {
    let (guest, _) = waits(3, 20_000_000);
    let mut child = guest.start(Stdio::piped());
    let input = child.stdin.take().unwrap();
    guest.wait_for(|_| guest.log().lines().count() >= 3);
    drop(input);
    let ended = guest.end(child);
    let lines = ended.lines("stdout");
    let (last, before) = lines.split_last().unwrap();
    assert!(*last == "i" && before.iter().all(|line| *line == "t"), "{lines:?}");
}

#[test]
fn a_descriptor_that_is_none_is_an_event_and_keeps_nobody_waiting() {
    let (guest, _) = waits(4, 60_000_000_000);
    let mut child = guest.start(Stdio::piped());
    let input = child.stdin.take().unwrap();
    guest.wait_for(|_| guest.log().lines().count() == 1);
    drop(input);
    let ended = guest.end(child);
    assert_eq!((ended.lines("stdout"), ended.outcome.exit_code), (vec!["b"], 0), "{}", ended.log);
}

#[test]
fn a_port_that_is_in_use_is_a_start_error() {
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let (mut guest, _) = waits(2, 0);
    guest.spec.listeners = vec![Listener { name: "web".into(), port: port.into(), any_containers: false }];
    let ended = guest.run();
    assert_eq!((ended.outcome.reason.as_str(), ended.outcome.exit_code, ended.was_ready), ("StartError", 128, false));
    let wanted = format!("cannot listen on port {port} (web), which the container declares: ");
    assert!(ended.outcome.message.starts_with(&wanted), "{}", ended.outcome.message);
    // A guest that cannot accept runs all the same.
    let mut other = Guest::new(&writes(1, "hello\n", ""));
    other.spec.listeners = guest.spec.listeners.clone();
    assert_eq!(other.run().lines("stdout"), ["hello"]);
}
