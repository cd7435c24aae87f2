//! The limits of the server. Each default stands here with its reason.

use std::time::Duration;

/// What a [`Server`](crate::Server) allows, and for how long.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is waiting to be used.
    pub tokens: TokenLimits,
    /// A session without a frame in either direction for so long is ended. 4 hours, as kubelet and containerd have it.
    pub idle: Duration,
    /// A client has so long to open the streams of a command, both streams of a forwarded connection, and a connection
    /// inside the pod may take so long. 30 s, which is also how long client-go waits for each of its streams.
    pub creation: Duration,
    /// A connection has so long until its request is read and answered, the TLS handshake included. 10 s.
    pub request: Duration,
    /// After the last byte was sent, what the client still sends is read and thrown away for so long: closing a socket
    /// with unread input resets it, which can take the last bytes with it. 2 s.
    pub drain: Duration,
    /// TCP connections that are served at once; those beyond are answered 503. 1024: four for each pod of a large node.
    pub connections: usize,
    /// Bytes that one stream of a client may hold unread before its whole connection waits: neither SPDY as Kubernetes
    /// speaks it nor WebSocket can stop one stream alone. 1 MiB.
    pub stream_buffer: usize,
    /// Bytes that all streams of all connections may hold unread together. When they are used up, a stream still holds
    /// 32 KiB before its connection waits, so nobody stands still for the sake of others. 32 MiB.
    pub shared_buffer: usize,
    /// Forwarded connections that are open at once in one session; those beyond are refused. 256; how many there are one
    /// after another has no limit.
    pub forwards: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tokens: TokenLimits::default(),
            idle: Duration::from_secs(4 * 60 * 60),
            creation: Duration::from_secs(30),
            request: Duration::from_secs(10),
            drain: Duration::from_secs(2),
            connections: 1024,
            stream_buffer: 1024 * 1024,
            shared_buffer: 32 * 1024 * 1024,
            forwards: 256,
        }
    }
}

/// How long and how many tokens wait to be used.
#[derive(Clone, Debug)]
pub struct TokenLimits {
    /// A token that nobody used for so long is worth nothing any more. 1 minute, as the reference server has it.
    pub lifetime: Duration,
    /// So many tokens wait at once; the next is an error. 1000, as the reference server has it.
    pub waiting: usize,
}

impl Default for TokenLimits {
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(60), waiting: 1000 }
    }
}
