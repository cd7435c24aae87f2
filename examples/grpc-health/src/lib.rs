//! A service of gRPC: `grpc.health.v1.Health/Check`, which Kubernetes' grpc probes call. HTTP/2 is the runtime's affair; to a
//! component, a call is a request whose body is a message behind five bytes of length, and an answer the same with its status as a
//! trailer.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::StreamError;

wasip2::http::proxy::export!(Health);

struct Health;

/// Codes of gRPC.
const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const NOT_FOUND: &str = "5";
const UNIMPLEMENTED: &str = "12";

/// `HealthCheckResponse { status: SERVING }`, and NOT_SERVING: field 1 with the value 1 or 2.
const SERVING: [u8; 2] = [0x08, 1];
const NOT_SERVING: [u8; 2] = [0x08, 2];

impl wasip2::exports::http::incoming_handler::Guest for Health {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        match request.path_with_query().as_deref() {
            Some("/grpc.health.v1.Health/Check") => match service_of(request).as_deref() {
                // As long as this file is there, a probe of the service `ready` fails.
                Some("ready") if std::fs::exists("/run/busy").unwrap_or(false) => answer(out, Some(NOT_SERVING), OK),
                Some("" | "ready") => answer(out, Some(SERVING), OK),
                Some(_) => answer(out, None, NOT_FOUND),
                None => answer(out, None, INVALID_ARGUMENT),
            },
            _ => answer(out, None, UNIMPLEMENTED),
        }
    }
}

/// The only field of a `HealthCheckRequest`; a name of up to 127 bytes is enough here.
fn service_of(request: IncomingRequest) -> Option<String> {
    let body = request.consume().ok()?;
    let stream = body.stream().ok()?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(1024) {
            Ok(read) if bytes.len() + read.len() <= 1024 => bytes.extend(read),
            Err(StreamError::Closed) => break,
            _ => return None,
        }
    }
    // A byte that says whether the message is compressed, and four of its length.
    let (head, message) = bytes.split_at_checked(5)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    if head[0] != 0 || message.len() != length as usize {
        return None;
    }
    match message {
        [] => Some(String::new()),
        [0x0a, length, name @ ..] if name.len() == usize::from(*length) => String::from_utf8(name.to_vec()).ok(),
        _ => None,
    }
}

fn answer(out: ResponseOutparam, message: Option<[u8; 2]>, status: &str) {
    let field = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let response = OutgoingResponse::new(Fields::from_list(&[field("content-type", "application/grpc")]).expect("valid headers"));
    let body = response.body().expect("nobody else has taken it");
    ResponseOutparam::set(out, Ok(response));
    if let Some(message) = message {
        let stream = body.write().expect("nobody else has taken it");
        let framed = [&[0, 0, 0, 0, 2], &message[..]].concat();
        if stream.blocking_write_and_flush(&framed).is_err() {
            return;
        }
    }
    let trailers = Fields::from_list(&[field("grpc-status", status)]).expect("valid trailers");
    let _ = OutgoingBody::finish(body, Some(trailers));
}
