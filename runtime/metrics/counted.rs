//! Counting by ownership: what is counted is as long as a value lives, so no path can forget to count it out again.

use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;

/// One in a gauge, until it is dropped.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// Counts one more.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Work that is told when it ends: with its result, or `Canceled` where whoever wanted it went away.
pub struct Timed<F: FnMut(&'static str, Duration)> {
    begun: Instant,
    result: &'static str,
    told: F,
}

impl<F: FnMut(&'static str, Duration)> Timed<F> {
    /// Begins. `told` is called once, when this is dropped; `abandoned` is what it is told if nothing else is said.
    pub fn new(abandoned: &'static str, told: F) -> Self {
        Self { begun: Instant::now(), result: abandoned, told }
    }

    /// It has ended so.
    pub fn end(mut self, result: &'static str) -> Duration {
        self.result = result;
        self.begun.elapsed()
    }
}

impl<F: FnMut(&'static str, Duration)> Drop for Timed<F> {
    fn drop(&mut self) {
        (self.told)(self.result, self.begun.elapsed());
    }
}
