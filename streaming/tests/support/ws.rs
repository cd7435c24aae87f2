//! WebSocket clients: channels, and the tunnel as a byte pipe.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{http, soon};

pub type Socket = WebSocketStream<TcpStream>;

pub async fn open(address: SocketAddr, path: &str, protocol: &str) -> Socket {
    let answer = http::websocket(address, path, protocol).await;
    assert_eq!(answer.status, 101, "{}", answer.head);
    assert_eq!(answer.header("Sec-WebSocket-Accept"), ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]);
    assert_eq!((answer.header("Connection"), answer.header("Upgrade")), (vec!["Upgrade".into()], vec!["websocket".into()]));
    assert_eq!(answer.header("Sec-WebSocket-Protocol").join(""), protocol);
    WebSocketStream::from_raw_socket(answer.tcp, Role::Client, None).await
}

pub async fn send(socket: &mut Socket, bytes: Vec<u8>) {
    socket.send(Message::Binary(bytes.into())).await.unwrap();
}

/// What each channel said, and the code with which the server closed.
pub async fn finish(socket: &mut Socket) -> (Vec<Vec<u8>>, Option<u16>) {
    let mut channels = vec![Vec::new(); 5];
    loop {
        match soon(socket.next()).await {
            Some(Ok(Message::Binary(bytes))) => {
                if let Some((channel, rest)) = bytes.split_first() {
                    channels[usize::from(*channel)].extend_from_slice(rest);
                }
            }
            Some(Ok(Message::Close(frame))) => return (channels, frame.map(|frame| u16::from(frame.code))),
            Some(Ok(_)) => (),
            Some(Err(_)) | None => return (channels, None),
        }
    }
}

/// The tunnel's bytes.
pub fn pipe(socket: Socket) -> DuplexStream {
    let (near, far) = tokio::io::duplex(256 * 1024);
    let (mut reading, mut writing) = tokio::io::split(far);
    let (mut sink, mut stream) = socket.split();
    tokio::spawn(async move {
        let mut buffer = vec![0; 50_000];
        while let Ok(read @ 1..) = reading.read(&mut buffer).await {
            if sink.send(Message::Binary(buffer[..read].to_vec().into())).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Binary(bytes) = message
                && writing.write_all(&bytes).await.is_err()
            {
                return;
            }
        }
        let _ = writing.shutdown().await;
    });
    near
}
