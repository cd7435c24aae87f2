//! SPDY inside of WebSocket: binary messages are the bytes of a pipe, cut anywhere.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::AT_ONCE;
use super::channels::Socket;
use crate::http::Session;
use crate::negotiation::Protocol;
use crate::server::Server;
use crate::sessions::Sessions;
use crate::{session, wire};

/// Runs a session to its end.
pub(super) async fn run<S: Sessions>(server: &Arc<Server<S>>, session: Session<S>, socket: Socket, stop: CancellationToken) {
    let (near, far) = tokio::io::duplex(2 * AT_ONCE);
    let (reading, writing) = tokio::io::split(far);
    let (sink, stream) = socket.split();
    let inward = AbortOnDropHandle::new(tokio::spawn(inward(stream, writing)));
    let outward = AbortOnDropHandle::new(tokio::spawn(outward(reading, sink)));
    session::spdy(server, session, Protocol::Tunnel, wire::split(near), Vec::new(), stop).await;
    // The session has said all that it had to say; a client that reads none of it is not waited for.
    let _ = timeout(server.config.drain, outward).await;
    let _ = timeout(server.config.drain, inward).await;
}

async fn inward(mut stream: SplitStream<Socket>, mut pipe: WriteHalf<DuplexStream>) {
    let mut open = true;
    // Read to the end also when the session is over, because the answer to our close is there.
    while let Some(Ok(frame)) = stream.next().await {
        if let Frame::Binary(bytes) = frame {
            open = open && pipe.write_all(&bytes).await.is_ok();
        }
    }
    let _ = pipe.shutdown().await;
}

async fn outward(mut pipe: ReadHalf<DuplexStream>, mut sink: SplitSink<Socket, Frame>) {
    let mut buffer = BytesMut::with_capacity(AT_ONCE);
    while let Ok(1..) = pipe.read_buf(&mut buffer).await {
        let bytes: Bytes = buffer.split().freeze();
        if sink.send(Frame::Binary(bytes)).await.is_err() {
            return;
        }
        buffer.reserve(AT_ONCE);
    }
    let normal = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let _ = sink.send(Frame::Close(Some(normal))).await;
}
