//! Which protocol a request is answered with. A pure function of its headers.
//!
//! | session | transport | protocols that are known, of which the client's first wins |
//! | --- | --- | --- |
//! | exec, attach | SPDY | `v4.channel.k8s.io`, `v3…`, `v2…`, `channel.k8s.io` |
//! | exec, attach | WebSocket | `v5.channel.k8s.io`, `v4…`, `v4.base64…`, `base64.v4…`, `channel.k8s.io`, `base64.channel.k8s.io`, none |
//! | port-forward | SPDY | `portforward.k8s.io` |
//! | port-forward | WebSocket | `SPDY/3.1+portforward.k8s.io`, `v4.channel.k8s.io`, `v4.base64.channel.k8s.io`, none |
//!
//! v5 is not spoken over SPDY: it adds a half-close to WebSocket, which SPDY has, and the reference server does not know it.

use hyper::header::{CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{Method, StatusCode};

use crate::status::Style;
use crate::token::Door;

/// Offers over SPDY.
pub(crate) const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What could have been offered.
pub(crate) const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
/// Offers over WebSocket.
pub(crate) const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");

/// What is spoken after the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A command over SPDY; `sizes`: with a stream for the sizes of a terminal.
    SpdyCommand { style: Style, sizes: bool },
    /// A port-forward over SPDY.
    SpdyForward,
    /// A command over WebSocket; `closing`: the client can close a channel.
    WebSocketCommand { style: Style, base64: bool, closing: bool },
    /// A port-forward whose ports the request named.
    WebSocketForward { base64: bool },
    /// SPDY inside of WebSocket.
    Tunnel,
}

/// An answer that changes the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) protocol: Protocol,
    /// As the client wrote it; empty if it offered none.
    pub(crate) name: String,
    /// For the WebSocket handshake.
    pub(crate) key: Option<Vec<u8>>,
}

/// An answer that does not.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declined {
    pub(crate) status: StatusCode,
    pub(crate) reason: String,
    /// What would be accepted, where that is the trouble.
    pub(crate) accepted: Vec<&'static str>,
}

type Known = [(&'static str, Protocol)];

const SPDY_COMMAND: &Known = &[
    ("v4.channel.k8s.io", Protocol::SpdyCommand { style: Style::Json, sizes: true }),
    ("v3.channel.k8s.io", Protocol::SpdyCommand { style: Style::Text, sizes: true }),
    ("v2.channel.k8s.io", Protocol::SpdyCommand { style: Style::Text, sizes: false }),
    ("channel.k8s.io", Protocol::SpdyCommand { style: Style::Text, sizes: false }),
];
const SPDY_FORWARD: &Known = &[("portforward.k8s.io", Protocol::SpdyForward)];
const WEBSOCKET_COMMAND: &Known = &[
    ("v5.channel.k8s.io", Protocol::WebSocketCommand { style: Style::Json, base64: false, closing: true }),
    ("v4.channel.k8s.io", Protocol::WebSocketCommand { style: Style::Json, base64: false, closing: false }),
    ("v4.base64.channel.k8s.io", Protocol::WebSocketCommand { style: Style::Json, base64: true, closing: false }),
    ("base64.v4.channel.k8s.io", Protocol::WebSocketCommand { style: Style::Json, base64: true, closing: false }),
    ("channel.k8s.io", Protocol::WebSocketCommand { style: Style::Text, base64: false, closing: false }),
    ("base64.channel.k8s.io", Protocol::WebSocketCommand { style: Style::Text, base64: true, closing: false }),
    ("", Protocol::WebSocketCommand { style: Style::Text, base64: false, closing: false }),
];
const WEBSOCKET_FORWARD: &Known = &[
    ("SPDY/3.1+portforward.k8s.io", Protocol::Tunnel),
    ("v4.channel.k8s.io", Protocol::WebSocketForward { base64: false }),
    ("v4.base64.channel.k8s.io", Protocol::WebSocketForward { base64: true }),
    ("", Protocol::WebSocketForward { base64: false }),
];

/// Answers a request whose token was good.
pub(crate) fn negotiate(door: Door, method: &Method, headers: &HeaderMap) -> Result<Agreed, Declined> {
    let command = door != Door::Forward;
    if !words(headers, &CONNECTION).any(|word| word.eq_ignore_ascii_case("upgrade")) {
        return Err(declined(StatusCode::BAD_REQUEST, "unable to upgrade: the header Connection does not say Upgrade"));
    }
    if words(headers, &UPGRADE).any(|word| word.eq_ignore_ascii_case("websocket")) {
        let known = if command { WEBSOCKET_COMMAND } else { WEBSOCKET_FORWARD };
        return websocket(known, method, headers);
    }
    if !words(headers, &UPGRADE).any(|word| word.eq_ignore_ascii_case("spdy/3.1")) {
        return Err(declined(
            StatusCode::BAD_REQUEST,
            "unable to upgrade: the header Upgrade names neither SPDY/3.1 nor websocket",
        ));
    }
    let offers: Vec<_> = words(headers, &STREAM_PROTOCOL).collect();
    if offers.is_empty() {
        return Err(declined(StatusCode::BAD_REQUEST, "unable to upgrade: no X-Stream-Protocol-Version names a protocol"));
    }
    let known = if command { SPDY_COMMAND } else { SPDY_FORWARD };
    let (name, protocol) = choose(&offers, known)?;
    Ok(Agreed { protocol, name, key: None })
}

fn websocket(known: &'static Known, method: &Method, headers: &HeaderMap) -> Result<Agreed, Declined> {
    // RFC 6455, 4.2.1.
    if method != Method::GET {
        return Err(declined(StatusCode::BAD_REQUEST, "a WebSocket begins with GET"));
    }
    if !words(headers, &SEC_WEBSOCKET_VERSION).any(|version| version == "13") {
        return Err(declined(StatusCode::BAD_REQUEST, "Sec-WebSocket-Version 13 is spoken here"));
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().to_vec());
    let key = key.ok_or_else(|| declined(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing"))?;
    let mut offers: Vec<_> = words(headers, &WEBSOCKET_PROTOCOL).collect();
    if offers.is_empty() {
        offers.push("");
    }
    let (name, protocol) = choose(&offers, known)?;
    Ok(Agreed { protocol, name, key: Some(key) })
}

/// The first of the client's offers that is known.
fn choose(offers: &[&str], known: &'static Known) -> Result<(String, Protocol), Declined> {
    let found = offers.iter().find_map(|offer| known.iter().find(|(name, _)| name == offer));
    let (name, protocol) = found.ok_or_else(|| {
        let accepted = known.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
        let reason = "unable to upgrade: none of the client's protocols is known".to_owned();
        Declined { status: StatusCode::FORBIDDEN, reason, accepted }
    })?;
    Ok(((*name).to_owned(), protocol.clone()))
}

/// The words of a header that may come more than once and hold lists.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    let lists = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// An answer that names its reason alone.
pub(crate) fn declined(status: StatusCode, reason: &str) -> Declined {
    Declined { status, reason: reason.to_owned(), accepted: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(door: Door, method: Method, headers: &[(&str, &str)]) -> Result<(Protocol, String), (u16, usize)> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        negotiate(door, &method, &map)
            .map(|agreed| (agreed.protocol, agreed.name))
            .map_err(|declined| (declined.status.as_u16(), declined.accepted.len()))
    }

    fn spdy(door: Door, offers: &[&str]) -> Result<(Protocol, String), (u16, usize)> {
        let mut headers = vec![("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
        headers.extend(offers.iter().map(|offer| ("X-Stream-Protocol-Version", *offer)));
        ask(door, Method::POST, &headers)
    }

    fn socket(door: Door, offers: &[&str]) -> Result<(Protocol, String), (u16, usize)> {
        let fixed = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket"), ("sec-websocket-version", "13")];
        let mut headers = [&fixed[..], &[("sec-websocket-key", "x")]].concat();
        headers.extend(offers.iter().map(|offer| ("sec-websocket-protocol", *offer)));
        ask(door, Method::GET, &headers)
    }

    #[test]
    fn the_clients_first_known_protocol_wins() {
        let v4 = Protocol::SpdyCommand { style: Style::Json, sizes: true };
        let kubelet = ["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
        assert_eq!(spdy(Door::Exec, &kubelet), Ok((v4.clone(), "v4.channel.k8s.io".into())));
        assert_eq!(spdy(Door::Attach, &["x, v4.channel.k8s.io ,channel.k8s.io"]), Ok((v4, "v4.channel.k8s.io".into())));
        let v1 = Protocol::SpdyCommand { style: Style::Text, sizes: false };
        assert_eq!(spdy(Door::Exec, &["channel.k8s.io, v4.channel.k8s.io"]), Ok((v1, "channel.k8s.io".into())));
        assert_eq!(spdy(Door::Forward, &["portforward.k8s.io"]), Ok((Protocol::SpdyForward, "portforward.k8s.io".into())));
        assert_eq!(socket(Door::Forward, &["SPDY/3.1+portforward.k8s.io"]).unwrap().0, Protocol::Tunnel);
        assert_eq!(socket(Door::Forward, &[]).unwrap(), (Protocol::WebSocketForward { base64: false }, String::new()));
        let v5 = Protocol::WebSocketCommand { style: Style::Json, base64: false, closing: true };
        assert_eq!(socket(Door::Exec, &["v5.channel.k8s.io"]).unwrap().0, v5);
        let none = Protocol::WebSocketCommand { style: Style::Text, base64: false, closing: false };
        assert_eq!(socket(Door::Exec, &[]).unwrap(), (none, String::new()));
        for base64 in ["v4.base64.channel.k8s.io", "base64.v4.channel.k8s.io", "base64.channel.k8s.io"] {
            let (protocol, name) = socket(Door::Attach, &["other", base64]).unwrap();
            assert!(matches!(protocol, Protocol::WebSocketCommand { base64: true, .. }) && name == base64);
        }
    }

    #[test]
    fn what_is_not_understood_is_declined() {
        assert_eq!(spdy(Door::Exec, &[]), Err((400, 0)));
        assert_eq!(spdy(Door::Exec, &[" , "]), Err((400, 0)));
        assert_eq!(spdy(Door::Exec, &["v9.channel.k8s.io", "portforward.k8s.io"]), Err((403, 4)));
        assert_eq!(spdy(Door::Forward, &["v4.channel.k8s.io"]), Err((403, 1)));
        assert_eq!(socket(Door::Exec, &["SPDY/3.1+portforward.k8s.io"]), Err((403, 6)));
        assert_eq!(socket(Door::Forward, &["v5.channel.k8s.io"]), Err((403, 3)));
        assert_eq!(ask(Door::Exec, Method::POST, &[]), Err((400, 0)));
        assert_eq!(ask(Door::Exec, Method::POST, &[("connection", "upgrade"), ("upgrade", "h2c")]), Err((400, 0)));
        let socket = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
        assert_eq!(ask(Door::Exec, Method::GET, &socket), Err((400, 0)));
        assert_eq!(ask(Door::Exec, Method::POST, &socket), Err((400, 0)));
    }
}
