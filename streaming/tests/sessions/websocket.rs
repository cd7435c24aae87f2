//! Exec and attach over WebSocket, and port-forward in its older form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use streaming::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{ALL, OUT, Rig, Run, TTY, digest, pattern, soon, ws};

const V5: &str = "v5.channel.k8s.io";
const EXIT_7: &str = r#"{"status":"Failure","message":"command terminated with non-zero exit code: 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;

#[tokio::test]
async fn v5_closes_stdin_and_the_session_ends_with_code_1000() {
    let mut rig = Rig::new().await;
    let mut socket = ws::open(rig.address, &rig.exec(Run::Cat, ALL), V5).await;
    // The first message is empty: the server is ready.
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::Binary(vec![1].into()));
    ws::send(&mut socket, b"\0hello".to_vec()).await;
    ws::send(&mut socket, b"\x09ignored".to_vec()).await;
    ws::send(&mut socket, Vec::new()).await;
    ws::send(&mut socket, vec![255, 0]).await;
    ws::send(&mut socket, b"\0too late".to_vec()).await;
    assert_eq!(rig.notice().await, "eof");
    let (channels, code) = ws::finish(&mut socket).await;
    assert_eq!(channels[1], b"hello");
    assert_eq!(channels[3], br#"{"status":"Success"}"#);
    assert_eq!(code, Some(1000));
}

#[tokio::test]
async fn every_version_tells_the_outcome_in_its_own_way() {
    let rig = Rig::new().await;
    let text = "command terminated with non-zero exit code: 7";
    for (protocol, expected) in [(V5, EXIT_7), ("v4.channel.k8s.io", EXIT_7), ("channel.k8s.io", text), ("", text)] {
        let path = rig.exec(Run::Say("out", "err", Outcome::Exit(7)), ALL);
        let mut socket = ws::open(rig.address, &path, protocol).await;
        let (channels, code) = ws::finish(&mut socket).await;
        let expected: [&[u8]; 3] = [b"out", b"err", expected.as_bytes()];
        assert_eq!(channels[1..4], expected, "{protocol}");
        assert_eq!(code, Some(1000), "{protocol}");
    }
}

#[tokio::test]
async fn base64_is_read_and_written() {
    let rig = Rig::new().await;
    for protocol in ["v4.base64.channel.k8s.io", "base64.channel.k8s.io"] {
        let mut socket = ws::open(rig.address, &rig.exec(Run::Cat, ALL), protocol).await;
        let text = format!("0{}", STANDARD.encode("hello"));
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::text("1"));
        let echo = format!("1{}", STANDARD.encode("hello"));
        assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::text(echo));
        socket.send(Message::text("0***")).await.unwrap();
        assert!(ws::finish(&mut socket).await.0.iter().all(|channel| channel.is_empty()));
    }
}

#[tokio::test]
async fn twenty_megabytes_in_each_direction_are_unharmed() {
    const BYTES: usize = 20_000_000;
    let rig = Rig::new().await;
    let mut socket = ws::open(rig.address, &rig.exec(Run::Source(BYTES), OUT), V5).await;
    let (channels, code) = ws::finish(&mut socket).await;
    assert_eq!(digest([Bytes::copy_from_slice(&channels[1])].into_iter()), digest(pattern(BYTES)));
    assert_eq!((channels[3].as_slice(), code), (&br#"{"status":"Success"}"#[..], Some(1000)));

    let mut socket = ws::open(rig.address, &rig.exec(Run::Digest, ALL), V5).await;
    for piece in pattern(BYTES) {
        ws::send(&mut socket, [&[0], &piece[..]].concat()).await;
    }
    ws::send(&mut socket, vec![255, 0]).await;
    assert_eq!(ws::finish(&mut socket).await.0[1], digest(pattern(BYTES)));
}

#[tokio::test]
async fn sizes_and_pings_pass_and_a_wrong_close_ends_the_session() {
    let mut rig = Rig::new().await;
    let mut socket = ws::open(rig.address, &rig.exec(Run::Sizes(1), TTY), V5).await;
    socket.send(Message::Ping(vec![1, 2].into())).await.unwrap();
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::Binary(vec![1].into()));
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), Message::Pong(vec![1, 2].into()));
    ws::send(&mut socket, b"\x04{\"Width\":80,\"Height\":24}".to_vec()).await;
    assert_eq!(ws::finish(&mut socket).await.0[1], b"80x24\n");

    let mut socket = ws::open(rig.address, &rig.exec(Run::Hang, OUT), V5).await;
    ws::send(&mut socket, vec![255]).await;
    assert_eq!(rig.notice().await, "gone");
    ws::finish(&mut socket).await;
}

#[tokio::test]
async fn a_client_that_vanishes_is_noticed_also_while_its_input_is_stuck() {
    let mut rig = Rig::new().await;
    let socket = ws::open(rig.address, &rig.exec(Run::Hang, ALL), V5).await;
    drop(socket);
    assert_eq!(rig.notice().await, "gone");
    let mut socket = ws::open(rig.address, &rig.exec(Run::Deaf, ALL), V5).await;
    let send = async {
        loop {
            ws::send(&mut socket, vec![0; 32 * 1024]).await;
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), send).await.is_err());
    drop(socket);
    assert_eq!(rig.notice().await, "gone");
}

#[tokio::test]
async fn the_older_port_forward_numbers_its_channels_by_the_ports() {
    let rig = Rig::new().await;
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for (ports, query) in [(vec![port, closed], String::new()), (vec![], format!("?port={port}%2C{closed}"))] {
        let path = rig.server.forward_url((), ports).unwrap() + &query;
        let mut socket = ws::open(rig.address, &path, "v4.channel.k8s.io").await;
        ws::send(&mut socket, b"\0ping".to_vec()).await;
        let mut tcp = soon(target.accept()).await.unwrap().0;
        let mut bytes = [0; 4];
        soon(tcp.read_exact(&mut bytes)).await.unwrap();
        tcp.write_all(b"pong").await.unwrap();
        let mut channels = vec![Vec::new(); 4];
        while channels[0].len() < 6 || channels[3].len() < 10 {
            let message = soon(socket.next()).await.unwrap().unwrap().into_data();
            channels[usize::from(message[0])].extend_from_slice(&message[1..]);
        }
        assert_eq!(channels[0], [&port.to_le_bytes()[..], b"pong"].concat());
        assert_eq!(channels[1], port.to_le_bytes());
        assert_eq!(channels[2], closed.to_le_bytes());
        assert_eq!(channels[3][..2], closed.to_le_bytes());
        let text = String::from_utf8_lossy(&channels[3][2..]).into_owned();
        assert!(text.starts_with(&format!("error forwarding port {closed}: ")), "{text}");
    }
}
