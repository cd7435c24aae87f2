//! A client of the streaming server: one session over WebSocket, read and written in turn.

use std::net::TcpStream;
use std::time::Duration;

use tokio_tungstenite::tungstenite::client::{IntoClientRequest, client};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use super::cri;
use super::node::Node;

/// No answer of a session takes longer than this.
const DEADLINE: Duration = Duration::from_secs(30);

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Which streams are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Streams {
    pub stdin: bool,
    pub tty: bool,
}

/// An exec or attach session of `v5.channel.k8s.io`.
pub struct Session {
    socket: WebSocket<TcpStream>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    status: Option<serde_json::Value>,
    over: bool,
}

impl Node {
    /// Exec; the session has begun when this returns.
    pub fn open_exec(&self, id: &str, command: &[&str], streams: Streams) -> Session {
        let request = cri::ExecRequest {
            container_id: id.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            tty: streams.tty,
            stdin: streams.stdin,
            stdout: true,
            stderr: !streams.tty,
        };
        Session::open(&self.client.exec(request).expect("Exec").url)
    }

    /// Attach.
    pub fn open_attach(&self, id: &str, streams: Streams) -> Session {
        let request = cri::AttachRequest {
            container_id: id.to_owned(),
            stdin: streams.stdin,
            tty: streams.tty,
            stdout: true,
            stderr: !streams.tty,
        };
        Session::open(&self.client.attach(request).expect("Attach").url)
    }
}

impl Session {
    pub fn open(url: &str) -> Session {
        let address = url.strip_prefix("http://").expect("plain HTTP");
        let stream = TcpStream::connect(address.split('/').next().unwrap()).expect("the streaming server listens");
        Session { socket: socket(url, stream, "v5.channel.k8s.io"), stdout: vec![], stderr: vec![], status: None, over: false }
    }

    /// Types.
    pub fn write(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary([&[STDIN], bytes].concat())).expect("the session takes input");
    }

    /// Ends the input.
    pub fn end_input(&mut self) {
        self.socket.send(Message::binary(vec![CLOSE, STDIN])).expect("the session takes the end of input");
    }

    /// Tells the size of the terminal.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let text = format!("{{\"Width\":{columns},\"Height\":{rows}}}");
        self.socket.send(Message::binary([&[RESIZE], text.as_bytes()].concat())).expect("the session takes a size");
    }

    /// Reads until stdout has this text.
    pub fn wait_for(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.stdout).contains(text) {
            assert!(!self.over, "the session ended before it said {text:?}: {:?}", String::from_utf8_lossy(&self.stdout));
            self.step();
        }
    }

    /// Reads to the end of the session; its exit code, or what the server says went wrong.
    pub fn finish(&mut self) -> Result<i64, String> {
        while !self.over {
            self.step();
        }
        let status = self.status.take().unwrap_or_default();
        let text = |key: &str| status[key].as_str().unwrap_or_default().to_owned();
        match (text("status").as_str(), text("reason").as_str()) {
            ("Success", _) => Ok(0),
            (_, "NonZeroExitCode") => {
                Ok(status["details"]["causes"][0]["message"].as_str().and_then(|code| code.parse().ok()).expect("an exit code"))
            }
            _ => Err(text("message")),
        }
    }

    /// Reads one message.
    pub fn read_some(&mut self) {
        self.step();
    }

    fn step(&mut self) {
        let bytes = match self.socket.read() {
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Close(_)) => {
                self.over = true;
                return;
            }
            Ok(_) => return,
            Err(error) => panic!("the session broke: {error}; so far {:?}", String::from_utf8_lossy(&self.stdout)),
        };
        match bytes.split_first() {
            Some((&STDOUT, text)) => self.stdout.extend_from_slice(text),
            Some((&STDERR, text)) => self.stderr.extend_from_slice(text),
            Some((&STATUS, status)) if !status.is_empty() => self.status = serde_json::from_slice(status).ok(),
            _ => {}
        }
    }
}

/// A WebSocket of this sub-protocol.
pub fn socket(url: &str, stream: TcpStream, protocol: &str) -> WebSocket<TcpStream> {
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let mut request = url.replacen("http", "ws", 1).into_client_request().expect("a request");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().expect("a header"));
    client(request, stream).map_err(|error| error.to_string()).expect("the server switches to WebSocket").0
}
