//! Concurrency inside one instance: a single-threaded executor, pipes in memory, and one place that waits for time and
//! descriptors. WASI has neither processes nor threads, so the stages of a pipeline are tasks here.

pub mod executor;
pub mod file;
pub mod output;
pub mod pipe;
pub mod terminal;

pub use executor::sleep;
