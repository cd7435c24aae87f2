//! `cri-wasm run -t`: this process's terminal joined to the guest's, through the daemon's streaming server as any client
//! would: WebSocket, `v5.channel.k8s.io`.

use std::io::{Read, Write};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// The sub-protocol, whose messages begin with the number of a channel.
const PROTOCOL: &str = "v5.channel.k8s.io";
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// Before the number of a channel that is closed.
const CLOSE: u8 = 255;

/// Bytes of one read of the keyboard.
const CHUNK: usize = 4096;

/// Joins the terminals until the guest has ended. Returns whether it showed anything.
pub(super) async fn join(url: &str) -> anyhow::Result<bool> {
    let address = url.strip_prefix("http://").context("the daemon's streams are not plain HTTP")?;
    let host = address.split('/').next().unwrap_or_default();
    let stream = TcpStream::connect(host).await.with_context(|| format!("connecting to {host}"))?;
    stream.set_nodelay(true)?;
    let mut request = format!("ws://{address}").into_client_request()?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", PROTOCOL.parse()?);
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.context("attaching to the guest")?;

    let _raw = Raw::enter()?;
    let mut resized = signal(SignalKind::window_change())?;
    let mut keys = keyboard();
    let mut shown = false;
    send_size(&mut socket).await?;
    let mut typing = true;
    loop {
        tokio::select! {
            _ = resized.recv() => send_size(&mut socket).await?,
            typed = keys.recv(), if typing => {
                typing = typed.is_some();
                let message = typed.map_or_else(|| vec![CLOSE, STDIN], |bytes| [&[STDIN], bytes.as_slice()].concat());
                socket.send(Message::binary(message)).await?;
            }
            message = socket.next() => {
                let Some(message) = message else { return Ok(shown) };
                if !show(message?, &mut shown)? {
                    return Ok(shown);
                }
            }
        }
    }
}

/// `false`: the session is over.
fn show(message: Message, shown: &mut bool) -> anyhow::Result<bool> {
    let bytes = match message {
        Message::Binary(bytes) => bytes,
        Message::Close(_) => return Ok(false),
        _ => return Ok(true),
    };
    match bytes.split_first() {
        Some((&STDOUT, text)) if !text.is_empty() => {
            *shown = true;
            let mut out = std::io::stdout().lock();
            out.write_all(text)?;
            out.flush()?;
        }
        Some((&STATUS, status)) => {
            let status: serde_json::Value = serde_json::from_slice(status).unwrap_or_default();
            if status.get("status").and_then(|value| value.as_str()) == Some("Failure") {
                bail!("{}", status.get("message").and_then(|value| value.as_str()).unwrap_or("the session failed"));
            }
        }
        _ => {}
    }
    Ok(true)
}

async fn send_size(socket: &mut WebSocketStream<TcpStream>) -> anyhow::Result<()> {
    let Ok(size) = tcgetwinsize(std::io::stdin()) else { return Ok(()) };
    let text = serde_json::json!({ "Width": size.ws_col, "Height": size.ws_row }).to_string();
    socket.send(Message::binary([&[RESIZE], text.as_bytes()].concat())).await?;
    Ok(())
}

/// What is typed, until the end of input.
fn keyboard() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(16);
    // A thread, because a read of standard input cannot be cancelled; it ends with the process.
    std::thread::spawn(move || {
        let mut bytes = [0; CHUNK];
        while let Ok(count @ 1..) = std::io::stdin().lock().read(&mut bytes) {
            if sender.blocking_send(bytes.get(..count).unwrap_or_default().to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The terminal in raw mode, until this is dropped: the guest's own terminal does the editing.
struct Raw(Termios);

impl Raw {
    fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(std::io::stdin()).context("standard input is no terminal, which --tty needs")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that has gone.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
