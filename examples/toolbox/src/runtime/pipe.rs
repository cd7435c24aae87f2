//! Pipes between tasks: a bounded buffer, ends that wait, and an end of file or a broken pipe when the other end is gone.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Bytes that a pipe holds; Linux's default.
pub const CAPACITY: usize = 65536;

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    no_reader: bool,
    no_writer: bool,
    waiting: Vec<Waker>,
}

impl State {
    fn wake(&mut self) {
        for waker in self.waiting.drain(..) {
            waker.wake();
        }
    }

    fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|other| other.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }
}

/// The end that is read.
pub struct PipeReader(Rc<RefCell<State>>);
/// The end that is written.
pub struct PipeWriter(Rc<RefCell<State>>);

/// A new pipe.
pub fn pipe() -> (PipeReader, PipeWriter) {
    let state = Rc::new(RefCell::new(State::default()));
    (PipeReader(Rc::clone(&state)), PipeWriter(state))
}

impl PipeReader {
    /// Reads what is there, waits if there is nothing, and returns 0 at the end.
    pub async fn read(&self, buffer: &mut [u8]) -> usize {
        poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            if state.bytes.is_empty() && !state.no_writer && !buffer.is_empty() {
                state.wait(context.waker());
                return Poll::Pending;
            }
            let (front, _) = state.bytes.as_slices();
            let count = front.len().min(buffer.len());
            for (to, from) in buffer.iter_mut().zip(front) {
                *to = *from;
            }
            state.bytes.drain(..count);
            state.wake();
            Poll::Ready(count)
        })
        .await
    }
}

impl PipeWriter {
    /// Writes everything, waiting while the pipe is full; a broken pipe if nobody can read any more.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            if state.no_reader {
                return Poll::Ready(Err(io::Error::from_raw_os_error(libc::EPIPE)));
            }
            let count = bytes.len().min(CAPACITY - state.bytes.len().min(CAPACITY));
            let (now, later) = bytes.split_at(count);
            if count > 0 {
                state.bytes.extend(now);
                state.wake();
                bytes = later;
            }
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            state.wait(context.waker());
            Poll::Pending
        })
        .await
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.no_reader = true;
        state.bytes = VecDeque::new();
        state.wake();
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.no_writer = true;
        state.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::executor::{run, spawn};

    #[test]
    fn a_megabyte_goes_through_a_pipe_of_64_kib_unharmed() {
        let total = run(async {
            let (reader, writer) = pipe();
            let writing = spawn(async move { writer.write(&vec![7; 1 << 20]).await.is_ok() });
            let mut total = 0;
            let mut buffer = [0; 1000];
            loop {
                let count = reader.read(&mut buffer).await;
                if count == 0 {
                    break;
                }
                assert!(buffer[..count].iter().all(|byte| *byte == 7));
                total += count;
            }
            (total, writing.join().await)
        });
        assert_eq!(total, Some((1 << 20, Some(true))));
    }

    #[test]
    fn a_writer_without_a_reader_is_told_of_the_broken_pipe() {
        let broken = run(async {
            let (reader, writer) = pipe();
            drop(reader);
            writer.write(b"x").await.err().and_then(|error| error.raw_os_error())
        });
        assert_eq!(broken, Some(Some(libc::EPIPE)));
    }
}
