//! The terminal while it is raw: one task reads it and hands the bytes on, to the line editor, to a program that wants
//! keys (`top`, `less`), or through a line discipline (echo, erase, ^U, ^W, ^C, ^D) to programs that read lines.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::file::Handle;

/// Type-ahead that is kept; what comes on top is dropped, as a terminal of Linux does.
const LIMIT: usize = 65536;

/// Who gets the bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As they come, ^C included: the editor.
    Keys,
    /// As they come, but ^C interrupts: `top`, `less`.
    Pager,
    /// By lines, with echo.
    Lines,
}

/// A raw terminal.
pub struct Terminal {
    output: Handle,
    mode: Cell<Mode>,
    /// What has been typed and read by nobody; in lines mode only whole lines.
    input: RefCell<VecDeque<u8>>,
    /// The line that is being typed.
    line: RefCell<Vec<u8>>,
    /// Pending ends of file, told once each.
    ends: Cell<u32>,
    gone: Cell<bool>,
    interrupted: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

impl Terminal {
    /// The terminal whose echo goes to `output`.
    pub fn new(output: Handle) -> Rc<Self> {
        Rc::new(Self {
            output,
            mode: Cell::new(Mode::Keys),
            input: RefCell::default(),
            line: RefCell::default(),
            ends: Cell::new(0),
            gone: Cell::new(false),
            interrupted: Cell::new(false),
            waiting: RefCell::default(),
        })
    }

    /// Reads `input` for ever and hands on what is typed; a task of its own.
    pub async fn pump(self: Rc<Self>, input: Handle) {
        let mut buffer = [0; 1024];
        loop {
            match input.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => buffer.get(..count).unwrap_or_default().iter().for_each(|byte| self.typed(*byte)),
            }
            self.wake();
        }
        self.gone.set(true);
        self.wake();
    }

    /// Changes who gets the bytes, and returns who got them before.
    pub fn set_mode(&self, mode: Mode) -> Mode {
        let before = self.mode.replace(mode);
        if mode != Mode::Lines {
            // A half-typed line goes to whoever reads next.
            let line = self.line.take();
            self.input.borrow_mut().extend(line);
            self.ends.set(0);
        }
        self.wake();
        before
    }

    fn wake(&self) {
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    fn typed(&self, byte: u8) {
        let mode = self.mode.get();
        if byte == 3 && mode != Mode::Keys {
            self.input.borrow_mut().clear();
            self.line.borrow_mut().clear();
            self.echo(b"^C\n");
            self.interrupted.set(true);
            return;
        }
        if mode != Mode::Lines {
            let mut input = self.input.borrow_mut();
            if input.len() < LIMIT {
                input.push_back(byte);
            }
            return;
        }
        let mut line = self.line.borrow_mut();
        match byte {
            b'\r' | b'\n' => {
                line.push(b'\n');
                self.echo(b"\n");
                let mut input = self.input.borrow_mut();
                if input.len() + line.len() <= LIMIT {
                    input.extend(line.drain(..));
                }
                line.clear();
            }
            4 if line.is_empty() => self.ends.set(self.ends.get() + 1),
            4 => self.input.borrow_mut().extend(line.drain(..)),
            8 | 127 => self.erase(&mut line, 1),
            0x15 => {
                let count = characters(&line);
                self.erase(&mut line, count);
            }
            0x17 => {
                let text = String::from_utf8_lossy(&line).into_owned();
                let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                let count = text.get(kept..).unwrap_or_default().chars().count();
                self.erase(&mut line, count);
            }
            byte => {
                if line.len() < 4096 {
                    line.push(byte);
                    self.echo(&[byte]);
                }
            }
        }
    }

    fn erase(&self, line: &mut Vec<u8>, count: usize) {
        for _ in 0..count {
            // Back to the first byte of the character.
            while let Some(byte) = line.pop() {
                if byte & 0xc0 != 0x80 {
                    self.echo(b"\x08 \x08");
                    break;
                }
            }
        }
    }

    fn echo(&self, bytes: &[u8]) {
        // A terminal that is gone shows itself at the next read.
        let _ = self.write(bytes);
    }

    /// Writes at once.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        match self.output.file() {
            Some(mut file) => io::Write::write_all(&mut file, bytes),
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
        }
    }

    /// Whether bytes wait to be read.
    pub fn has_input(&self) -> bool {
        !self.input.borrow().is_empty()
    }

    fn wait(&self, context: &mut Context<'_>) {
        self.waiting.borrow_mut().push(context.waker().clone());
    }

    /// Reads what was typed: at most one line in lines mode. 0 is the end.
    pub async fn read(&self, buffer: &mut [u8]) -> usize {
        poll_fn(|context| {
            let mut input = self.input.borrow_mut();
            if input.is_empty() {
                if self.gone.get() {
                    return Poll::Ready(0);
                }
                if self.ends.get() > 0 {
                    self.ends.set(self.ends.get() - 1);
                    return Poll::Ready(0);
                }
                self.wait(context);
                return Poll::Pending;
            }
            let mut count = 0;
            let lines = self.mode.get() == Mode::Lines;
            for place in buffer.iter_mut() {
                let Some(byte) = input.pop_front() else { break };
                *place = byte;
                count += 1;
                if lines && byte == b'\n' {
                    break;
                }
            }
            Poll::Ready(count)
        })
        .await
    }

    /// Waits for ^C, which is forgotten before.
    pub async fn interrupt(&self) {
        self.interrupted.set(false);
        poll_fn(|context| {
            if self.interrupted.replace(false) || self.gone.get() {
                return Poll::Ready(());
            }
            self.wait(context);
            Poll::Pending
        })
        .await;
    }
}

fn characters(line: &[u8]) -> usize {
    line.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}
