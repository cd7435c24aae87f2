//! `sh` as a program: its arguments, and where its commands come from.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::parser::Parser;
use super::syntax::SyntaxError;
use super::{Flow, Options, Run, Shell, Variable};
use crate::context::{Context, Fail, Outcome, because};
use crate::runtime::file::read_all;
use crate::text;

/// The applet `sh`.
pub async fn shell(context: &mut Context) -> Outcome {
    let mut options = Options::default();
    let mut command = false;
    let mut at = 0;
    while let Some(argument) = context.args.get(at) {
        let on = argument.starts_with('-');
        if !(on || argument.starts_with('+')) || argument.len() < 2 {
            if argument == "-" {
                at += 1;
            }
            break;
        }
        at += 1;
        if argument == "--" || argument == "--login" {
            if argument == "--" {
                break;
            }
            continue;
        }
        let letters: Vec<char> = argument.chars().skip(1).collect();
        for letter in letters {
            match letter {
                'c' => command = true,
                'o' => {
                    let name = context.args.get(at).cloned().unwrap_or_default();
                    at += 1;
                    if !options.set_name(&name, on) {
                        return Err(Fail::Message(format!("illegal option -o {name}"), 2));
                    }
                }
                letter => {
                    if !options.set_letter(letter, on) {
                        return Err(Fail::Message(format!("illegal option -{letter}"), 2));
                    }
                }
            }
        }
    }
    let mut rest: Vec<String> = context.args.split_off(at.min(context.args.len()));
    let mut shell = new_shell(context, options);
    if command {
        if rest.is_empty() {
            return Err(Fail::Message("-c requires an argument".into(), 2));
        }
        let script = rest.remove(0);
        if !rest.is_empty() {
            shell.name = rest.remove(0);
        }
        shell.positional = Rc::new(rest);
        return Ok(shell.run_to_end(|shell| Box::pin(async move { shell.run_text(&script).await })).await);
    }
    if !rest.is_empty() && !options.from_input {
        let file = rest.remove(0);
        let content = match context.open(&file) {
            Ok(handle) => read_all(&handle).await,
            Err(error) => Err(error),
        };
        let content = match content {
            Ok(content) => text::decode(&content),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                return Err(Fail::Message(format!("can't open '{file}': No such file or directory"), 2));
            }
            Err(error) => {
                return because(&format!("can't open '{file}'"), &error)
                    .map_err(|_: Fail| Fail::Message(format!("can't open '{file}': {}", crate::sys::words(&error)), 2));
            }
        };
        shell.name.clone_from(&file);
        shell.label = file;
        shell.positional = Rc::new(rest);
        return Ok(shell.run_to_end(|shell| Box::pin(async move { shell.run_text(&content).await })).await);
    }
    shell.positional = Rc::new(rest);
    let person = shell.fds.get(&0).is_some_and(|handle| handle.is_terminal())
        && shell.fds.get(&2).is_some_and(|handle| handle.is_terminal());
    shell.options.interactive = options.interactive || person;
    shell.options.from_input = true;
    if shell.options.interactive {
        return Ok(shell.converse().await);
    }
    Ok(shell.run_to_end(|shell| Box::pin(shell.run_input())).await)
}

fn new_shell(context: &Context, options: Options) -> Shell {
    let mut variables: HashMap<String, Variable> = HashMap::new();
    for (name, value) in context.env.iter().filter(|(name, _)| super::syntax::is_name(name)) {
        variables.insert(name.clone(), Variable { value: Some(value.clone()), exported: true, read_only: false });
    }
    let mut default = |name: &str, value: &str, exported: bool| {
        variables.entry(name.to_string()).or_insert_with(|| Variable {
            value: Some(value.to_string()),
            exported,
            read_only: false,
        });
    };
    default("PATH", crate::dispatch::PATH, true);
    default("IFS", " \t\n", false);
    default("OPTIND", "1", false);
    default("PS1", "", false);
    default("PS2", "> ", false);
    default("PS4", "+ ", false);
    default("PPID", "0", false);
    if let Some(ifs) = variables.get_mut("IFS") {
        // Never from the environment.
        *ifs = Variable { value: Some(" \t\n".into()), exported: false, read_only: false };
    }
    let level = variables.get("SHLVL").and_then(|level| level.value.as_ref()?.parse::<u32>().ok()).unwrap_or(0);
    variables
        .insert("SHLVL".into(), Variable { value: Some(level.saturating_add(1).to_string()), exported: true, read_only: false });
    variables.insert("PWD".into(), Variable { value: Some(context.cwd.clone()), exported: true, read_only: false });
    Shell {
        name: context.name.clone(),
        label: context.name.clone(),
        variables,
        positional: Rc::default(),
        functions: Rc::default(),
        aliases: Rc::default(),
        options,
        fds: context.fds.clone(),
        cwd: context.cwd.clone(),
        status: 0,
        last_background: None,
        jobs: Rc::default(),
        traps: BTreeMap::new(),
        scopes: Vec::new(),
        tested: 0,
        loops: 0,
        returnable: 0,
        depth: 0,
        programs: context.depth,
        substituted: None,
        line: 1,
        option_offset: 0,
        terminal: context.terminal.clone(),
        history: Rc::default(),
    }
}

impl Shell {
    /// Runs commands from the standard input, line by line: what they do not read is theirs to read.
    pub async fn run_input(&mut self) -> Run {
        let mut status = 0;
        let mut source = String::new();
        let mut line_number = 1;
        loop {
            let (line, ended) = self.input_line().await;
            let last = !ended;
            source.push_str(&line);
            if last && source.is_empty() {
                return Ok(status);
            }
            let parser = Parser::new(&source, Rc::clone(&self.aliases), line_number);
            let mut parser = if last { parser } else { parser.may_grow() };
            match parser.line_of_commands() {
                Err(SyntaxError::Incomplete(_)) if !last => continue,
                Err(error) => return Err(self.fatal(&error.to_string()).await),
                Ok(list) => {
                    line_number += source.matches('\n').count();
                    source.clear();
                    if let Some(list) = list {
                        status = match self.run_list(&list).await {
                            Err(Flow::Break(_) | Flow::Continue(_)) => 0,
                            other => other?,
                        };
                    }
                }
            }
            if last {
                return Ok(status);
            }
        }
    }

    /// A line of the standard input with its newline, and whether it had one.
    pub async fn input_line(&self) -> (String, bool) {
        let mut bytes = Vec::new();
        let mut byte = [0];
        if let Some(handle) = self.fds.get(&0) {
            while let Ok(1) = handle.read(&mut byte).await {
                bytes.extend(byte);
                if byte == *b"\n" {
                    return (text::decode(&bytes), true);
                }
            }
        }
        (text::decode(&bytes), false)
    }
}
