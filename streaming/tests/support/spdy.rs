//! A SPDY client that is as plain as can be: one task reads, streams are numbered from 1.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

use super::dictionary::dictionary;
use super::{http, soon};

pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// What the server says about one stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Reply,
    Data(Vec<u8>),
    End,
    Reset(u32),
}

type Events = Arc<Mutex<HashMap<u32, mpsc::UnboundedSender<Event>>>>;

pub struct Client {
    pub writer: Arc<tokio::sync::Mutex<WriteHalf<Box<dyn Pipe>>>>,
    deflate: Deflate,
    next: u32,
    events: Events,
    /// Pings that were answered, and how the session ended (by GOAWAY).
    pub session: mpsc::UnboundedReceiver<(u16, u32)>,
    reader: tokio::task::JoinHandle<()>,
}

pub struct Stream {
    pub id: u32,
    events: mpsc::UnboundedReceiver<Event>,
    writer: Arc<tokio::sync::Mutex<WriteHalf<Box<dyn Pipe>>>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

pub fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(&((u32::from(flags) << 24) | body.len() as u32).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

pub fn data(id: u32, fin: bool, bytes: &[u8]) -> Vec<u8> {
    let mut frame = id.to_be_bytes().to_vec();
    frame.extend_from_slice(&((u32::from(fin) << 24) | bytes.len() as u32).to_be_bytes());
    frame.extend_from_slice(bytes);
    frame
}

impl Client {
    /// Opens a session that the server accepts.
    pub async fn open(address: SocketAddr, path: &str, protocol: &str) -> Self {
        let answer = http::spdy(address, path, &[protocol]).await;
        assert_eq!(answer.status, 101, "{}", answer.head);
        assert_eq!(answer.header("X-Stream-Protocol-Version"), [protocol]);
        // Go's clients look at both, and at a single `close` they see neither.
        assert_eq!((answer.header("Connection"), answer.header("Upgrade")), (vec!["Upgrade".into()], vec!["SPDY/3.1".into()]));
        Self::on(Box::new(answer.tcp))
    }

    pub fn on(pipe: Box<dyn Pipe>) -> Self {
        let (reading, writing) = tokio::io::split(pipe);
        let events = Events::default();
        let (sender, session) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read(reading, events.clone(), sender));
        let mut deflate = Deflate::new(6, true, 15);
        deflate.set_dictionary(&dictionary()).unwrap();
        Self { writer: Arc::new(tokio::sync::Mutex::new(writing)), deflate, next: 1, events, session, reader }
    }

    /// The header block, compressed as part of the connection's stream.
    pub fn block(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut text = (headers.len() as u32).to_be_bytes().to_vec();
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.extend_from_slice(&(part.len() as u32).to_be_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        self.deflate(&text)
    }

    pub fn deflate(&mut self, text: &[u8]) -> Vec<u8> {
        let mut block = vec![0; text.len() + 1024];
        let before = self.deflate.total_out();
        self.deflate.compress(text, &mut block, DeflateFlush::SyncFlush).unwrap();
        block.truncate((self.deflate.total_out() - before) as usize);
        block
    }

    pub async fn raw(&self, bytes: &[u8]) {
        let mut writer = self.writer.lock().await;
        writer.write_all(bytes).await.unwrap();
        writer.flush().await.unwrap();
    }

    /// Asks for a stream; what becomes of it are its events.
    pub async fn ask(&mut self, headers: &[(&str, &str)]) -> Stream {
        let (id, block) = (self.next, self.block(headers));
        self.next += 2;
        let (sender, events) = mpsc::unbounded_channel();
        self.events.lock().unwrap().insert(id, sender);
        let body = [&id.to_be_bytes()[..], &[0; 6], &block].concat();
        self.raw(&control(1, 0, &body)).await;
        Stream { id, events, writer: self.writer.clone() }
    }

    /// Opens a stream that the server accepts.
    pub async fn stream(&mut self, headers: &[(&str, &str)]) -> Stream {
        let mut stream = self.ask(headers).await;
        assert_eq!(stream.event().await, Event::Reply);
        stream
    }

    pub async fn typed(&mut self, streamtype: &str) -> Stream {
        self.stream(&[("streamtype", streamtype)]).await
    }

    pub async fn ping(&mut self, id: u32) {
        self.raw(&control(6, 0, &id.to_be_bytes())).await;
        assert_eq!(soon(self.session.recv()).await, Some((6, id)));
    }

    /// Waits for GOAWAY and gives its status, or `None` if the connection ended without.
    pub async fn ended(&mut self) -> Option<u32> {
        loop {
            match soon(self.session.recv()).await {
                Some((7, status)) => return Some(status),
                Some(_) => (),
                None => return None,
            }
        }
    }
}

impl Stream {
    pub async fn event(&mut self) -> Event {
        soon(self.events.recv()).await.unwrap_or(Event::Reset(0))
    }

    pub async fn send(&self, bytes: &[u8]) {
        self.frame(&data(self.id, false, bytes)).await;
    }

    pub async fn fin(&self) {
        self.frame(&data(self.id, true, b"")).await;
    }

    pub async fn reset(&self) {
        self.frame(&control(3, 0, &[self.id.to_be_bytes(), 5u32.to_be_bytes()].concat())).await;
    }

    pub async fn frame(&self, frame: &[u8]) {
        let mut writer = self.writer.lock().await;
        let _ = writer.write_all(frame).await;
        let _ = writer.flush().await;
    }

    /// Everything until the stream ends.
    pub async fn all(&mut self) -> (Vec<u8>, Event) {
        let mut bytes = Vec::new();
        loop {
            match self.event().await {
                Event::Data(piece) => bytes.extend_from_slice(&piece),
                end => return (bytes, end),
            }
        }
    }

    /// Everything, where the stream ends in order.
    pub async fn text(&mut self) -> String {
        let (bytes, end) = self.all().await;
        assert_eq!(end, Event::End);
        String::from_utf8(bytes).unwrap()
    }
}

async fn read(mut reading: impl AsyncRead + Unpin, events: Events, session: mpsc::UnboundedSender<(u16, u32)>) {
    let mut inflate = Inflate::new(true, 15);
    let mut dictionary_set = false;
    loop {
        let mut head = [0; 8];
        if reading.read_exact(&mut head).await.is_err() {
            break;
        }
        let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
        let mut body = vec![0; length];
        if reading.read_exact(&mut body).await.is_err() {
            break;
        }
        let tell = |id: u32, event: Event| {
            if let Some(stream) = events.lock().unwrap().get(&id) {
                let _ = stream.send(event);
            }
        };
        let first = u32::from_be_bytes(head[..4].try_into().unwrap());
        if first & 0x8000_0000 == 0 {
            if !body.is_empty() {
                tell(first, Event::Data(body));
            }
            if head[4] & 1 != 0 {
                tell(first, Event::End);
            }
            continue;
        }
        assert_eq!(first >> 16, 0x8003);
        let id = u32::from_be_bytes(body[..4].try_into().unwrap());
        match first & 0xffff {
            2 => {
                let mut text = [1; 64];
                let (mut rest, before) = (&body[4..], inflate.total_out());
                if !dictionary_set {
                    let read = inflate.total_in();
                    let _ = inflate.decompress(rest, &mut text, InflateFlush::SyncFlush);
                    rest = &rest[(inflate.total_in() - read) as usize..];
                    inflate.set_dictionary(&dictionary()).unwrap();
                    dictionary_set = true;
                }
                inflate.decompress(rest, &mut text, InflateFlush::SyncFlush).unwrap();
                assert_eq!((inflate.total_out() - before, &text[..4]), (4, &[0; 4][..]), "no headers");
                tell(id, Event::Reply);
            }
            3 => tell(id, Event::Reset(u32::from_be_bytes(body[4..8].try_into().unwrap()))),
            6 => _ = session.send((6, id)),
            7 => _ = session.send((7, u32::from_be_bytes(body[4..8].try_into().unwrap()))),
            kind => panic!("a control frame of type {kind}"),
        }
    }
    events.lock().unwrap().clear();
}
