//! The one wasmtime configuration of the project.
//!
//! The supervisor, every guest process and the compiler build their engine here and nowhere else: compiled code is
//! mapped without being checked instruction by instruction, so the two sides must agree on every setting, and the
//! [`fingerprint`] says whether they do.
//!
//! Building an engine starts no thread, so a process that has one may still fork.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;

pub use wasmtime::Engine;
use wasmtime::{Config, InstanceAllocationStrategy, WasmBacktraceDetails};

/// Stack that wasm code may use, in bytes. Twice wasmtime's default: interpreters compiled to wasm (CPython, QuickJS)
/// recurse deeply. It is address space; only touched pages cost memory.
const WASM_STACK: usize = 1 << 20;

/// Stack of a guest, in bytes: the wasm stack and 512 KiB for the host functions that run on top of it.
const GUEST_STACK: usize = WASM_STACK + (512 << 10);

/// Frames of a backtrace: what fits into a termination message of 4 KiB at about 100 bytes a frame.
const BACKTRACE_FRAMES: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// The engine could not be built for this machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot configure the wasm engine for this machine: {message}")]
pub struct EngineError {
    message: String,
}

/// Builds the engine.
///
/// # Errors
/// The processor lacks what wasmtime needs, or address space cannot be reserved.
pub fn new() -> Result<Engine, EngineError> {
    let mut config = Config::new();
    // All proposals of Wasm 3.0 and the component model with async are on by default in wasmtime 48. Off, on purpose:
    // everything that wasmtime calls incomplete or does not fix security bugs in (shared memories, stack switching).
    config
        // The kernel preempts, limits and kills guest processes, so code carries no epoch or fuel checks.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        // Data segments are mapped from the compiled file and copied page by page on the first write.
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(GUEST_STACK)
        // Names, offsets and, where the guest has DWARF, lines of the frames of a trap. All of it stays in the file
        // until a trap needs it. Set here rather than by WASMTIME_BACKTRACE_DETAILS, which would change the fingerprint.
        .generate_address_map(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(Some(BACKTRACE_FRAMES))
        // For native profilers and debuggers only; registering it costs time and memory in every guest process.
        .native_unwind_info(false)
        .parallel_compilation(true);
    Engine::new(&config).map_err(|error| EngineError { message: format!("{error:#}") })
}

/// Hexadecimal name, of 32 characters, of everything that compiled code depends on: wasmtime's version, the settings
/// above, the target and the processor's features. Code is loaded only by an engine of the same fingerprint.
pub fn fingerprint(engine: &Engine) -> String {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    };
    format!("{:016x}{:016x}", half(0), half(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_of_one_configuration_have_one_fingerprint() {
        let first = fingerprint(&new().unwrap());
        assert_eq!(first, fingerprint(&new().unwrap()));
        assert_eq!(first.len(), 32);
        assert!(first.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn preparing_guests_starts_no_thread() {
        // Other tests run in threads of this process, so the question is put to one of its own.
        crate::guest::testing::in_own_process("engine::tests::preparing_guests_starts_no_thread", || {
            let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
            let before = threads();
            let engine = new().unwrap();
            let _ = fingerprint(&engine);
            let _prepared = crate::guest::Prepared::new(engine).unwrap();
            assert_eq!(threads(), before);
        });
    }
}
