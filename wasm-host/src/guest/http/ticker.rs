//! The epoch, which lets instances share threads: wasm that computes yields whenever it has passed.
//!
//! A thread of its own moves it on, since instances may have all others. It sleeps while there is nothing to do, so an idle
//! service wakes no processor; but only a while after the last request, so that a busy one need not wake it each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

use crate::guest::growth::Told;

/// How long wasm computes before others have a turn.
pub(super) const EPOCH: Duration = Duration::from_millis(10);

/// Epochs without a request after which the thread sleeps.
const LINGER: usize = 100;

/// Moves the epoch on while anything runs.
#[derive(Clone)]
pub(super) struct Ticker {
    busy: Arc<Busy>,
    thread: Thread,
}

/// The two are changed one after the other, so that either the one who begins sees that the thread sleeps, or the thread sees
/// that somebody has begun.
#[derive(Default)]
struct Busy {
    running: AtomicUsize,
    asleep: AtomicUsize,
}

impl Ticker {
    pub(super) fn start(engine: Engine, mut told: Told) -> std::io::Result<Self> {
        let busy = Arc::new(Busy::default());
        let seen = Arc::clone(&busy);
        let thread = thread::Builder::new()
            .name("epoch".to_owned())
            .stack_size(64 << 10)
            .spawn(move || tick(&engine, &seen, &mut told))?;
        Ok(Ticker { busy, thread: thread.thread().clone() })
    }

    /// Until what is returned is dropped, epochs pass.
    pub(super) fn run(&self) -> Running {
        self.busy.running.fetch_add(1, Ordering::SeqCst);
        if self.busy.asleep.load(Ordering::SeqCst) != 0 {
            self.thread.unpark();
        }
        Running(Arc::clone(&self.busy))
    }
}

/// Something runs.
pub(super) struct Running(Arc<Busy>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &Engine, busy: &Busy, told: &mut Told) {
    let mut idle = 0;
    loop {
        if busy.running.load(Ordering::SeqCst) > 0 {
            idle = 0;
        } else if idle < LINGER {
            idle += 1;
        } else {
            busy.asleep.store(1, Ordering::SeqCst);
            while busy.running.load(Ordering::SeqCst) == 0 {
                thread::park();
            }
            busy.asleep.store(0, Ordering::SeqCst);
            idle = 0;
        }
        thread::sleep(EPOCH);
        engine.increment_epoch();
        told.tell();
    }
}
