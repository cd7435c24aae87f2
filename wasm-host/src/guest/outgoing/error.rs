//! What a guest is told of a request that failed: codes of `wasi:http/types.error-code`.

use std::error::Error as StdError;
use std::io;

use hyper_util::client::legacy;
use rustls::{AlertDescription, CertificateError};
use wasmtime_wasi_http::Error;

use super::connect::Denied;

/// A name that could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("dns error")]
pub(super) struct Dns(#[source] pub(super) io::Error);

/// The code for the innermost cause that is known.
pub(super) fn of_request(error: &legacy::Error) -> Error {
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    for cause in causes {
        if cause.is::<Denied>() {
            return Error::HttpRequestDenied;
        }
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return of_tls(error);
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            if let Some(tls) = tls_within(error) {
                return of_tls(tls);
            }
            if error.raw_os_error().is_some() {
                return of_io(error);
            }
        }
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && error.is_incomplete_message()
        {
            return Error::HttpResponseIncomplete;
        }
        // The resolver's error has no type of its own; this is how hyper-util marks it.
        if error.is_connect() && cause.to_string() == "dns error" {
            return Error::DnsError { rcode: cause.source().map(ToString::to_string), info_code: None };
        }
    }
    if error.is_connect() { Error::DestinationUnavailable } else { Error::HttpProtocolError }
}

/// An I/O error does not name what it was made of as its source, but that one's source.
fn tls_within(error: &io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    inner.downcast_ref().or_else(|| tls_within(inner.downcast_ref()?))
}

fn of_io(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Error::ConnectionTerminated
        }
        // As netfilter rejects, and as a seccomp profile forbids.
        io::ErrorKind::PermissionDenied => Error::DestinationIpProhibited,
        _ => Error::DestinationUnavailable,
    }
}

fn of_tls(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => Error::TlsProtocolError,
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Error::TlsCertificateError,
        rustls::Error::AlertReceived(alert) => {
            let message = Some(format!("{alert:?}"));
            Error::TlsAlertReceived { alert_id: Some(number(*alert)), alert_message: message }
        }
        _ => Error::TlsProtocolError,
    }
}

fn number(alert: AlertDescription) -> u8 {
    alert.into()
}
