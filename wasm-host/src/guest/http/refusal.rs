//! Answers of the service itself, where no guest answers.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::WasiBody;

/// Why a request has no answer of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// As many requests wait as may.
    Busy,
    /// The guest's time is over.
    TimedOut,
    /// It trapped, or ended without an answer.
    Failed,
    /// There is no memory for another instance.
    NoInstance,
    /// A request of HTTP/1.1 without the header that it must have.
    NoHost,
    /// The client wants to speak another protocol on this connection.
    Upgrade,
}

impl Refusal {
    pub(super) fn response(self, version: Version) -> Response<WasiBody> {
        let (status, text) = match self {
            Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many requests wait for the service\n"),
            Refusal::NoInstance => (StatusCode::SERVICE_UNAVAILABLE, "there is no room for another instance of the service\n"),
            Refusal::TimedOut => (StatusCode::GATEWAY_TIMEOUT, "the service did not answer in time\n"),
            Refusal::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "the service failed to answer; its log says why\n"),
            Refusal::NoHost => (StatusCode::BAD_REQUEST, "the request has no header Host\n"),
            Refusal::Upgrade => {
                (StatusCode::NOT_IMPLEMENTED, "the service speaks HTTP alone; there is no upgrade to another protocol\n")
            }
        };
        let body = Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {});
        let mut response = Response::new(body.boxed_unsync());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // What the client sends next is not HTTP.
        if self == Refusal::Upgrade && version < Version::HTTP_2 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
