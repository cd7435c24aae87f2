//! A service of wasi:http 0.2. The path says what it does; `?` and what follows is the argument.
//!
//! `/hello` answers with `hello`; `/echo` sends the request's body back as it comes; `/method`, `/path`, `/authority`, `/headers` say
//! what came; `/status?CODE`; `/big?BYTES` sends so many; `/trailers` ends its answer with the trailer `x-sum`; `/slow?MS` waits before
//! it answers, `/drip?MS` between the pieces of its answer; `/count` says how many requests the instance has had; `/env?NAME`,
//! `/file?PATH`; `/log?TEXT` writes to stdout, `/partial?TEXT` without the newline; `/spin` computes for ever, `/spin-after` when it has
//! begun to answer; `/trap`, `/trap-after`, `/nothing` (no answer), `/grow?BYTES`; `/fetch?URL` asks another server and passes on what
//! it says, `/fetch-headers?URL` its headers.

use std::cell::Cell;
use std::io::{Read, Write};

use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

wasip2::http::proxy::export!(Web);

struct Web;

thread_local! {
    static REQUESTS: Cell<u32> = const { Cell::new(0) };
}

impl wasip2::exports::http::incoming_handler::Guest for Web {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        REQUESTS.set(REQUESTS.get() + 1);
        let target = request.path_with_query().unwrap_or_default();
        let (path, argument) = target.split_once('?').unwrap_or((&target, ""));
        let number = || argument.parse::<u64>().unwrap_or(0);
        match path {
            "/hello" | "/" => say(out, 200, "hello\n"),
            "/echo" => echo(request, out),
            "/method" => say(out, 200, &method(&request.method())),
            "/path" => say(out, 200, &target),
            "/authority" => say(out, 200, &request.authority().unwrap_or_default()),
            "/headers" => say(out, 200, &lines(&request.headers())),
            "/status" => say(out, number() as u16, "as asked\n"),
            "/big" => big(out, number()),
            "/trailers" => trailers(out),
            "/slow" => {
                wait(number());
                say(out, 200, "at last\n");
            }
            "/drip" => drip(out, number()),
            "/count" => say(out, 200, &format!("{}\n", REQUESTS.get())),
            "/env" => say(out, 200, &std::env::var(argument).unwrap_or_else(|_| "not set".to_owned())),
            "/file" => match read(argument) {
                Ok(text) => say(out, 200, &text),
                Err(error) => say(out, 404, &error.to_string()),
            },
            "/log" => {
                println!("{argument}");
                say(out, 200, "logged\n");
            }
            "/partial" => {
                print!("{argument}");
                let _ = std::io::stdout().flush();
                wait(200);
                say(out, 200, "logged\n");
            }
            "/spin" => spin(),
            "/spin-after" => {
                let _body = begin(out);
                spin();
            }
            "/trap" => outer(),
            "/trap-after" => {
                let _body = begin(out);
                outer();
            }
            "/nothing" => {}
            "/grow" => {
                let mut held = Vec::new();
                let bytes = usize::try_from(number()).unwrap_or(usize::MAX);
                while held.len() < bytes {
                    held.resize(held.len() + (1 << 20), 1_u8);
                }
                say(out, 200, &format!("{}\n", held.len()));
            }
            "/fetch" => fetch(out, argument, false),
            "/fetch-headers" => fetch(out, argument, true),
            _ => say(out, 404, "nothing is there\n"),
        }
    }
}

fn answer(out: ResponseOutparam, status: u16) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    body
}

fn say(out: ResponseOutparam, status: u16, text: &str) {
    let body = answer(out, status);
    let stream = body.write().unwrap();
    write(&stream, text.as_bytes());
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

/// Writes, and stops where nobody reads.
fn write(stream: &OutputStream, bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|piece| stream.blocking_write_and_flush(piece).is_ok())
}

fn begin(out: ResponseOutparam) -> OutgoingBody {
    let body = answer(out, 200);
    let stream = body.write().unwrap();
    write(&stream, b"begun\n");
    drop(stream);
    body
}

fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().unwrap();
    let body = answer(out, 200);
    let (input, output) = (incoming.stream().unwrap(), body.write().unwrap());
    pass(&input, &output);
    drop((input, output));
    OutgoingBody::finish(body, None).unwrap();
}

fn pass(input: &InputStream, output: &OutputStream) {
    loop {
        match output.blocking_splice(input, 1 << 16) {
            Ok(_) => {}
            Err(StreamError::Closed) => return,
            Err(StreamError::LastOperationFailed(error)) => return eprintln!("echo: {}", error.to_debug_string()),
        }
    }
}

fn big(out: ResponseOutparam, bytes: u64) {
    let body = answer(out, 200);
    let stream = body.write().unwrap();
    let piece = vec![b'x'; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(1 << 16);
        if !write(&stream, &piece[..length as usize]) {
            println!("nobody reads, {left} bytes are left");
            return;
        }
        left -= length;
    }
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn trailers(out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::from_list(&[("trailer".to_owned(), b"x-sum".to_vec())]).unwrap());
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().unwrap();
    write(&stream, b"text");
    drop(stream);
    OutgoingBody::finish(body, Some(Fields::from_list(&[("x-sum".to_owned(), b"4".to_vec())]).unwrap())).unwrap();
}

fn drip(out: ResponseOutparam, milliseconds: u64) {
    let body = answer(out, 200);
    let stream = body.write().unwrap();
    for number in 1..=3 {
        if !write(&stream, format!("{number}\n").as_bytes()) {
            println!("nobody reads after {number}");
            return;
        }
        wait(milliseconds);
    }
    drop(stream);
    OutgoingBody::finish(body, None).unwrap();
}

fn fetch(out: ResponseOutparam, url: &str, headers: bool) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http })).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(if path.is_empty() { "/" } else { path })).unwrap();
    let future = match outgoing_handler::handle(request, None) {
        Ok(future) => future,
        Err(code) => return say(out, 502, &format!("{code:?}\n")),
    };
    future.subscribe().block();
    let response = match future.get().unwrap().unwrap() {
        Ok(response) => response,
        Err(code) => return say(out, 502, &format!("{code:?}\n")),
    };
    if headers {
        return say(out, response.status(), &lines(&response.headers()));
    }
    let incoming = response.consume().unwrap();
    let body = answer(out, response.status());
    let (input, output) = (incoming.stream().unwrap(), body.write().unwrap());
    pass(&input, &output);
    drop((input, output));
    IncomingBody::finish(incoming);
    OutgoingBody::finish(body, None).unwrap();
}

fn lines(fields: &Fields) -> String {
    let mut lines: Vec<String> =
        fields.entries().iter().map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value))).collect();
    lines.sort();
    lines.concat()
}

fn method(method: &Method) -> String {
    match method {
        Method::Other(name) => name.clone(),
        known => format!("{known:?}"),
    }
}

fn read(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

fn wait(milliseconds: u64) {
    monotonic_clock::subscribe_duration(milliseconds * 1_000_000).block();
}

#[inline(never)]
fn spin() {
    let mut number = 0_u64;
    loop {
        number = std::hint::black_box(number.wrapping_add(1));
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
fn outer() {
    inner();
}

#[inline(never)]
#[unsafe(no_mangle)]
fn inner() {
    core::arch::wasm32::unreachable()
}
