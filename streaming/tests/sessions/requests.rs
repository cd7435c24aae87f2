//! What is asked before a session: tokens, handshakes, limits, TLS.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use streaming::{Config, Outcome, TokenLimits, UrlError, Wanted};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::support::spdy::Client;
use crate::support::{ALL, OUT, Rig, Run, http, soon};

const V4: &str = "v4.channel.k8s.io";

fn say() -> Run {
    Run::Say("x", "", Outcome::Success)
}

#[tokio::test]
async fn a_token_is_good_for_one_request_whatever_comes_of_it() {
    let rig = Rig::new().await;
    let path = rig.exec(say(), OUT);
    assert_eq!(http::spdy(rig.address, &path, &[V4]).await.status, 101);
    assert_eq!(http::spdy(rig.address, &path, &[V4]).await.status, 404);
    let refused = rig.exec(say(), OUT);
    let answer = http::spdy(rig.address, &refused, &["v9.channel.k8s.io"]).await;
    assert_eq!((answer.status, answer.header("X-Accepted-Stream-Protocol-Versions").len()), (403, 4));
    assert_eq!(http::spdy(rig.address, &refused, &[V4]).await.status, 404);
    assert_eq!(http::request(rig.address, "POST", &rig.exec(say(), OUT), &[]).await.status, 400);
    assert_eq!(http::spdy(rig.address, &rig.exec(say(), OUT), &[]).await.status, 400);
    assert_eq!(http::spdy(rig.address, &rig.exec(say(), OUT).replace("exec", "attach"), &[V4]).await.status, 404);
    assert_eq!(http::spdy(rig.address, "/exec/AAAAAAAAAAAAAAAAAAAAAA", &[V4]).await.status, 404);
    assert_eq!(http::request(rig.address, "GET", "/", &[]).await.status, 404);
    assert_eq!(http::request(rig.address, "DELETE", &rig.exec(say(), OUT), &[]).await.status, 405);
    // GET does as well as POST, and a query does not matter.
    let headers = [("Connection", "upgrade"), ("Upgrade", "spdy/3.1"), ("X-Stream-Protocol-Version", "v9, v4.channel.k8s.io")];
    assert_eq!(http::request(rig.address, "GET", &(rig.exec(say(), OUT) + "?x=y"), &headers).await.status, 101);
}

#[tokio::test]
async fn urls_are_given_for_what_can_be_and_up_to_the_limit() {
    let tokens = TokenLimits { waiting: 2, lifetime: Duration::from_secs(2) };
    let rig = Rig::with(Config { tokens, ..Default::default() }).await;
    let command = |wanted| rig.server.command_url(streaming::Kind::Exec, say(), wanted);
    assert_eq!(command(Wanted { tty: true, ..ALL }), Err(UrlError::StderrOfTerminal));
    assert_eq!(command(Wanted::default()), Err(UrlError::NoStream));
    let (old, _other) = (command(OUT).unwrap(), rig.forward());
    assert_eq!(command(OUT), Err(UrlError::Full(2)));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(http::spdy(rig.address, &old, &[V4]).await.status, 404);
    assert!(command(OUT).is_ok());
}

#[tokio::test]
async fn beyond_the_limit_of_connections_a_client_is_told_to_come_again() {
    let mut rig = Rig::with(Config { connections: 1, ..Default::default() }).await;
    let (first, second) = (rig.exec(Run::Hang, OUT), rig.exec(say(), OUT));
    let mut client = Client::open(rig.address, &first, V4).await;
    let streams = (client.typed("error").await, client.typed("stdout").await);
    assert_eq!(http::spdy(rig.address, &second, &[V4]).await.status, 503);
    drop((client, streams));
    assert_eq!(rig.notice().await, "gone");
    // The token was not looked at.
    let mut answer = http::spdy(rig.address, &second, &[V4]).await;
    while answer.status == 503 {
        answer = http::spdy(rig.address, &second, &[V4]).await;
    }
    assert_eq!(answer.status, 101);
}

#[tokio::test]
async fn a_request_that_is_slow_or_huge_is_not_waited_for() {
    let rig = Rig::with(Config { request: Duration::from_millis(200), ..Default::default() }).await;
    for part in ["", "POST /exec/", "POST /exec/x HTTP/1.1\r\nHost: x\r\n"] {
        let mut tcp = TcpStream::connect(rig.address).await.unwrap();
        tcp.write_all(part.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = soon(tcp.read_to_string(&mut answer)).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    let mut tcp = TcpStream::connect(rig.address).await.unwrap();
    let _ = tcp.write_all(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000)).as_bytes()).await;
    let mut answer = Vec::new();
    let _ = soon(tcp.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains(" 101 "));
}

#[tokio::test]
async fn tls_is_spoken_where_it_is_configured() {
    let rig = Rig::new().await;
    let key = rcgen::generate_simple_self_signed(["node".to_owned()]).unwrap();
    let certificate = key.cert.der().clone();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate.clone()], private).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(rig.server.clone().serve(listener, Some(Arc::new(config)), stop.clone()));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()));
    let tcp = TcpStream::connect(address).await.unwrap();
    let mut tls = connector.connect(ServerName::try_from("node").unwrap(), tcp).await.unwrap();
    let path = rig.exec(Run::Cat, ALL);
    let head = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
    tls.write_all(format!("POST {path} HTTP/1.1\r\nHost: node\r\n{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tls.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    let mut client = Client::on(Box::new(tls));
    let (mut error, stdin) = (client.typed("error").await, client.typed("stdin").await);
    let (mut stdout, _stderr) = (client.typed("stdout").await, client.typed("stderr").await);
    let big = "secret ".repeat(100_000);
    let send = async {
        stdin.send(big.as_bytes()).await;
        stdin.fin().await;
    };
    let ((), echo) = tokio::join!(send, stdout.text());
    assert!(echo == big);
    assert_eq!(error.text().await, r#"{"status":"Success"}"#);
    stop.cancel();
    soon(serving).await.unwrap();
}
