//! A command component of WASI 0.3: its `run` is async, and its output goes through streams.
//!
//! `p3 COMMAND ARGUMENT`: `ok TEXT` writes the text and a newline to stdout and ends well; `error TEXT` writes it to
//! stderr and ends with the error result; `exit CODE` ends by `exit-with-code`; `stdin` copies its input to its
//! output; `wait SECONDS` writes `waiting`, waits on the 0.3 clock, and writes `waited`; `env` writes its environment;
//! `trap` traps.

use wasip3::cli::{environment, exit, stderr, stdin, stdout};
use wasip3::clocks::monotonic_clock;
use wasip3::wit_bindgen::StreamReader;

wasip3::cli::command::export!(Command);

struct Command;

impl wasip3::exports::cli::run::Guest for Command {
    async fn run() -> Result<(), ()> {
        let words = environment::get_arguments();
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        match words.as_slice() {
            [] => out("hello from WASI 0.3\n".into()).await,
            ["ok", text] => out(format!("{text}\n")).await,
            ["error", text] => {
                let (mut writer, reader) = wasip3::wit_stream::new();
                let written = stderr::write_via_stream(reader);
                writer.write_all(format!("{text}\n").into_bytes()).await;
                drop(writer);
                let _ = written.await;
                Err(())
            }
            ["exit", code] => {
                exit::exit_with_code(code.parse().map_err(|_| ())?);
                Ok(())
            }
            ["stdin"] => {
                let (input, ended) = stdin::read_via_stream();
                forward(input).await?;
                ended.await.map_err(|_| ())
            }
            ["wait", seconds] => {
                out("waiting\n".into()).await?;
                let seconds: f64 = seconds.parse().map_err(|_| ())?;
                monotonic_clock::wait_for((seconds * 1e9) as u64).await;
                out("waited\n".into()).await
            }
            ["env"] => {
                let lines: Vec<String> =
                    environment::get_environment().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
                out(lines.concat()).await
            }
            ["trap"] => outer(),
            _ => Err(()),
        }
    }
}

async fn out(text: String) -> Result<(), ()> {
    let (mut writer, reader) = wasip3::wit_stream::new();
    let written = stdout::write_via_stream(reader);
    let left = writer.write_all(text.into_bytes()).await;
    drop(writer);
    written.await.map_err(|_| ())?;
    if left.is_empty() { Ok(()) } else { Err(()) }
}

/// Hands the input's stream to the output as it is: the host moves the bytes.
async fn forward(input: StreamReader<u8>) -> Result<(), ()> {
    stdout::write_via_stream(input).await.map_err(|_| ())
}

#[inline(never)]
fn outer() -> ! {
    inner()
}

#[inline(never)]
fn inner() -> ! {
    core::arch::wasm32::unreachable()
}
