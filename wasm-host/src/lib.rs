//! Everything of cri-wasm that touches wasmtime: the supervisor, the processes that it forks for guests, and the compiler.
//!
//! The daemon uses [`protocol`], [`egress`] and [`exit_record`] alone. [`supervisor::main`] and [`compile::main`] are the entry points of their own
//! processes. Untrusted wasm is parsed in the compile process only, and runs in guest processes only.

pub mod protocol;

pub mod egress;
pub mod exit_record;

mod seccomp;

#[allow(unsafe_code, reason = "maps compiled code, which wasmtime cannot check for itself; see the comments there")]
pub mod compile;
#[allow(unsafe_code, reason = "loads compiled code from the daemon's own cache")]
pub mod engine;
#[allow(
    unsafe_code,
    reason = "loads compiled code from the daemon's own cache; signal handler; waits for sockets and input at once"
)]
pub mod guest;
mod interfaces;
pub mod jail;
#[allow(unsafe_code, reason = "signal handler that keeps an unfinished line of output")]
mod stdio;
pub mod supervisor;
mod wasi;
