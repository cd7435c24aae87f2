//! Makes guests of other forms; `examples/build` runs it.
//!
//! `componentize text IN.wat OUT.wasm`: WebAssembly text into its binary form, with the names in it.
//! `componentize command IN.wasm OUT.wasm`: a core module for WASI preview 1 into a command component, through the
//! adapter of the wasmtime release that the runtime uses.
//! `componentize reactor IN.wasm OUT.wasm`: the same for a library, whose exports are those of its own world.

use std::error::Error;
use std::process::ExitCode;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::ComponentEncoder;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [form, input, output] = words.as_slice() else {
        eprintln!("usage: componentize text|command|reactor IN OUT");
        return ExitCode::from(2);
    };
    match make(form, input).and_then(|bytes| Ok(std::fs::write(output, bytes)?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("componentize {form} {input}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(form: &str, input: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    match form {
        "text" => Ok(wat::parse_file(input)?),
        "command" => component(input, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER),
        "reactor" => component(input, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER),
        _ => Err("not a form that this tool makes".into()),
    }
}

fn component(input: &str, adapter: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let module = std::fs::read(input)?;
    // anyhow's errors show their causes with `{:#}` only.
    let encode = || {
        ComponentEncoder::default()
            .validate(true)
            .module(&module)?
            .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter)?
            .encode()
    };
    encode().map_err(|error| format!("{error:#}").into())
}
