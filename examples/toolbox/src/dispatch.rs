//! From a command's name to what runs. A name is found as any shell finds it, in the PATH; but only applets can run in
//! this process, so a file counts by its name or by the interpreter that its first line names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::rc::Rc;

use crate::applets;
use crate::context::{Applet, BROKEN_PIPE, Context, Fail, Fds, absolute};
use crate::runtime::output::Output;
use crate::runtime::terminal::Terminal;
use crate::sys::{self, Kind};
use crate::text;

/// The PATH where none is set.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Programs that start programs that start programs; each takes of the stack.
const DEPTH: u32 = 60;

/// What a program is started with.
#[derive(Clone)]
pub struct Surroundings {
    /// The environment.
    pub env: Rc<BTreeMap<String, String>>,
    /// The working directory.
    pub cwd: String,
    /// The descriptors.
    pub fds: Fds,
    /// The raw terminal.
    pub terminal: Option<Rc<Terminal>>,
    /// How deep programs started programs.
    pub depth: u32,
    /// Where programs are looked for.
    pub path: Option<String>,
}

impl Surroundings {
    /// Those of an applet, for a program that it starts.
    pub fn of(context: &Context) -> Self {
        Self {
            env: Rc::clone(&context.env),
            cwd: context.cwd.clone(),
            fds: context.fds.clone(),
            terminal: context.terminal.clone(),
            depth: context.depth,
            path: context.variable("PATH").map(str::to_string),
        }
    }
}

/// What a command's name leads to.
pub enum Found {
    /// An applet, and the file by which it was found, if there is one.
    Applet(&'static Applet, Option<String>),
    /// A script: its interpreter, the argument in its first line, its path.
    Script(&'static Applet, String, Option<String>, String),
    /// Nothing that runs: why, and the status.
    Nothing(String, u8),
}

/// Looks a command up.
pub fn find(name: &str, path: Option<&str>, cwd: &str) -> Found {
    if name.is_empty() {
        return Found::Nothing(format!("{name}: not found"), 127);
    }
    if name.contains('/') {
        let file = absolute(cwd, name);
        return match sys::status(&file, true) {
            Ok(_) => look_into(name, &file),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Found::Nothing(format!("{name}: not found"), 127),
            Err(error) => Found::Nothing(format!("{name}: {}", sys::words(&error)), 126),
        };
    }
    let mut refused = None;
    for directory in path.unwrap_or(PATH).split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let file = absolute(cwd, &format!("{}/{name}", directory.trim_end_matches('/')));
        match sys::status(&file, true) {
            Ok(status) if status.is_directory() => {}
            Ok(_) => match look_into(name, &file) {
                found @ Found::Nothing(..) => {
                    refused.get_or_insert(found);
                }
                found => return found,
            },
            Err(_) => {}
        }
    }
    // The toolbox may be mounted anywhere, without links to it in the PATH.
    match (refused, applets::find(name)) {
        (Some(found), _) => found,
        (None, Some(applet)) => Found::Applet(applet, None),
        (None, None) => Found::Nothing(format!("{name}: not found"), 127),
    }
}

fn look_into(name: &str, file: &str) -> Found {
    let denied = || Found::Nothing(format!("{name}: Permission denied"), 126);
    if !sys::status(file, true).is_ok_and(|status| status.kind == Kind::File) {
        return denied();
    }
    let mut first = Vec::new();
    match File::open(file).and_then(|opened| opened.take(256).read_to_end(&mut first)) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => return denied(),
        Err(error) => return Found::Nothing(format!("{name}: {}", sys::words(&error)), 126),
    }
    if let Some(rest) = first.strip_prefix(b"#!") {
        let line = text::decode(rest.split(|byte| *byte == b'\n').next().unwrap_or_default());
        let (interpreter, argument) = match line.trim().split_once([' ', '\t']) {
            Some((interpreter, argument)) => (interpreter, Some(argument.trim().to_string())),
            None => (line.trim(), None),
        };
        return match applets::find(text::base_name(interpreter)) {
            Some(applet) => Found::Script(applet, interpreter.to_string(), argument, file.to_string()),
            None => Found::Nothing(format!("{name}: its interpreter {interpreter} is none that the toolbox has"), 126),
        };
    }
    match applets::find(text::base_name(name)) {
        Some(applet) => Found::Applet(applet, Some(file.to_string())),
        None => Found::Nothing(
            format!(
                "{name}: the shell cannot start other programs (a WebAssembly guest has no fork and exec); `kubectl exec` can"
            ),
            126,
        ),
    }
}

/// Runs a command; `label` is who says why it cannot be.
pub async fn run(label: &str, name: &str, mut args: Vec<String>, surroundings: Surroundings) -> u8 {
    let (applet, name) = match find(name, surroundings.path.as_deref(), &surroundings.cwd) {
        Found::Applet(applet, _) => (applet, name.to_string()),
        Found::Script(applet, interpreter, argument, file) => {
            let given = if name.contains('/') { name.to_string() } else { file };
            args.insert(0, given);
            if let Some(argument) = argument {
                args.insert(0, argument);
            }
            (applet, interpreter)
        }
        Found::Nothing(message, status) => {
            if let Some(handle) = surroundings.fds.get(&2) {
                let _ = handle.write(&text::encode(&format!("{label}: {message}\n"))).await;
            }
            return status;
        }
    };
    run_applet(applet, &name, args, surroundings).await
}

/// Runs an applet to its end.
pub async fn run_applet(applet: &Applet, name: &str, args: Vec<String>, surroundings: Surroundings) -> u8 {
    let out = Output::new(surroundings.fds.get(&1).cloned());
    // Shells go by what they were called, others by what they are.
    let name = if applet.name == "sh" { name } else { text::base_name(name) };
    let mut context = Context {
        name: name.to_string(),
        args,
        env: surroundings.env,
        cwd: surroundings.cwd,
        fds: surroundings.fds,
        out,
        terminal: surroundings.terminal,
        depth: surroundings.depth + 1,
    };
    let result = if context.depth > DEPTH {
        Err(Fail::Message(format!("programs started programs more than {DEPTH} deep"), 126))
    } else {
        (applet.run)(&mut context).await
    };
    let flushed = context.out.flush().await;
    match (result, flushed) {
        (Err(Fail::Pipe), _) => BROKEN_PIPE,
        (Err(Fail::Message(message, status)), _) => {
            context.complain(&message).await;
            status
        }
        (Ok(_), Err(error)) if error.raw_os_error() == Some(libc::EPIPE) => BROKEN_PIPE,
        (Ok(_), Err(error)) => {
            context.complain(&format!("write error: {}", sys::words(&error))).await;
            1
        }
        (Ok(status), Ok(())) => status,
    }
}
