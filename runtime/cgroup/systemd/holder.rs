//! The process that is in a scope before its guest is.
//!
//! It waits for the end of its input, which is a pipe of the daemon's: so it ends when it is let go of, and also when the daemon is
//! killed. A scope that nobody else has joined by then goes with it.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process that waits. Dropping this ends it.
#[derive(Debug)]
pub struct Holder(Child);

impl Holder {
    pub(super) fn start(program: &Path) -> io::Result<Holder> {
        let mut command = Command::new(program);
        command.arg("hold").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).env_clear();
        command.spawn().map(Holder)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It does nothing that could not be cut off. Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
