//! A service in Rust: the handler of a component of wasi:http. The runtime listens and calls it, with an instance for each request.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::StreamError;

wasip2::http::proxy::export!(Service);

struct Service;

impl wasip2::exports::http::incoming_handler::Guest for Service {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (status, text) = match target.split('?').next() {
            Some("/") => (200, format!("Hello from Rust in {}\n", std::env::var("HOSTNAME").unwrap_or("a pod".into())).into()),
            Some("/healthz") => (200, b"ok\n".to_vec()),
            // A client that breaks off gets no answer, and needs none.
            Some("/echo") => match body_of(request) {
                Ok(bytes) => (200, bytes),
                Err(_) => return,
            },
            _ => (404, b"nothing is there\n".to_vec()),
        };
        let _ = answer(out, status, &text);
    }
}

fn body_of(request: IncomingRequest) -> Result<Vec<u8>, StreamError> {
    let body = request.consume().expect("nobody else has taken it");
    let stream = body.stream().expect("nobody else has taken it");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(read) => bytes.extend(read),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(error) => return Err(error),
        }
    }
}

fn answer(out: ResponseOutparam, status: u16, text: &[u8]) -> Result<(), StreamError> {
    let headers = [("content-type".to_owned(), b"text/plain; charset=utf-8".to_vec())];
    let response = OutgoingResponse::new(Fields::from_list(&headers).expect("valid headers"));
    response.set_status_code(status).expect("a valid status");
    let body = response.body().expect("nobody else has taken it");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("nobody else has taken it");
    // The most that one such call takes.
    for part in text.chunks(4096) {
        stream.blocking_write_and_flush(part)?;
    }
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
    Ok(())
}
