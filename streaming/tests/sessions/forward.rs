//! Port-forward over SPDY, plain and inside of a WebSocket.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::spdy::{Client, Event, Stream};
use crate::support::{Rig, digest, pattern, soon, ws};

const PROTOCOL: &str = "portforward.k8s.io";

async fn target() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// The two streams of a connection, error first, as client-go opens them.
async fn pair(client: &mut Client, port: u16, request: &str) -> (Stream, Stream) {
    let port = port.to_string();
    let headers = |streamtype| [("streamtype", streamtype), ("port", &port[..]), ("requestid", request)];
    let error = client.stream(&headers("error")).await;
    error.fin().await;
    (error, client.stream(&headers("data")).await)
}

async fn all(tcp: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    soon(tcp.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

#[tokio::test]
async fn each_side_may_close_first_and_still_be_answered() {
    let rig = Rig::new().await;
    let (listener, port) = target().await;
    let mut client = Client::open(rig.address, &rig.forward(), PROTOCOL).await;
    let (mut error, mut data) = pair(&mut client, port, "0").await;
    data.send(b"question").await;
    data.fin().await;
    let mut tcp = soon(listener.accept()).await.unwrap().0;
    assert_eq!(all(&mut tcp).await, b"question");
    tcp.write_all(b"answer").await.unwrap();
    drop(tcp);
    assert_eq!(data.text().await, "answer");
    assert_eq!(error.text().await, "");

    let (mut error, mut data) = pair(&mut client, port, "1").await;
    let mut tcp = soon(listener.accept()).await.unwrap().0;
    tcp.write_all(b"banner").await.unwrap();
    tcp.shutdown().await.unwrap();
    assert_eq!(data.text().await, "banner");
    data.send(b"still here").await;
    data.fin().await;
    assert_eq!(all(&mut tcp).await, b"still here");
    assert_eq!(error.text().await, "");
}

#[tokio::test]
async fn a_connection_that_breaks_is_reset_and_the_session_goes_on() {
    let rig = Rig::new().await;
    let (listener, port) = target().await;
    let mut client = Client::open(rig.address, &rig.forward(), PROTOCOL).await;
    // The client resets.
    let (mut error, data) = pair(&mut client, port, "0").await;
    let mut tcp = soon(listener.accept()).await.unwrap().0;
    data.reset().await;
    assert_eq!(all(&mut tcp).await, b"");
    assert_eq!(error.text().await, "");
    // The pod resets: it closes with unread bytes.
    let (mut error, mut data) = pair(&mut client, port, "1").await;
    data.send(b"never read").await;
    let tcp = soon(listener.accept()).await.unwrap().0;
    soon(tcp.peek(&mut [0; 1])).await.unwrap();
    drop(tcp);
    assert_eq!(data.all().await, (Vec::new(), Event::Reset(5)));
    assert_eq!(error.text().await, "");
    // Nobody listens.
    drop(listener);
    let (mut error, mut data) = pair(&mut client, port, "2").await;
    assert_eq!(data.event().await, Event::Reset(5));
    let (text, end) = error.all().await;
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with(&format!("error forwarding port {port}: ")) && text.contains("refused"), "{text}");
    assert_eq!(end, Event::Reset(5));
    client.ping(7).await;
}

#[tokio::test]
async fn wrong_streams_are_refused_and_old_clients_pair_by_number() {
    let rig = Rig::with(streaming::Config { creation: Duration::from_secs(2), ..Default::default() }).await;
    let (listener, port) = target().await;
    let port = port.to_string();
    let mut client = Client::open(rig.address, &rig.forward(), PROTOCOL).await;
    for (streamtype, port) in [("data", "0"), ("data", "65536"), ("data", "http"), ("other", "80"), ("data", "")] {
        assert_eq!(client.ask(&[("streamtype", streamtype), ("port", port)]).await.event().await, Event::Reset(3));
    }
    assert_eq!(client.ask(&[("streamtype", "data")]).await.event().await, Event::Reset(3));
    assert_eq!(client.ask(&[("Port", "80"), ("streamtype", "data")]).await.event().await, Event::Reset(1));
    let _error = client.stream(&[("streamtype", "error"), ("port", &port)]).await;
    let data = client.stream(&[("streamtype", "data"), ("port", &port)]).await;
    data.send(b"x").await;
    data.fin().await;
    assert_eq!(all(&mut soon(listener.accept()).await.unwrap().0).await, b"x");
    // The same half twice, and a half without the other.
    let mut first = client.stream(&[("streamtype", "error"), ("port", &port), ("requestid", "a")]).await;
    let mut second = client.stream(&[("streamtype", "error"), ("port", &port), ("requestid", "a")]).await;
    assert_eq!(second.all().await.1, Event::Reset(5));
    let (text, end) = first.all().await;
    assert!(String::from_utf8(text).unwrap().contains("no data stream"));
    assert_eq!(end, Event::Reset(5));
}

#[tokio::test]
async fn fifty_connections_in_one_session_plain_and_in_a_tunnel() {
    const BYTES: usize = 200_000;
    let rig = Rig::new().await;
    let (listener, port) = target().await;
    let echo = tokio::spawn(async move {
        loop {
            let mut tcp = listener.accept().await.unwrap().0;
            tokio::spawn(async move {
                let (mut reading, mut writing) = tcp.split();
                tokio::io::copy(&mut reading, &mut writing).await.unwrap();
                writing.shutdown().await.unwrap();
            });
        }
    });
    let tunnel = ws::open(rig.address, &rig.forward(), "SPDY/3.1+portforward.k8s.io").await;
    let tunnelled = Client::on(Box::new(ws::pipe(tunnel)));
    for mut client in [Client::open(rig.address, &rig.forward(), PROTOCOL).await, tunnelled] {
        let mut pairs = Vec::new();
        for request in 0..50 {
            let (error, mut data) = pair(&mut client, port, &request.to_string()).await;
            pairs.push(tokio::spawn(async move {
                for piece in pattern(BYTES) {
                    data.send(&piece).await;
                }
                data.fin().await;
                let _error = error;
                data.all().await
            }));
        }
        let expected = digest(pattern(BYTES));
        for pair in pairs {
            let (bytes, end) = soon(pair).await.unwrap();
            assert_eq!((digest([Bytes::from(bytes)].into_iter()), end), (expected.clone(), Event::End));
        }
        client.ping(1).await;
    }
    echo.abort();
}

#[tokio::test]
async fn a_thousand_connections_one_after_another_and_no_more_than_the_limit_at_once() {
    let rig = Rig::with(streaming::Config { forwards: 4, ..Default::default() }).await;
    let (listener, port) = target().await;
    let mut client = Client::open(rig.address, &rig.forward(), PROTOCOL).await;
    for request in 0..1000 {
        let (mut error, mut data) = pair(&mut client, port, &request.to_string()).await;
        data.fin().await;
        drop(soon(listener.accept()).await.unwrap());
        assert_eq!((data.text().await, error.text().await), (String::new(), String::new()));
    }
    let mut open = Vec::new();
    for request in 0..4 {
        open.push(pair(&mut client, port, &format!("n{request}")).await);
    }
    let port = port.to_string();
    assert_eq!(client.ask(&[("streamtype", "error"), ("port", &port)]).await.event().await, Event::Reset(3));
}

#[tokio::test]
async fn a_stalled_connection_leaves_the_others_alone_until_its_buffer_is_full() {
    let rig = Rig::new().await;
    let (listener, port) = target().await;
    let mut client = Client::open(rig.address, &rig.forward(), PROTOCOL).await;
    let (_error, stalled) = pair(&mut client, port, "0").await;
    let _unread = soon(listener.accept()).await.unwrap().0;
    // Less than the stream holds, whatever the sockets hold.
    for piece in pattern(900 * 1024) {
        stalled.send(&piece).await;
    }
    let (_error, mut fast) = pair(&mut client, port, "1").await;
    let mut tcp = soon(listener.accept()).await.unwrap().0;
    for piece in pattern(2_000_000) {
        fast.send(&piece).await;
        let mut echo = vec![0; piece.len()];
        soon(tcp.read_exact(&mut echo)).await.unwrap();
        assert_eq!(echo, piece);
    }
    tcp.write_all(b"and back").await.unwrap();
    assert_eq!(fast.event().await, Event::Data(b"and back".to_vec()));
}

#[tokio::test]
async fn forwarded_connections_end_with_their_client() {
    let rig = Rig::new().await;
    let (listener, port) = target().await;
    let mut client = Client::open(rig.address, &rig.forward(), PROTOCOL).await;
    let (error, data) = pair(&mut client, port, "0").await;
    let mut tcp = soon(listener.accept()).await.unwrap().0;
    drop((client, error, data));
    assert_eq!(all(&mut tcp).await, b"");
}
