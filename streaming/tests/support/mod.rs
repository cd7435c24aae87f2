//! A server with commands that tests need, and clients of both transports.

#![allow(dead_code, reason = "each test uses its part")]

#[path = "../../src/spdy/dictionary.rs"]
mod dictionary;
pub mod http;
pub mod spdy;
pub mod ws;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use streaming::{CommandStreams, Config, Kind, Outcome, Server, Sessions, Wanted};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a command of the tests does.
#[derive(Debug)]
pub enum Run {
    /// stdin to stdout, until it ends; the outcome says how it ended.
    Cat,
    /// Writes this and ends so.
    Say(&'static str, &'static str, Outcome),
    /// This many bytes to stdout.
    Source(usize),
    /// The digest of stdin to stdout.
    Digest,
    /// The sizes of the terminal to stdout, so many.
    Sizes(usize),
    /// Nothing, until the client is gone.
    Hang,
    /// Reads nothing of stdin, until the client is gone.
    Deaf,
}

pub struct Lab {
    /// What commands noticed.
    noticed: mpsc::UnboundedSender<&'static str>,
}

pub struct Rig {
    pub server: Arc<Server<Lab>>,
    pub address: SocketAddr,
    pub noticed: mpsc::UnboundedReceiver<&'static str>,
    pub stop: CancellationToken,
    pub serving: tokio::task::JoinHandle<()>,
}

impl Sessions for Lab {
    type Command = Run;
    type Forward = ();

    async fn command(&self, command: Run, mut streams: CommandStreams) -> Outcome {
        match command {
            Run::Cat => {
                let (mut stdin, mut stdout) = (streams.stdin.take().unwrap(), streams.stdout.take().unwrap());
                while let Some(bytes) = stdin.next().await {
                    if stdout.write(bytes).await.is_err() {
                        break;
                    }
                }
                let _ = self.noticed.send(if stdin.closed_in_order() { "eof" } else { "vanished" });
                Outcome::Success
            }
            Run::Say(out, err, outcome) => {
                if let Some(mut stdout) = streams.stdout.take() {
                    let _ = stdout.write(Bytes::from(out)).await;
                }
                if let Some(mut stderr) = streams.stderr.take() {
                    let _ = stderr.write(Bytes::from(err)).await;
                }
                outcome
            }
            Run::Source(bytes) => {
                let mut stdout = streams.stdout.take().unwrap();
                for piece in pattern(bytes) {
                    if stdout.write(piece).await.is_err() {
                        let _ = self.noticed.send("unread");
                        return Outcome::Exit(141);
                    }
                }
                Outcome::Success
            }
            Run::Digest => {
                let (mut stdin, mut stdout) = (streams.stdin.take().unwrap(), streams.stdout.take().unwrap());
                let mut digest = Sha256::new();
                while let Some(bytes) = stdin.next().await {
                    digest.update(&bytes);
                }
                let _ = stdout.write(Bytes::copy_from_slice(&digest.finalize())).await;
                Outcome::Success
            }
            Run::Sizes(count) => {
                let mut stdout = streams.stdout.take().unwrap();
                for _ in 0..count {
                    let Some(size) = streams.resize.next().await else { return Outcome::Exit(9) };
                    let _ = stdout.write(Bytes::from(format!("{}x{}\n", size.width, size.height))).await;
                }
                Outcome::Success
            }
            Run::Hang | Run::Deaf => {
                streams.gone.wait().await;
                let _ = self.noticed.send("gone");
                Outcome::Success
            }
        }
    }

    async fn connect(&self, (): &(), port: u16) -> io::Result<TcpStream> {
        TcpStream::connect(("127.0.0.1", port)).await
    }
}

/// Bytes that no other place has, in pieces.
pub fn pattern(bytes: usize) -> impl Iterator<Item = Bytes> {
    const PIECE: usize = 32 * 1024;
    (0..bytes.div_ceil(PIECE)).map(move |at| {
        let length = PIECE.min(bytes - at * PIECE);
        let mut piece = vec![(at % 251) as u8; length];
        piece.iter_mut().step_by(7).enumerate().for_each(|(index, byte)| *byte = (index ^ at) as u8);
        Bytes::from(piece)
    })
}

pub fn digest(pieces: impl Iterator<Item = Bytes>) -> Vec<u8> {
    let mut digest = Sha256::new();
    pieces.for_each(|piece| digest.update(&piece));
    digest.finalize().to_vec()
}

/// Everything a client may ask for without a terminal.
pub const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
/// And with one.
pub const TTY: Wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: true };
/// Output alone.
pub const OUT: Wanted = Wanted { stdin: false, stdout: true, stderr: false, tty: false };

impl Rig {
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let (noticed, receiver) = mpsc::unbounded_channel();
        let server = Server::new(config, Lab { noticed });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.clone().serve(listener, None, stop.clone()));
        Self { server, address, noticed: receiver, stop, serving }
    }

    pub fn exec(&self, run: Run, wanted: Wanted) -> String {
        self.server.command_url(Kind::Exec, run, wanted).unwrap()
    }

    pub fn forward(&self) -> String {
        self.server.forward_url((), Vec::new()).unwrap()
    }

    pub async fn notice(&mut self) -> &'static str {
        soon(self.noticed.recv()).await.unwrap()
    }
}

/// What must happen, within a time that only a mistake needs.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it did not happen")
}
