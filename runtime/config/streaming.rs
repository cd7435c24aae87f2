//! The keys about the streaming server: exec, attach and port-forward.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

section! {
    /// The server of exec, attach and port-forward, to which the kubelet sends its clients' connections.
    pub struct Streaming {
        /// Where it listens, `ADDRESS:PORT`; port 0 takes any that is free. The kubelet is on the same node.
        pub address: String = "127.0.0.1:0".to_owned(),
        /// Whether `address` may be one that other machines reach. Whoever has a token then is inside a pod, and without
        /// TLS everybody on the way can have it.
        pub allow_remote: bool = false,
        /// The server's certificate with its chain, and its key, PEM; both or none. The kubelet checks it against the
        /// authorities of the node's system.
        pub tls_certificate: Option<PathBuf> = None,
        /// See `tls_certificate`.
        pub tls_key: Option<PathBuf> = None,
        /// How long a URL that was given out may be used, in seconds. Each is good for one client.
        pub token_seconds: u64 = 60,
        /// How many URLs may wait for their clients.
        pub max_tokens: u64 = 1000,
        /// How long a session may be silent before it is ended, in seconds: the kubelet's own default.
        pub idle_seconds: u64 = 4 * 60 * 60,
        /// How many connections are served at once.
        pub max_connections: u64 = 1024,
    }
}

impl Streaming {
    /// Why these values cannot be used: the key, its value and the reason.
    pub(super) fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        let address: SocketAddr = match self.address.parse() {
            Ok(address) => address,
            Err(_) => return Err(("streaming.address", self.address.clone(), "it is ADDRESS:PORT, such as \"127.0.0.1:0\"")),
        };
        if !address.ip().is_loopback() && !self.allow_remote {
            let reason = "others than this node reach it; say `allow_remote = true` beside it if they are to";
            return Err(("streaming.address", self.address.clone(), reason));
        }
        match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), None) => {
                Err(("streaming.tls_certificate", certificate.display().to_string(), "a certificate needs its tls_key"))
            }
            (None, Some(key)) => Err(("streaming.tls_key", key.display().to_string(), "a key needs its tls_certificate")),
            _ => Ok(()),
        }
    }

    /// TLS as it was asked for; `None`: plain HTTP.
    ///
    /// # Errors
    /// A file cannot be read, or the two do not belong together.
    pub fn tls(&self) -> anyhow::Result<Option<Arc<ServerConfig>>> {
        let (Some(certificate), Some(key)) = (&self.tls_certificate, &self.tls_key) else { return Ok(None) };
        let tls = load(certificate, key)
            .with_context(|| format!("TLS of the streaming server, of {} and {}", certificate.display(), key.display()))?;
        Ok(Some(Arc::new(tls)))
    }
}

fn load(certificate: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        bail!("the first has no certificate in it");
    }
    let key = PrivateKeyDer::from_pem_file(key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_no_client_auth().with_single_cert(chain, key)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_loopback_only_where_that_is_said() {
        let at = |address: &str, allow_remote| Streaming { address: address.to_owned(), allow_remote, ..Streaming::default() };
        for (address, allow_remote, fits) in [
            ("127.0.0.1:0", false, true),
            ("[::1]:10010", false, true),
            ("0.0.0.0:10010", false, false),
            ("0.0.0.0:10010", true, true),
            ("localhost", false, false),
        ] {
            assert_eq!(at(address, allow_remote).check().is_ok(), fits, "{address}");
        }
    }

    #[test]
    fn a_certificate_and_its_key_come_together_and_are_read() {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str| Some(place.path().join(name));
        let only = Streaming { tls_certificate: file("cert"), ..Streaming::default() };
        assert!(only.check().is_err());
        let both = Streaming { tls_key: file("key"), ..only };
        assert!(both.check().is_ok());
        assert!(both.tls().unwrap_err().to_string().contains("cert"), "it names the files that are not there");
        assert!(Streaming::default().tls().unwrap().is_none());
    }
}
