//! A guest's streams without a terminal, for `cri-wasm run`: its log shown as it grows, its FIFO filled.

use std::io::Write;
use std::path::PathBuf;

/// Copies this process's standard input into the guest's.
pub(super) fn feed(fifo: String) {
    // A thread, because a read of standard input cannot be cancelled; it ends with the process.
    std::thread::spawn(move || {
        // Waits for the guest to open its end.
        let Ok(mut writer) = std::fs::File::options().write(true).open(fifo) else { return };
        // A guest that ends without reading it all is no error.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut writer);
    });
}

/// Shows a CRI log as the streams that it came from.
pub(super) struct Follower {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
}

impl Follower {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0, rest: Vec::new() }
    }

    /// Shows what has been written since.
    pub(super) fn show(&mut self) -> anyhow::Result<()> {
        use std::os::unix::fs::FileExt;
        let Ok(file) = std::fs::File::open(&self.path) else { return Ok(()) };
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = file.read_at(&mut buffer, self.offset)?;
            if length == 0 {
                break;
            }
            self.offset += u64::try_from(length)?;
            self.rest.extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
        let (mut out, mut err) = (std::io::stdout().lock(), std::io::stderr().lock());
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            // TIME STREAM TAG TEXT; the tag says whether the line ends here.
            let mut fields = line.splitn(4, |&byte| byte == b' ');
            let (_, stream, tag, text) = (fields.next(), fields.next(), fields.next(), fields.next().unwrap_or_default());
            let text = if tag == Some(b"P") { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
            let written = if stream == Some(b"stderr") { err.write_all(text) } else { out.write_all(text) };
            match written {
                // `run … | head`: who reads has enough.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
        out.flush().or_else(|error| if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })?;
        Ok(())
    }
}
