//! What becomes of a guest whose memory cannot grow.
//!
//! A guest's memory is bounded by its cgroup, which counts what is touched: growing alone costs nothing, and a guest that grows
//! beyond its limit and never uses it goes on. So there is no second bound here. But the kernel may refuse the growth itself (a
//! node that does not overcommit, a limit of the process), and a program whose allocation fails ends in one of many ways of its
//! own. It has outgrown its memory all the same, and ends as if the kernel had killed it for that.

use rustix::io::Errno;
use wasmtime::ResourceLimiter;

/// The kernel refused to let the guest's memory grow.
#[derive(Debug, thiserror::Error)]
#[error("the node has no memory left for the guest to grow from {from} to {to} bytes")]
pub(super) struct OutOfMemory {
    from: usize,
    to: usize,
}

/// Watches memories grow.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    last: (usize, usize),
}

impl ResourceLimiter for Growth {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.last = (current, desired);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        let is_refusal = |error: &(dyn std::error::Error + 'static)| {
            error.downcast_ref::<Errno>() == Some(&Errno::NOMEM)
                || error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory)
        };
        if error.chain().any(is_refusal) {
            let (from, to) = self.last;
            return Err(OutOfMemory { from, to }.into());
        }
        // The memory's own maximum, or the most that 32 bits can name: the guest is told, as the specification says.
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, _desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}
