//! The reader under the archive: it hashes what passes, and stops what takes too much or is no longer wanted.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;

/// Why reading was stopped. It is kept beside the error, because the archive reader wraps errors into its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Cancelled,
    Header,
    Total,
}

/// What the meter shares with who drives the archive reader above it.
#[derive(Clone)]
pub(super) struct Gauge(Rc<Inner>);

struct Inner {
    left: Cell<u64>,
    /// Of the headers being read; nothing while a file's content is.
    header: Cell<Option<u64>>,
    stop: Cell<Option<Stop>>,
}

impl Gauge {
    /// `total`: bytes of the whole archive, headers and padding included.
    pub(super) fn new(total: u64) -> Gauge {
        Gauge(Rc::new(Inner { left: Cell::new(total), header: Cell::new(None), stop: Cell::new(None) }))
    }

    pub(super) fn begin_header(&self, allowance: u64) {
        self.0.header.set(Some(allowance));
    }

    pub(super) fn end_header(&self) {
        self.0.header.set(None);
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        self.0.stop.get()
    }

    fn take(&self, count: u64) -> Result<(), Stop> {
        let left = self.0.left.get().checked_sub(count).ok_or(Stop::Total)?;
        self.0.left.set(left);
        if let Some(header) = self.0.header.get() {
            self.0.header.set(Some(header.checked_sub(count).ok_or(Stop::Header)?));
        }
        Ok(())
    }
}

pub(super) struct Meter<'a, R> {
    inner: R,
    gauge: Gauge,
    hasher: Sha256,
    cancelled: &'a AtomicBool,
}

impl<'a, R: Read> Meter<'a, R> {
    pub(super) fn new(inner: R, gauge: &Gauge, cancelled: &'a AtomicBool) -> Meter<'a, R> {
        Meter { inner, gauge: gauge.clone(), hasher: Sha256::new(), cancelled }
    }

    /// Reads what follows the archive's end, which the digest covers too.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        self.gauge.end_header();
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest::finish(self.hasher))
    }
}

impl<R: Read> Read for Meter<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let stop = |stop: Stop| {
            self.gauge.0.stop.set(Some(stop));
            io::Error::other("stopped")
        };
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(stop(Stop::Cancelled));
        }
        let count = self.inner.read(buffer)?;
        self.gauge.take(count as u64).map_err(stop)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
