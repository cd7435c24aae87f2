//! What an applet runs in: its arguments, environment, working directory and descriptors. WASI knows no working
//! directory, so every path of an applet goes through here.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::rc::Rc;

use crate::runtime::executor::{Local, tick};
use crate::runtime::file::{Handle, Lines, OpenFile};
use crate::runtime::output::Output;
use crate::runtime::terminal::Terminal;
use crate::sys::{self, Status};
use crate::text;

/// Descriptors by their numbers.
pub type Fds = BTreeMap<u32, Handle>;

/// Why an applet ends early.
#[derive(Debug)]
pub enum Fail {
    /// A text for the standard error, behind the applet's name, and the status.
    Message(String, u8),
    /// Nobody reads any more.
    Pipe,
}

impl From<io::Error> for Fail {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPIPE) => Fail::Pipe,
            _ => Fail::Message(sys::words(&error), 1),
        }
    }
}

/// How an applet ends: its status, or why not.
pub type Outcome = Result<u8, Fail>;

/// The status of what a broken pipe ends, as the signal's would be.
pub const BROKEN_PIPE: u8 = 141;

/// A text for the standard error.
pub fn fail<T>(message: impl Into<String>) -> Result<T, Fail> {
    Err(Fail::Message(message.into(), 1))
}

/// An error with the words of `what`, which holds `{}` for the system's.
pub fn because<T>(what: &str, error: &io::Error) -> Result<T, Fail> {
    match error.raw_os_error() {
        Some(libc::EPIPE) => Err(Fail::Pipe),
        _ => Err(Fail::Message(format!("{what}: {}", sys::words(error)), 1)),
    }
}

/// An applet's surroundings.
pub struct Context {
    /// The name by which it was called.
    pub name: String,
    /// Its arguments, without the name.
    pub args: Vec<String>,
    /// The environment.
    pub env: Rc<BTreeMap<String, String>>,
    /// The working directory, absolute.
    pub cwd: String,
    /// Its descriptors.
    pub fds: Fds,
    /// Standard output, buffered.
    pub out: Output,
    /// The raw terminal, if the shell has made it so.
    pub terminal: Option<Rc<Terminal>>,
    /// How deep programs started programs; bounded, as every one takes of the stack.
    pub depth: u32,
}

impl Context {
    /// Standard input.
    pub fn stdin(&self) -> io::Result<Handle> {
        self.fds.get(&0).cloned().ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    /// Lines of the standard input.
    pub fn lines(&self) -> io::Result<Lines> {
        Ok(Lines::new(self.stdin()?))
    }

    /// An absolute path.
    pub fn path(&self, path: &str) -> String {
        absolute(&self.cwd, path)
    }

    /// An environment variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str)
    }

    /// Status of a path or of what it leads to.
    pub fn status(&self, path: &str, follow: bool) -> io::Result<Status> {
        status(&self.cwd, path, follow)
    }

    /// Opens for reading; `-` is the standard input.
    pub fn open(&self, path: &str) -> io::Result<Handle> {
        if path == "-" {
            return self.stdin();
        }
        open(&self.path(path), &self.fds, OpenOptions::new().read(true))
    }

    /// Opens for writing, anew.
    pub fn create(&self, path: &str) -> io::Result<Handle> {
        open(&self.path(path), &self.fds, OpenOptions::new().write(true).create(true).truncate(true))
    }

    /// Opens for writing at the end.
    pub fn append(&self, path: &str) -> io::Result<Handle> {
        open(&self.path(path), &self.fds, OpenOptions::new().append(true).create(true))
    }

    /// Says something on the standard error, behind the applet's name. What cannot be said is lost.
    pub async fn complain(&mut self, message: &str) {
        let name = self.name.clone();
        self.error_text(&format!("{name}: {message}\n")).await;
    }

    /// As `complain`, for an error with a path or the like.
    pub async fn complain_of(&mut self, what: &str, error: &io::Error) {
        self.complain(&format!("{what}: {}", sys::words(error))).await;
    }

    /// Writes to the standard error, after all that was printed.
    pub async fn error_text(&mut self, text: &str) {
        let _ = self.out.flush().await;
        if let Some(handle) = self.fds.get(&2) {
            let _ = handle.write(&text::encode(text)).await;
        }
    }

    /// Prints text.
    pub async fn print(&mut self, words: &str) -> Result<(), Fail> {
        tick().await;
        Ok(self.out.text(words).await?)
    }

    /// Prints bytes.
    pub async fn bytes(&mut self, bytes: &[u8]) -> Result<(), Fail> {
        tick().await;
        Ok(self.out.bytes(bytes).await?)
    }

    /// The next line; what was printed goes out before waiting for it.
    pub async fn next(&mut self, lines: &mut Lines) -> Result<Option<(Vec<u8>, bool)>, Fail> {
        if !lines.has_line() {
            self.out.flush().await?;
        }
        tick().await;
        Ok(lines.next().await?)
    }

    /// The next bytes; what was printed goes out before waiting for them.
    pub async fn chunk(&mut self, lines: &mut Lines) -> Result<Vec<u8>, Fail> {
        self.out.flush().await?;
        Ok(lines.chunk().await?)
    }
}

/// An applet.
pub struct Applet {
    /// Its name.
    pub name: &'static str,
    /// What runs.
    pub run: for<'a> fn(&'a mut Context) -> Local<'a, Outcome>,
}

/// Makes the table's entry of an `async fn NAME(&mut Context) -> Outcome`.
#[macro_export]
macro_rules! applet {
    ($name:expr, $function:path) => {
        $crate::context::Applet { name: $name, run: |context| Box::pin($function(context)) }
    };
}

/// Opens an absolute path. The names of one's own descriptors are those that the shell has given, and the devices that
/// scripts rely on are there even where the file system has none.
pub fn open(path: &str, fds: &Fds, options: &OpenOptions) -> io::Result<Handle> {
    let own = match path {
        "/dev/null" => return Ok(Rc::new(OpenFile::Null)),
        "/dev/stdin" => Some("0"),
        "/dev/stdout" => Some("1"),
        "/dev/stderr" => Some("2"),
        _ => path.strip_prefix("/dev/fd/"),
    };
    if let Some(number) = own.and_then(|number| number.parse().ok()) {
        return fds.get(&number).cloned().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT));
    }
    match options.open(path) {
        Ok(file) => Ok(OpenFile::host(file)),
        Err(_) if path == "/dev/zero" => Ok(Rc::new(OpenFile::Zero)),
        Err(error) => Err(error),
    }
}

/// The status of a path.
pub fn status(cwd: &str, path: &str, follow: bool) -> io::Result<Status> {
    if path.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    sys::status(&absolute(cwd, path), follow)
}

/// An absolute path, as it stands: `..` is left to the file system.
pub fn absolute(cwd: &str, path: &str) -> String {
    if path.starts_with('/') {
        path.to_string()
    } else if path.is_empty() {
        // What does not exist, rather than the directory itself.
        String::new()
    } else if cwd.ends_with('/') {
        format!("{cwd}{path}")
    } else {
        format!("{cwd}/{path}")
    }
}

/// An absolute path without `.`, `..` and double slashes, by its words alone.
pub fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
