//! A service of wasi:http 0.3: `/hello`, `/echo`, `/slow?MS`, `/drip?MS`, `/count`, `/spin`, `/trap` and `/fetch?URL` as of the service of
//! 0.2 in `web`; `/error` answers with an error of WASI. Its handler is async, and bodies go on when it has returned.

use std::cell::Cell;

use wasip3::clocks::monotonic_clock;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};
use wasip3::{spawn, wit_future, wit_stream};

wasip3::http::service::export!(Web);

struct Web;

thread_local! {
    static REQUESTS: Cell<u32> = const { Cell::new(0) };
}

impl wasip3::exports::http::handler::Guest for Web {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        REQUESTS.set(REQUESTS.get() + 1);
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, argument) = target.split_once('?').unwrap_or((&target, ""));
        let number = || argument.parse::<u64>().unwrap_or(0);
        match path {
            "/hello" | "/" => Ok(text(200, vec!["hello\n".to_owned()], 0)),
            "/count" => Ok(text(200, vec![format!("{}\n", REQUESTS.get())], 0)),
            "/drip" => Ok(text(200, vec!["1\n".to_owned(), "2\n".to_owned(), "3\n".to_owned()], number())),
            "/slow" => {
                monotonic_clock::wait_for(number() * 1_000_000).await;
                Ok(text(200, vec!["at last\n".to_owned()], 0))
            }
            "/echo" => {
                let (_, no_error) = wit_future::new(|| Ok(()));
                let (body, trailers) = Request::consume_body(request, no_error);
                Ok(Response::new(Fields::new(), Some(body), trailers).0)
            }
            "/fetch" => fetch(argument).await,
            "/error" => Err(ErrorCode::LoopDetected),
            "/spin" => spin(),
            "/trap" => core::arch::wasm32::unreachable(),
            _ => Ok(text(404, vec!["nothing is there\n".to_owned()], 0)),
        }
    }
}

/// A response whose pieces go out one by one.
fn text(status: u16, pieces: Vec<String>, milliseconds: u64) -> Response {
    let (mut writer, body) = wit_stream::new();
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), Some(body), trailers);
    response.set_status_code(status).unwrap();
    spawn(async move {
        for piece in pieces {
            if !writer.write_all(piece.into_bytes()).await.is_empty() {
                return println!("nobody reads");
            }
            if milliseconds > 0 {
                monotonic_clock::wait_for(milliseconds * 1_000_000).await;
            }
        }
    });
    response
}

async fn fetch(url: &str) -> Result<Response, ErrorCode> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (request, _) = Request::new(Fields::new(), None, trailers, None);
    request.set_scheme(Some(&if scheme == "https" { Scheme::Https } else { Scheme::Http })).unwrap();
    request.set_authority(Some(authority)).unwrap();
    request.set_path_with_query(Some(if path.is_empty() { "/" } else { path })).unwrap();
    let answer = client::send(request).await?;
    let status = answer.get_status_code();
    let (_, no_error) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(answer, no_error);
    let (response, _) = Response::new(Fields::new(), Some(body), trailers);
    response.set_status_code(status).unwrap();
    Ok(response)
}

#[inline(never)]
fn spin() -> ! {
    let mut number = 0_u64;
    loop {
        number = std::hint::black_box(number.wrapping_add(1));
    }
}
