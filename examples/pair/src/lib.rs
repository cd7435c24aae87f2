//! One of two containers of a pod: it asks the other one, whose address is in BACKEND, and passes on what that says.

use wasip2::http::outgoing_handler::{self, ErrorCode};
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme};
use wasip2::io::streams::StreamError;

wasip2::http::proxy::export!(Front);

struct Front;

impl wasip2::exports::http::incoming_handler::Guest for Front {
    fn handle(_: IncomingRequest, out: ResponseOutparam) {
        let backend = std::env::var("BACKEND").unwrap_or("localhost:8081".into());
        let (status, text) = match ask(&backend) {
            Ok(said) => (200, format!("{backend} says: {said}")),
            Err(error) => (502, format!("{backend} does not answer: {error}\n")),
        };
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(status).expect("a valid status");
        let body = response.body().expect("nobody else has taken it");
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().expect("nobody else has taken it");
        for part in text.as_bytes().chunks(4096) {
            // Nobody listens any more.
            if stream.blocking_write_and_flush(part).is_err() {
                return;
            }
        }
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

fn ask(backend: &str) -> Result<String, ErrorCode> {
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&Scheme::Http)).expect("a valid scheme");
    request.set_authority(Some(backend)).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    request.set_path_with_query(Some("/")).expect("a valid path");
    let answer = outgoing_handler::handle(request, None)?;
    answer.subscribe().block();
    let response = answer.get().expect("it is there").expect("nobody else has taken it")?;
    let body = response.consume().expect("nobody else has taken it");
    let stream = body.stream().expect("nobody else has taken it");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(read) => bytes.extend(read),
            Err(StreamError::Closed) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(StreamError::LastOperationFailed(error)) => return Err(ErrorCode::InternalError(Some(error.to_debug_string()))),
        }
    }
}
