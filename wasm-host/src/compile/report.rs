//! The line that the compiler prints.

use std::io::Write;

use serde::Serialize;

use super::CompileLimits;

/// Longest message, in bytes.
const MESSAGE_BYTES: usize = 4096;

/// What was compiled.
#[derive(Debug, Serialize)]
pub(super) struct Artifact {
    /// `module` or `component`.
    pub(super) kind: &'static str,
    /// `command`, `http`, `reactor` or `library`.
    pub(super) world: &'static str,
    /// `p0`, `p1`, `p2`, `p3` or `none`: the newest WASI that it uses.
    pub(super) wasi: &'static str,
    /// `module.name` of a module's imports, names of a component's.
    pub(super) imports: Vec<String>,
}

/// Why there is no code.
#[derive(Debug, Serialize)]
pub(super) struct CompileError {
    /// `invalid_wasm`, `unknown_import`, `limit` or `internal`.
    code: &'static str,
    message: String,
}

impl CompileError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        CompileError { code: "invalid_wasm", message: message.into() }
    }

    pub(super) fn unknown_import(message: impl Into<String>) -> Self {
        CompileError { code: "unknown_import", message: message.into() }
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        CompileError { code: "internal", message: message.into() }
    }

    pub(super) fn memory(limits: CompileLimits) -> Self {
        let message = format!("compiling takes more memory than the limit of {} bytes", limits.memory_bytes);
        CompileError { code: "limit", message }
    }

    pub(super) fn time(limits: CompileLimits) -> Self {
        let message = format!("compiling takes more processor time than the limit of {} seconds", limits.cpu_seconds);
        CompileError { code: "limit", message }
    }

    /// wasmtime refuses a file because of what is in it, unless it is short of memory.
    pub(super) fn from_wasmtime(error: &wasmtime::Error, limits: CompileLimits) -> Self {
        let text = format!("{error:#}");
        let no_memory = error.is::<wasmtime::error::OutOfMemory>() || text.contains("os error 12");
        if no_memory { Self::memory(limits) } else { Self::invalid(text) }
    }
}

/// The line for `result`, with its newline.
pub(super) fn line(result: &Result<Artifact, CompileError>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Line<'a> {
        Ok(&'a Artifact),
        Error(CompileError),
    }
    let line = match result {
        Ok(artifact) => Line::Ok(artifact),
        Err(CompileError { code, message }) => {
            let message = message.get(..message.floor_char_boundary(MESSAGE_BYTES)).unwrap_or_default();
            Line::Error(CompileError { code, message: message.to_owned() })
        }
    };
    // Strings and lists of strings always have a JSON form.
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

pub(super) fn print(result: &Result<Artifact, CompileError>) {
    // Who does not read it does not want it.
    let _ = std::io::stdout().lock().write_all(&line(result));
    let _ = std::io::stdout().lock().flush();
}
