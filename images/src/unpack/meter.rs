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
    Ratio,
}

/// Bytes that any archive may unpack to, whatever its size: of small files much compresses well, and harms nobody.
const RATIO_FREE: u64 = 64 << 20;

/// What the meter shares with who drives the archive reader above it.
#[derive(Clone)]
pub(super) struct Gauge(Rc<Inner>);

struct Inner {
    left: Cell<u64>,
    /// Of the blob, as it was sent.
    read: Cell<u64>,
    /// Of the archive, decoded.
    decoded: Cell<u64>,
    /// Of files.
    written: Cell<u64>,
    ratio: u64,
    /// Of the headers being read; nothing while a file's content is.
    header: Cell<Option<u64>>,
    stop: Cell<Option<Stop>>,
}

impl Gauge {
    /// `total`: bytes of the whole archive, headers and padding included. `ratio`: bytes that one byte of the blob may
    /// become.
    pub(super) fn new(total: u64, ratio: u64) -> Gauge {
        Gauge(Rc::new(Inner {
            left: Cell::new(total),
            read: Cell::new(0),
            decoded: Cell::new(0),
            written: Cell::new(0),
            ratio,
            header: Cell::new(None),
            stop: Cell::new(None),
        }))
    }

    /// Bytes that were written into files.
    pub(super) fn wrote(&self, count: u64) -> io::Result<()> {
        self.grow(&self.0.written, count).map_err(|stop| self.stop(stop))
    }

    fn grow(&self, bytes: &Cell<u64>, count: u64) -> Result<(), Stop> {
        bytes.set(bytes.get().saturating_add(count));
        let allowed = self.0.read.get().saturating_mul(self.0.ratio).max(RATIO_FREE);
        if bytes.get() > allowed { Err(Stop::Ratio) } else { Ok(()) }
    }

    fn stop(&self, stop: Stop) -> io::Error {
        self.0.stop.set(Some(stop));
        io::Error::other("stopped")
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
        self.grow(&self.0.decoded, count)
    }
}

/// Counts a blob's bytes below the decoder.
pub(super) struct Counted<R> {
    inner: R,
    gauge: Gauge,
}

impl<R: Read> Counted<R> {
    pub(super) fn new(inner: R, gauge: &Gauge) -> Counted<R> {
        Counted { inner, gauge: gauge.clone() }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let read = &self.gauge.0.read;
        read.set(read.get().saturating_add(count as u64));
        Ok(count)
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
        let stop = |stop| self.gauge.stop(stop);
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(stop(Stop::Cancelled));
        }
        let count = self.inner.read(buffer)?;
        self.gauge.take(count as u64).map_err(stop)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
