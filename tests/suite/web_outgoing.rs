//! Requests that guests make: their connections, whom they trust over TLS, which trace they belong to, and where they may go.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tonic::Code;

use crate::harness::guests::{WEB, WEB_P3};
use crate::harness::{Node, cri, netns};
use crate::network::{bridged, pod_config};
use crate::web::{Service, declaring, start, with_handler};

/// A server of the test's own on the node, which answers with the head of the request.
struct Server {
    at: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

fn serve(node: &Node, tls: Option<Arc<ServerConfig>>) -> Server {
    let listener = netns::inside(node.netns.as_ref().unwrap(), || TcpListener::bind("0.0.0.0:0")).unwrap();
    // The bridge's address.
    let at = SocketAddr::from(([10, 88, 0, 1], listener.local_addr().unwrap().port()));
    let (connections, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (counted, seen) = (Arc::clone(&connections), Arc::clone(&heads));
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let (seen, tls) = (Arc::clone(&seen), tls.clone());
            thread::spawn(move || match tls {
                None => answer(stream, &seen),
                Some(tls) => answer(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &seen),
            });
        }
    });
    Server { at, connections, heads }
}

fn answer(mut stream: impl Read + Write, seen: &Mutex<Vec<String>>) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(length) if length > 0 => bytes.extend_from_slice(&piece[..length]),
            _ => return,
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes.drain(..end + 4);
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        seen.lock().unwrap().push(head);
        if stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// An authority, and a server's certificate for the bridge's address by it.
fn certificates() -> (String, Arc<ServerConfig>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["10.88.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    (authority.pem(), Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

#[test]
fn a_guest_asks_other_servers_and_uses_connections_again() {
    for guest in [WEB, WEB_P3] {
        let Some(node) = bridged(&[guest]) else { return };
        let server = serve(&node, None);
        let service = start(node, guest, &[("web", 80)]);
        for _ in 0..5 {
            let (status, text) = service.get(&format!("/fetch?http://{}/some/path?a=b", server.at), &[]);
            assert_eq!(status, 200, "{text}");
            assert!(text.starts_with("GET /some/path?a=b HTTP/1.1"), "{text}");
            assert!(text.to_lowercase().contains(&format!("host: {}", server.at)), "{text}");
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
        // Another pod's service, by its address: here, its own.
        assert_eq!(service.get(&format!("/fetch?http://{}/hello", service.at), &[]).1, "hello\n");
        service.finish();
    }
}

#[test]
fn what_goes_wrong_on_the_way_has_a_code_of_its_own() {
    let Some(node) = bridged(&[WEB]) else { return };
    let service = start(node, WEB, &[("web", 80)]);
    let code = |url: &str| {
        let (status, text) = service.get(&format!("/fetch?{url}"), &[]);
        assert_eq!(status, 502, "{text}");
        text
    };
    assert!(code("http://10.88.0.1:1/").contains("ConnectionRefused"));
    assert!(code("http://no-such-name.invalid/").contains("DnsError"));
    assert!(code("http://203.0.113.1/").contains("Unroutable") || code("http://203.0.113.1/").contains("Unavailable"));
    let silent = netns::inside(service.node.netns.as_ref().unwrap(), || TcpListener::bind("0.0.0.0:0")).unwrap();
    let port = silent.local_addr().unwrap().port();
    thread::spawn(move || silent.accept().map(|(stream, _)| drop::<TcpStream>(stream)));
    let broken = code(&format!("http://10.88.0.1:{port}/"));
    assert!(broken.contains("HttpResponseIncomplete") || broken.contains("ConnectionTerminated"), "{broken}");
    service.finish();
}

#[test]
fn a_guest_trusts_whom_its_container_trusts() {
    let Some(node) = bridged(&[WEB]) else { return };
    let (authority, tls) = certificates();
    let server = serve(&node, Some(tls));
    let file = node.place.files.join("authority.pem");
    std::fs::write(&file, authority).unwrap();
    let service = start(node, WEB, &[("web", 80)]);
    let url = format!("/fetch?https://{}/", server.at);
    // The public authorities, which know nothing of this server.
    let (status, text) = service.get(&url, &[]);
    assert!(status == 502 && text.contains("TlsCertificateError"), "{text}");
    let mount = |path: &str| cri::Mount {
        host_path: file.display().to_string(),
        container_path: path.to_owned(),
        readonly: true,
        ..Default::default()
    };
    let Service { node, pod, at, .. } = service;
    let ip = at.rsplit_once(':').unwrap().0.to_owned();
    for (name, port, config) in [
        (
            "list",
            81,
            cri::ContainerConfig { mounts: vec![mount("/etc/ssl/certs/ca-certificates.crt")], ..declaring(WEB, &[("web", 81)]) },
        ),
        (
            "named",
            82,
            cri::ContainerConfig {
                mounts: vec![mount("/trusted/ca.pem")],
                envs: vec![cri::KeyValue { key: "SSL_CERT_FILE".into(), value: "/trusted/ca.pem".into() }],
                ..declaring(WEB, &[("web", 82)])
            },
        ),
    ] {
        let mut config = config;
        config.metadata.as_mut().unwrap().name = name.to_owned();
        node.launch(&pod, &config);
        let (status, text) = crate::web::get(&node, &format!("{ip}:{port}"), &url, &[]);
        assert!(status == 200 && text.starts_with("GET / HTTP/1.1"), "{name}: {status} {text}");
    }
    node.remove_pod(&pod.id).unwrap();
    node.finish();
}

#[test]
fn a_request_belongs_to_the_trace_of_the_one_that_caused_it() {
    let Some(node) = bridged(&[WEB]) else { return };
    let server = serve(&node, None);
    let service = start(node, WEB, &[("web", 80)]);
    let traceparent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let url = format!("/fetch?http://{}/", server.at);
    service.get(&url, &["--header", traceparent, "--header", "tracestate: a=1"]);
    service.get(&url, &[]);
    let heads = server.heads.lock().unwrap();
    assert!(heads[0].contains(traceparent) && heads[0].contains("tracestate: a=1"), "{}", heads[0]);
    assert!(!heads[1].contains("traceparent"), "{}", heads[1]);
    drop(heads);
    assert!(service.get("/headers", &["--header", traceparent]).1.contains(traceparent));
    service.finish();
}

#[test]
fn guests_connect_where_their_handler_and_their_pod_allow_it() {
    let Some(node) = with_handler(WEB, "egress = [\"10.88.0.1\", \"localhost\", \"*.invalid:80\"]\n") else { return };
    let server = serve(&node, None);
    let fetch = |service: &Service, host: &str| {
        let (status, text) = service.get(&format!("/fetch?http://{host}:{}/", server.at.port()), &[]);
        (status, text)
    };
    let service = start(node, WEB, &[("web", 80)]);
    assert_eq!(fetch(&service, "10.88.0.1").0, 200);
    // Allowed, and nobody listens there: the pod's own.
    assert!(fetch(&service, "localhost").1.contains("ConnectionRefused"));
    assert!(fetch(&service, "127.0.0.1").1.contains("HttpRequestDenied"));
    assert!(fetch(&service, "name.invalid").1.contains("Denied") || fetch(&service, "name.invalid").1.contains("DnsError"));
    let Service { node, pod, .. } = service;
    node.remove_pod(&pod.id).unwrap();
    let mut config = pod_config(&node, "narrow");
    config.annotations.insert("cri-wasm.dev/egress".to_owned(), "10.88.0.1:1".to_owned());
    let service = crate::web::start_in(node, &config, WEB, &[("web", 80)]);
    assert!(fetch(&service, "10.88.0.1").1.contains("HttpRequestDenied"));
    config.annotations.insert("cri-wasm.dev/egress".to_owned(), "http://10.88.0.1".to_owned());
    let refused = service.node.run_pod(&config).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("cri-wasm.dev/egress") && refused.message().contains("http://10.88.0.1"), "{refused}");
    service.finish();
}
