//! TLS with registries that have certificates of their own and ask for ours.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;

use images::{Auth, PullError};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use support::stub::{Reply, Shelf, Stub};
use support::{Node, wasm};

/// An authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    fn sign(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        Pair { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A server's configuration with a certificate for `name`; it asks clients for one of `clients`.
    fn server(&self, name: &str, clients: Option<&Authority>) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let pair = self.sign(name);
        let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
        builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap()).unwrap()
    }
}

fn registry(config: ServerConfig) -> Stub {
    let shelf = Shelf::new(&wasm("over tls"));
    Stub::tls(config, move |seen| shelf.reply(seen))
}

/// A node, and the directory for a registry in it.
async fn node(registry: &Stub) -> (Node, std::path::PathBuf) {
    let node = Node::with(|config| config.certs_dirs = vec![config.root.with_file_name("certs.d")]).await;
    let directory = node.directory.path().join("certs.d").join(registry.address.to_string().replace(':', "_") + "_");
    std::fs::create_dir_all(&directory).unwrap();
    (node, directory)
}

fn put(directory: &Path, name: &str, text: impl AsRef<str>) {
    std::fs::write(directory.join(name), text.as_ref()).unwrap();
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_when_it_is_named_and_else_the_error_says_how() {
    let authority = Authority::new("own");
    let registry = registry(authority.server("127.0.0.1", None));
    let (node, directory) = node(&registry).await;
    let hosts = format!("server = 'https://{}'\n", registry.address);
    put(&directory, "hosts.toml", &hosts);
    let error = node.images.pull(&registry.name("a:v1"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::RegistryUnavailable { .. }), "{error}");
    assert!(error.to_string().contains("name the authority's file as `ca` in the registry's hosts.toml"), "{error}");
    assert!(registry.seen().is_empty());

    put(&directory, "own.pem", &authority.pem);
    put(&directory, "hosts.toml", hosts.clone() + "ca = 'own.pem'\n");
    node.images.pull(&registry.name("a:v1"), None).await.unwrap();
    put(&directory, "hosts.toml", hosts + "skip_verify = true\n");
    node.images.pull(&registry.name("a:v1"), None).await.unwrap();
}

#[tokio::test]
async fn a_loopback_registry_with_an_unknown_authority_is_not_asked_in_plain_http() {
    let registry = registry(Authority::new("unknown").server("127.0.0.1", None));
    let (node, _) = node(&registry).await;
    let auth = Auth { registry_token: "secret".into(), ..Auth::default() };
    let error = node.images.pull(&registry.name("a:v1"), Some(auth)).await.unwrap_err();
    assert!(error.to_string().contains("authority"), "{error}");
    assert!(registry.seen().is_empty());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new("own");
    let registry = registry(authority.server("other.example", None));
    let (node, directory) = node(&registry).await;
    put(&directory, "own.pem", &authority.pem);
    put(&directory, "hosts.toml", format!("server = 'https://{}'\nca = ['own.pem']\n", registry.address));
    let error = node.images.pull(&registry.name("a:v1"), None).await.unwrap_err();
    assert!(error.to_string().contains("its certificate is not valid"), "{error}");
}

#[tokio::test]
async fn the_client_certificate_that_the_server_asks_for_is_shown() {
    let (authority, clients, others) = (Authority::new("own"), Authority::new("clients"), Authority::new("others"));
    let registry = registry(authority.server("127.0.0.1", Some(&clients)));
    let (node, directory) = node(&registry).await;
    let (right, wrong) = (clients.sign("node"), others.sign("node"));
    for (name, text) in [("own.pem", &authority.pem), ("c.pem", &right.certificate), ("k.pem", &right.key)] {
        put(&directory, name, text);
    }
    put(&directory, "both.pem", format!("{}{}", right.certificate, right.key));
    put(&directory, "wrong.pem", format!("{}{}", wrong.certificate, wrong.key));
    let base = format!("server = 'https://{}'\nca = 'own.pem'\n", registry.address);
    for client in ["[['c.pem', 'k.pem']]", "'both.pem'", "['wrong.pem', 'both.pem']", "[['wrong.pem', ''], ['c.pem', 'k.pem']]"] {
        put(&directory, "hosts.toml", format!("{base}client = {client}\n"));
        node.images.pull(&registry.name("a:v1"), None).await.unwrap_or_else(|error| panic!("{client}: {error}"));
    }
    for client in ["", "client = 'wrong.pem'\n"] {
        put(&directory, "hosts.toml", format!("{base}{client}"));
        let error = node.images.pull(&registry.name("a:v1"), None).await.unwrap_err();
        assert!(error.to_string().contains("name certificate and key as `client`"), "{client}: {error}");
    }
    put(&directory, "hosts.toml", format!("{base}client = [['c.pem', 'wrong.pem']]\n"));
    let error = node.images.pull(&registry.name("a:v1"), None).await.unwrap_err();
    assert!(matches!(&error, PullError::RegistryConfig { detail, .. } if detail.contains("wrong.pem cannot be used")), "{error}");
}

#[tokio::test]
async fn certificates_in_dockers_layout_are_taken() {
    let (authority, clients) = (Authority::new("own"), Authority::new("clients"));
    let registry = registry(authority.server("127.0.0.1", Some(&clients)));
    let (node, directory) = node(&registry).await;
    let pair = clients.sign("node");
    put(&directory, "ca.crt", &authority.pem);
    put(&directory, "client.cert", &pair.certificate);
    put(&directory, "client.key", &pair.key);
    node.images.pull(&registry.name("a:v1"), None).await.unwrap();
}

#[tokio::test]
async fn nothing_leads_from_https_to_http() {
    let plain = Stub::new(|_| Reply::new(200, r#"{"token":"t"}"#));
    let authority = Authority::new("own");
    let address = plain.address;
    let registry = Stub::tls(authority.server("127.0.0.1", None), move |seen| match seen.target.contains("/token/") {
        true => Reply::new(401, "").header("WWW-Authenticate", format!("Bearer realm=\"http://{address}/token\"")),
        false => Reply::redirect(format!("http://{address}/x")),
    });
    let (node, directory) = node(&registry).await;
    put(&directory, "own.crt", &authority.pem);
    let error = node.images.pull(&registry.name("a:v1"), None).await.unwrap_err();
    assert!(error.to_string().contains("a redirect from HTTPS to HTTP"), "{error}");
    let auth = Auth { username: "u".into(), password: "p".into(), ..Auth::default() };
    let error = node.images.pull(&registry.name("token/a:v1"), Some(auth)).await.unwrap_err();
    assert!(error.to_string().contains("nothing is sent to it"), "{error}");
    assert!(plain.seen().is_empty());
}
