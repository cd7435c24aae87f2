//! Refuses what wasmtime compiles and then does not run: memories that threads share.
//!
//! wasmtime takes modules with such memories and refuses to make one ([`Config::shared_memory`](wasmtime::Config::shared_memory)
//! is off: neither complete nor given security fixes). A guest that cannot start should not be pulled either. Everything else
//! that the engine leaves off is refused by its validator, which names the proposal.

use wasmparser::{Parser, Payload, TypeRef};

use super::report::CompileError;

/// Says so where the module, or a module within the component, imports or makes a shared memory. A file that cannot be read has
/// none; the compiler says what is wrong with it.
pub(super) fn refuse_shared_memories(wasm: &[u8]) -> Result<(), CompileError> {
    for payload in Parser::new(0).parse_all(wasm) {
        let shares = match payload {
            Ok(Payload::MemorySection(section)) => section.into_iter().flatten().any(|memory| memory.shared),
            Ok(Payload::ImportSection(section)) => {
                section.into_imports().flatten().any(|import| matches!(import.ty, TypeRef::Memory(memory) if memory.shared))
            }
            Ok(_) => false,
            Err(_) => break,
        };
        if shares {
            return Err(CompileError::invalid(
                "it has a shared memory, of the proposal threads, which guests are not given: wasmtime does not fix security \
                 bugs in them; build it without threads (wasm32-wasip1 instead of wasm32-wasip1-threads, no -pthread)",
            ));
        }
    }
    Ok(())
}
