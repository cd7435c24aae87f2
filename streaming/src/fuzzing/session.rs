//! Whole sessions in memory: bytes in, commands behind that echo, and what the server says must be sound frames.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::http::Session;
use crate::negotiation::Protocol;
use crate::status::Style;
use crate::{CommandStreams, Config, Outcome, Server, Sessions, Wanted, session, wire};

/// Echoes, and connects to nothing.
struct Echo;

impl Sessions for Echo {
    type Command = ();
    type Forward = ();

    async fn command(&self, (): (), mut streams: CommandStreams) -> Outcome {
        if let (Some(mut stdin), Some(mut stdout)) = (streams.stdin.take(), streams.stdout.take()) {
            while let Some(bytes) = stdin.next().await {
                if stdout.write(bytes).await.is_err() {
                    break;
                }
            }
        }
        Outcome::Exit(3)
    }

    async fn connect(&self, (): &(), port: u16) -> io::Result<TcpStream> {
        Err(io::Error::other(format!("nobody listens on {port}")))
    }
}

/// A session reads whatever comes and ends with its client; it answers in sound frames, and with no more than a few bytes
/// for each that it got. The first byte chooses between a command and a port-forward.
pub fn spdy_session(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let answer = runtime.block_on(async {
        let config = Config { drain: Duration::from_millis(1), ..Config::default() };
        let server = Server::new(config, Echo);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (session, protocol) = if choice % 2 == 0 {
            let wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: true };
            (Session::Command { command: (), wanted }, Protocol::SpdyCommand { style: Style::Json, sizes: true })
        } else {
            (Session::Forward { forward: (), ports: Vec::new() }, Protocol::SpdyForward)
        };
        let serve = session::spdy(&server, session, protocol, wire::split(near), Vec::new(), CancellationToken::new());
        let client = async {
            let (mut reading, mut writing) = tokio::io::split(far);
            let mut answer = Vec::new();
            let write = async {
                for part in bytes.chunks(usize::from(choice / 2).max(1)) {
                    if writing.write_all(part).await.is_err() {
                        break;
                    }
                }
                let _ = writing.shutdown().await;
            };
            let _ = tokio::join!(write, reading.read_to_end(&mut answer));
            answer
        };
        tokio::join!(serve, client).1
    });
    // Every stream that is opened (18 bytes) may be answered, told an error and closed.
    assert!(answer.len() <= 4096 + 40 * bytes.len(), "{} bytes for {}", answer.len(), bytes.len());
    let mut rest = &answer[..];
    while let Some((head, body)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        // The connection may break within the last frame.
        rest = body.get(length..).unwrap_or_default();
        assert!(head[0] & 0x80 == 0 || (head[..2] == [0x80, 3] && matches!(head[3], 2 | 3 | 4 | 6 | 7)), "{head:?}");
    }
}
