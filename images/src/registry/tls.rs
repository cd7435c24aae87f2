//! How TLS is spoken with one host: its authorities beside the system's, and the certificates that say who we are.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// What clients are built from, and kept by.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct TlsSettings {
    pub(super) ca: Vec<CertificateDer<'static>>,
    /// Chain, key, and the file of the key for messages.
    pub(super) client: Vec<(Vec<CertificateDer<'static>>, Vec<u8>, PathBuf)>,
    pub(super) skip_verify: bool,
    pub(super) dial_timeout: Option<Duration>,
}

/// The configuration of TLS; the error is a clause.
pub(super) fn config(settings: &TlsSettings) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let algorithms = provider.signature_verification_algorithms;
    let builder = if settings.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(algorithms)))
    } else {
        match rustls_platform_verifier::Verifier::new_with_extra_roots(settings.ca.iter().cloned(), provider.clone()) {
            Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)),
            // A node without certificates still pulls in plain HTTP, and is told what it needs when it does not.
            Err(error) if settings.ca.is_empty() => {
                tracing::debug!(%error, "no authorities on this node");
                builder.with_root_certificates(RootCertStore::empty())
            }
            Err(error) => return Err(format!("one of its authorities' certificates cannot be used: {error}")),
        }
    };
    let mut keys = Vec::new();
    for (chain, key, path) in &settings.client {
        let key = PrivateKeyDer::try_from(key.clone());
        let key = key
            .map_err(|error| error.to_owned())
            .and_then(|key| CertifiedKey::from_der(chain.clone(), key, &provider).map_err(|error| error.to_string()));
        keys.push(Arc::new(key.map_err(|error| format!("the key in {} cannot be used: {error}", path.display()))?));
    }
    let mut config =
        if keys.is_empty() { builder.with_no_client_auth() } else { builder.with_client_cert_resolver(Arc::new(Choice(keys))) };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What an operator can do about an error of TLS; nothing where it is another.
pub(super) fn remedy(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<Error>() {
            Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                return Some(
                    "its certificate is of an authority that this node does not know; name the authority's file as `ca` \
                     in the registry's hosts.toml, or install the package ca-certificates if the registry is a public one",
                );
            }
            Some(Error::InvalidCertificate(_)) => return Some("its certificate is not valid"),
            Some(Error::AlertReceived(
                rustls::AlertDescription::CertificateRequired
                | rustls::AlertDescription::BadCertificate
                | rustls::AlertDescription::UnknownCA
                | rustls::AlertDescription::CertificateUnknown
                | rustls::AlertDescription::HandshakeFailure,
            )) => {
                return Some(
                    "it wants a client certificate, or another one; name certificate and key as `client` in the registry's \
                     hosts.toml",
                );
            }
            Some(_) => return Some("TLS failed"),
            None => {}
        }
        // An I/O error hides what it wraps from `source`.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Chooses the certificate that the server's list of authorities asks for, as Go and so containerd do.
#[derive(Debug)]
struct Choice(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Choice {
    fn resolve(&self, authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let can_sign = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let issued = |key: &&Arc<CertifiedKey>| {
            key.cert.iter().any(|certificate| issuer(certificate).is_some_and(|issuer| authorities.contains(&issuer)))
        };
        let mut candidates = self.0.iter().filter(can_sign);
        match candidates.clone().find(issued) {
            Some(key) => Some(key.clone()),
            // One that the server may know by itself is better than none.
            None => candidates.next().cloned(),
        }
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The issuer's name in DER with its tag, as servers list it: what comes after version, serial number and algorithm
/// (RFC 5280 §4.1).
fn issuer(certificate: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    // The version is left out in certificates of version 1.
    if rest.first() == Some(&0xa0) {
        rest = element(rest)?.2;
    }
    let rest = element(element(rest)?.2)?.2;
    rest.get(..rest.len() - element(rest)?.2.len())
}

/// One element of DER: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    let (content, after) = rest.split_at_checked(length)?;
    Some((tag, content, after))
}

/// For `skip_verify`: whoever answers is taken for the host. What it signs must still be signed by it.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// The provider of the whole process; reqwest asks for it.
pub(super) fn install_provider() {
    // The error says that one is there already: whichever, it serves.
    let _already = CryptoProvider::install_default(rustls::crypto::ring::default_provider());
}
