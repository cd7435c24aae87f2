//! Waiting for what happens by itself, with an end.

use std::time::{Duration, Instant};

/// How long anything may take that normally takes milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = answer() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// Asks again and again until it is so.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    eventually(what, || so().then_some(()));
}
