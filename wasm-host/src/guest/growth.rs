//! What becomes of a guest whose memory cannot grow.
//!
//! A guest's memory is bounded by its cgroup, which counts what is touched: growing alone costs nothing, and a guest that grows
//! beyond its limit and never uses it goes on. So there is no second bound here. But the kernel may refuse the growth itself (a
//! node that does not overcommit, a limit of the process), and a program whose allocation fails ends in one of many ways of its
//! own. It has outgrown its memory all the same, and ends as if the kernel had killed it for that.
//!
//! Tables have a bound of their own ([`TABLE_ELEMENTS`]): their elements are written when they are made, and a table that is moved
//! to grow is there twice. So have the numbers of instances, memories and tables of a store ([`PARTS`]), which cost the kernel
//! mappings and address space before a byte of theirs is touched. Objects of the proposal GC lie in a memory like any other here.
//!
//! Sizes are written into the guest's outcome file as they change, for metrics: one system call when memory grows, and none
//! while it does not.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;
use rustix::io::Errno;
use wasmtime::ResourceLimiter;

use crate::protocol::{GuestUsage, Outcome};

/// Elements of all tables of a store, at most: what browsers give one table. 8 bytes each.
const TABLE_ELEMENTS: u64 = 10_000_000;

/// Instances, memories and tables of a store, at most, of each. A memory takes some 4 GiB of address space and three mappings, of
/// which the kernel gives a process 65,530. Toolchains make three to five instances.
const PARTS: usize = 1000;

/// The kernel refused to let the guest's memory grow.
#[derive(Debug, thiserror::Error)]
#[error("the node has no memory left for the guest to grow from {from} to {to} bytes")]
pub(super) struct OutOfMemory {
    from: usize,
    to: usize,
}

/// An instance has outgrown what its handler gives it.
#[derive(Debug, thiserror::Error)]
#[error("the instance would grow to {to} bytes of memory; its handler allows {most} (http_max_instance_memory)")]
pub(super) struct TooLarge {
    to: usize,
    most: usize,
}

/// Watches memories and tables grow.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    last: (usize, usize),
    last_of_table: usize,
    usage: GuestUsage,
    /// Where the sizes are told; `None`: nowhere.
    file: Option<Arc<OwnedFd>>,
    /// Sizes of all instances of a process, to which these are added.
    sum: Option<Arc<Sum>>,
    /// Bytes of memory beyond which an instance may not grow.
    most: Option<usize>,
}

/// Sizes of several instances together.
#[derive(Debug, Default)]
pub(super) struct Sum {
    memory_bytes: AtomicU64,
    table_elements: AtomicU64,
}

/// Tells a [`Sum`] in the guest's outcome file.
pub(super) struct Told {
    sum: Arc<Sum>,
    file: Arc<OwnedFd>,
    last: Option<GuestUsage>,
}

impl Told {
    pub(super) fn new(sum: Arc<Sum>, file: Arc<OwnedFd>) -> Self {
        Told { sum, file, last: None }
    }

    /// Writes the sizes, if they are others than before.
    pub(super) fn tell(&mut self) {
        let memory_bytes = Some(self.sum.memory_bytes.load(Ordering::Relaxed));
        let table_elements = Some(self.sum.table_elements.load(Ordering::Relaxed));
        let usage = GuestUsage { memory_bytes, table_elements };
        if self.last.replace(usage) != Some(usage) {
            write(&self.file, usage);
        }
    }
}

fn write(file: &OwnedFd, usage: GuestUsage) {
    let running = Outcome { usage: Some(usage), ..Outcome::default() };
    // A size that cannot be told is a gap in a graph.
    let _ = rustix::io::pwrite(file, &running.encode_to_vec(), 0);
}

impl Growth {
    /// Tells sizes in the guest's outcome file.
    pub(super) fn told_in(outcome: Arc<OwnedFd>) -> Self {
        let mut growth = Self::default();
        growth.file = Some(outcome);
        growth
    }

    /// Of one instance of several, which may have `most` bytes of memory.
    pub(super) fn added_to(sum: Arc<Sum>, most: Option<usize>) -> Self {
        let mut growth = Self::default();
        (growth.sum, growth.most) = (Some(sum), most);
        growth
    }

    fn memory(&mut self, change: impl FnOnce(u64) -> u64) {
        let before = self.usage.memory_bytes.unwrap_or(0);
        let after = change(before);
        self.usage.memory_bytes = Some(after);
        if let Some(sum) = &self.sum {
            sum.memory_bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
        self.tell();
    }

    fn table(&mut self, change: impl FnOnce(u64) -> u64) {
        let before = self.usage.table_elements.unwrap_or(0);
        let after = change(before);
        self.usage.table_elements = Some(after);
        if let Some(sum) = &self.sum {
            sum.table_elements.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        }
        self.tell();
    }

    fn tell(&mut self) {
        let Some(file) = &self.file else { return };
        // Both are there from the first time on, so that each message is as long as the one before.
        self.usage.memory_bytes.get_or_insert(0);
        self.usage.table_elements.get_or_insert(0);
        write(file, self.usage);
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        if self.sum.is_some() {
            self.memory(|_| 0);
            self.table(|_| 0);
        }
    }
}

fn grown(from: usize, to: usize) -> u64 {
    u64::try_from(to.saturating_sub(from)).unwrap_or(u64::MAX)
}

impl ResourceLimiter for Growth {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if let Some(most) = self.most
            && desired > most
        {
            return Err(TooLarge { to: desired, most }.into());
        }
        self.last = (current, desired);
        self.memory(|bytes| bytes.saturating_add(grown(current, desired)));
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        let (from, to) = self.last;
        self.memory(|bytes| bytes.saturating_sub(grown(from, to)));
        let is_refusal = |error: &(dyn std::error::Error + 'static)| {
            error.downcast_ref::<Errno>() == Some(&Errno::NOMEM)
                || error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::OutOfMemory)
        };
        if error.chain().any(is_refusal) {
            return Err(OutOfMemory { from, to }.into());
        }
        // The memory's own maximum, or the most that 32 bits can name: the guest is told, as the specification says.
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.usage.table_elements.unwrap_or(0).saturating_add(grown(current, desired));
        if wanted > TABLE_ELEMENTS {
            // The guest is told that its table does not grow, or the module that it cannot begin.
            return Ok(false);
        }
        self.last_of_table = desired.saturating_sub(current);
        self.table(|elements| elements.saturating_add(grown(current, desired)));
        Ok(true)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        let wanted = grown(0, self.last_of_table);
        self.table(|elements| elements.saturating_sub(wanted));
        Ok(())
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_as_they_change_and_a_growth_that_fails_is_taken_back() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.outcome");
        let mut growth = Growth::told_in(Arc::new(std::fs::File::create(&path).unwrap().into()));
        let told = || Outcome::decode(std::fs::read(&path).unwrap().as_slice()).unwrap().usage.unwrap();
        growth.memory_growing(0, 65_536, None).unwrap();
        assert_eq!(told(), GuestUsage { memory_bytes: Some(65_536), table_elements: Some(0) });
        growth.table_growing(0, 10, None).unwrap();
        growth.memory_growing(0, 131_072, None).unwrap();
        assert_eq!(told(), GuestUsage { memory_bytes: Some(196_608), table_elements: Some(10) });
        let length = std::fs::metadata(&path).unwrap().len();
        growth.memory_growing(131_072, 1 << 40, None).unwrap();
        growth.memory_grow_failed(wasmtime::Error::msg("its maximum")).unwrap();
        growth.table_growing(10, 1000, None).unwrap();
        growth.table_grow_failed(wasmtime::Error::msg("its maximum")).unwrap();
        assert_eq!(told(), GuestUsage { memory_bytes: Some(196_608), table_elements: Some(10) });
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    }
}
