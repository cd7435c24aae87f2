//! `cri-wasm compile`: turns one wasm file into code that guest processes map.
//!
//! Wasm from a registry is hostile, and a compiler is large. So each file is compiled by a process of its own that opens
//! its two files, gives away everything else it could do (see [`confine`]), works within limits, and prints one line:
//!
//! ```text
//! {"ok":{"kind":"module","world":"command","wasi":"p1","imports":["wasi_snapshot_preview1.fd_write"]}}
//! {"error":{"code":"unknown_import","message":"the module imports env.foo, which no guest is given"}}
//! ```
//!
//! What the parent sees, in this order:
//! - exit status 0 and an `ok` line: the output file is complete (not synced to disk);
//! - exit status 1 and an `error` line: the reason; also where the limit of processor time (SIGXCPU is handled) or of
//!   memory (an allocation failed, which aborts) was hit;
//! - no line: killed from outside by SIGKILL (the hard limit of processor time, one second later, or the cgroup's memory
//!   limit), or the compiler crashed (any other signal).

mod confine;
mod inspect;
mod last_words;
mod proposals;
mod report;
mod suggest;
#[cfg(test)]
mod tests;
mod world;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::available_parallelism;

use wasmtime::Module;
use wasmtime::component::{self, Component};

use self::report::{Artifact, CompileError};
use crate::engine;
use crate::guest::{ComponentState, PrepareError, Prepared, link_components};

/// Bounds of one compilation.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    /// Memory that the process may write to, in bytes, without the stacks of its threads. Also bounds the output file.
    pub memory_bytes: u64,
    /// Processor time of all threads together, in seconds.
    pub cpu_seconds: u64,
}

/// Most threads that compile at once, whatever the machine: each costs stack and a heap of its own.
const THREADS: usize = 16;

/// Stack of a thread, in bytes: parsing and compiling recurse into what a hostile file nests.
const STACK_BYTES: usize = 16 << 20;

/// First bytes of a core module and of a component, from the binary format: magic, version, layer.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Compiles `input` to `output` and prints the result. Returns the exit status: 0 or 1.
///
/// `input` is binary wasm; WAT text is accepted only where the name ends in `.wat`. `output` is created or replaced in
/// place: the caller gives it its final name once this has succeeded.
///
/// Must be called by the only thread of a process, which afterwards can do nothing but exit.
pub fn main(input: &Path, output: &Path, limits: CompileLimits) -> i32 {
    let result = catch_unwind(AssertUnwindSafe(|| compile(input, output, limits)))
        .unwrap_or_else(|panic| Err(CompileError::internal(format!("the compiler panicked: {}", panic_text(&*panic)))));
    let status = i32::from(result.is_err());
    report::print(&result);
    status
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

fn compile(input: &Path, output: &Path, limits: CompileLimits) -> Result<Artifact, CompileError> {
    let internal = |step: &str, error: &dyn std::fmt::Display| CompileError::internal(format!("{step}: {error}"));
    let is_text = input.extension().is_some_and(|extension| extension == "wat");
    let source = File::open(input).map_err(|error| internal("cannot open the wasm file", &error))?;
    let mut target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(output)
        .map_err(|error| internal("cannot create the output file", &error))?;
    let size = source.metadata().map_err(|error| internal("cannot read the wasm file", &error))?.len();
    if size > limits.memory_bytes {
        return Err(CompileError::memory(limits));
    }
    let hosts = Hosts::new().map_err(|error| internal("cannot build the engine", &error))?;
    // Reads the cgroup's files, so it comes before the file system is given away.
    let threads = available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS);
    let stacks = u64::try_from(threads * STACK_BYTES).unwrap_or(u64::MAX);
    last_words::prepare(limits, stacks).map_err(|error| internal("cannot handle signals", &error))?;
    confine::confine(limits, stacks).map_err(|error| internal("cannot confine the compiler", &error))?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .stack_size(STACK_BYTES)
        .build()
        .map_err(|error| internal("cannot start threads", &error))?;
    // Everything that looks at the file runs on the pool's threads, which have the large stacks.
    let result = pool.install(|| {
        let wasm = read(source, size, is_text)?;
        let (artifact, code) = translate(&hosts, &wasm, limits)?;
        target.write_all(&code).map_err(|error| internal("cannot write the output file", &error))?;
        Ok(artifact)
    });
    if result.is_err() {
        // Nothing half-written: the caller deletes it, and must not load it if it cannot.
        let _ = target.rewind();
        let _ = target.set_len(0);
    }
    // Joining the threads would only take time.
    std::mem::forget(pool);
    result
}

fn read(mut source: File, size: u64, is_text: bool) -> Result<Vec<u8>, CompileError> {
    let mut wasm = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    source.read_to_end(&mut wasm).map_err(|error| CompileError::internal(format!("cannot read the wasm file: {error}")))?;
    if is_text {
        return wat::parse_bytes(&wasm).map(Into::into).map_err(|error| CompileError::invalid(error.to_string()));
    }
    Ok(wasm)
}

/// What guests are given: as commands, and as services.
struct Hosts {
    commands: Prepared,
    services: component::Linker<ComponentState>,
}

impl Hosts {
    fn new() -> Result<Self, PrepareError> {
        Ok(Hosts { commands: Prepared::new(engine::new()?)?, services: link_components(&engine::service()?)? })
    }
}

fn translate(hosts: &Hosts, wasm: &[u8], limits: CompileLimits) -> Result<(Artifact, Vec<u8>), CompileError> {
    let failed = |error: wasmtime::Error| CompileError::from_wasmtime(&error, limits);
    proposals::refuse_shared_memories(wasm)?;
    if wasm.starts_with(MODULE) {
        let module = Module::from_binary(hosts.commands.engine(), wasm).map_err(failed)?;
        let artifact = inspect::module(&hosts.commands, &module)?;
        Ok((artifact, module.serialize().map_err(failed)?))
    } else if wasm.starts_with(COMPONENT) {
        let linker = if world::is_service(wasm) { &hosts.services } else { &hosts.commands.components };
        let component = Component::from_binary(linker.engine(), wasm).map_err(failed)?;
        let artifact = inspect::component(linker, &component)?;
        Ok((artifact, component.serialize().map_err(failed)?))
    } else if wasm.starts_with(b"\0asm") {
        Err(CompileError::invalid("the file is wasm of an unknown version (at offset 4)"))
    } else {
        Err(CompileError::invalid("the file is not wasm: it does not begin with \\0asm (at offset 0)"))
    }
}
