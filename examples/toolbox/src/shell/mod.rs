//! The shell: its state, and the ways it ends. A subshell, a stage of a pipeline and a job each have a copy of the state
//! and are tasks of their own.

mod arithmetic;
mod assign;
mod builtins;
mod commands;
mod complete;
mod compound;
mod editor;
mod execute;
mod expand;
mod glob;
mod input;
mod interactive;
mod jobs;
mod line;
mod options;
mod parser;
pub mod pattern;
mod redirect;
mod simple;
mod source;
mod special;
mod start;
mod syntax;
mod words;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use crate::context::{BROKEN_PIPE, Fds};
use crate::runtime::terminal::Terminal;
use crate::sys;
use crate::text;

pub use jobs::Jobs;
pub use options::Options;
pub use start::shell;
use syntax::Command;

/// Why a command does not simply go on to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// `break` out of so many loops.
    Break(u32),
    /// `continue` the loop so many further out.
    Continue(u32),
    /// `return`.
    Return(u8),
    /// `exit`.
    Exit(u8),
    /// An error that ends a script, and takes a person back to the prompt.
    Fatal(u8),
}

impl Flow {
    /// The status of a shell that ends this way.
    pub fn status(self, last: u8) -> u8 {
        match self {
            Flow::Break(_) | Flow::Continue(_) => last,
            Flow::Return(status) | Flow::Exit(status) | Flow::Fatal(status) => status,
        }
    }
}

/// The status of a command, or another way to go on.
pub type Run = Result<u8, Flow>;

/// A variable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variable {
    /// Its value; one may be exported or read-only without one.
    pub value: Option<String>,
    /// It goes into the environment of programs.
    pub exported: bool,
    /// It cannot be changed.
    pub read_only: bool,
}

/// The state of a shell.
#[derive(Clone)]
pub struct Shell {
    /// `$0`.
    pub name: String,
    /// The name in messages: what the shell was called by.
    pub label: String,
    /// Variables.
    pub variables: HashMap<String, Variable>,
    /// `$1` and so on.
    pub positional: Rc<Vec<String>>,
    /// Functions.
    pub functions: Rc<HashMap<String, Rc<Command>>>,
    /// Aliases.
    pub aliases: Rc<HashMap<String, String>>,
    /// `set -e` and so on.
    pub options: Options,
    /// Open descriptors.
    pub fds: Fds,
    /// The working directory.
    pub cwd: String,
    /// `$?`.
    pub status: u8,
    /// `$!`.
    pub last_background: Option<u32>,
    /// Background jobs.
    pub jobs: Rc<RefCell<Jobs>>,
    /// Traps by the names of their conditions.
    pub traps: BTreeMap<String, String>,
    /// What `local` has hidden, for each function that runs.
    scopes: Vec<HashMap<String, Option<Variable>>>,
    /// Greater than 0 where a failure is asked for, so that `set -e` does not count.
    tested: u32,
    /// Loops around the command.
    loops: u32,
    /// Functions and sourced files around the command, in which `return` is possible.
    returnable: u32,
    /// How deep functions, shells and groups are nested.
    depth: u32,
    /// How deep programs started this shell.
    programs: u32,
    /// The status of the last command substitution of the running command.
    substituted: Option<u8>,
    /// The line of the running command.
    line: usize,
    /// Where `getopts` stands inside an argument.
    option_offset: usize,
    /// The terminal, where the shell does its line discipline.
    pub terminal: Option<Rc<Terminal>>,
    /// Lines that were typed.
    pub history: Rc<RefCell<Vec<String>>>,
}

impl Shell {
    /// The value of a parameter: a variable or one of the special ones.
    pub fn value(&self, name: &str) -> Option<String> {
        match name {
            "?" => Some(self.status.to_string()),
            "#" => Some(self.positional.len().to_string()),
            "$" => Some(process_id().to_string()),
            "!" => self.last_background.map(|pid| pid.to_string()),
            "-" => Some(self.options.letters()),
            "0" => Some(self.name.clone()),
            "@" | "*" => Some(self.positional.join(" ")),
            "LINENO" => Some(self.line.to_string()),
            _ if name.starts_with(|first: char| first.is_ascii_digit()) => {
                let number: usize = name.parse().ok()?;
                self.positional.get(number.checked_sub(1)?).cloned()
            }
            _ => self.variables.get(name)?.value.clone(),
        }
    }

    /// The exported variables.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let exported = self.variables.iter().filter(|(_, variable)| variable.exported);
        exported.filter_map(|(name, variable)| Some((name.clone(), variable.value.clone()?))).collect()
    }

    /// A copy for a task of its own.
    pub fn subshell(&self) -> Shell {
        let mut shell = self.clone();
        shell.jobs = Rc::default();
        shell.traps.retain(|_, action| action.is_empty());
        shell.loops = 0;
        shell.options.interactive = false;
        shell.depth = 0;
        shell
    }

    /// Says something on the standard error.
    pub async fn complain(&self, message: &str) {
        self.error_text(&format!("{}: {message}\n", self.label)).await;
    }

    /// Writes to the standard error; what cannot be said is lost.
    pub async fn error_text(&self, words: &str) {
        if let Some(handle) = self.fds.get(&2) {
            let _ = handle.write(&text::encode(words)).await;
        }
    }

    /// Says why a command line is given up.
    pub async fn fatal(&self, message: &str) -> Flow {
        self.complain(message).await;
        Flow::Fatal(2)
    }

    /// Prints on the standard output. A broken pipe ends the shell, as its signal would.
    pub async fn print(&self, words: &str) -> Run {
        let Some(handle) = self.fds.get(&1) else {
            self.complain("write error: Bad file descriptor").await;
            return Ok(1);
        };
        match handle.write(&text::encode(words)).await {
            Ok(()) => Ok(0),
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => Err(Flow::Exit(BROKEN_PIPE)),
            Err(error) => {
                self.complain(&format!("write error: {}", sys::words(&error))).await;
                Ok(1)
            }
        }
    }
}

/// The number of the process, where /proc tells it; a guest is otherwise the first and only one that it knows of.
pub fn process_id() -> u32 {
    thread_local! {
        static ID: u32 = std::fs::read_to_string("/proc/self/stat")
            .ok()
            .and_then(|line| line.split(' ').next()?.parse().ok())
            .unwrap_or(1);
    }
    ID.with(|id| *id)
}
