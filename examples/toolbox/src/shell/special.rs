//! The special builtins of POSIX: what changes the shell itself. Their errors end a script.

use std::rc::Rc;

use super::assign::quoted;
use super::parser::Parser;
use super::syntax::is_name;
use super::{Flow, Run, Shell};
use crate::context::{Fds, absolute};
use crate::dispatch;
use crate::runtime::file::read_all;
use crate::text;

/// Whether a name is one of them.
pub fn is_special(name: &str) -> bool {
    matches!(
        name,
        "." | ":"
            | "break"
            | "continue"
            | "eval"
            | "exec"
            | "exit"
            | "export"
            | "readonly"
            | "return"
            | "set"
            | "shift"
            | "times"
            | "trap"
            | "unset"
    )
}

impl Shell {
    /// Runs a special builtin other than `exec`.
    pub async fn special(&mut self, name: &str, args: &[String]) -> Run {
        match name {
            "." => self.source(args).await,
            "break" | "continue" => self.leave_loop(name, args).await,
            "eval" => {
                let text = args.join(" ");
                Box::pin(self.run_text(&text)).await
            }
            "exec" => self.exec(args, self.fds.clone()).await,
            "exit" => {
                let status = self.number(name, args).await?.unwrap_or(u32::from(self.status));
                Err(Flow::Exit((status & 0xff) as u8))
            }
            "return" => {
                let status = (self.number(name, args).await?.unwrap_or(u32::from(self.status)) & 0xff) as u8;
                Err(if self.returnable > 0 { Flow::Return(status) } else { Flow::Exit(status) })
            }
            "export" | "readonly" => self.declare(name, args).await,
            "set" => self.set(args).await,
            "shift" => {
                let count = self.number(name, args).await?.unwrap_or(1) as usize;
                match self.positional.get(count..) {
                    Some(rest) => {
                        self.positional = Rc::new(rest.to_vec());
                        Ok(0)
                    }
                    None => Err(self.fatal("shift: can't shift that many").await),
                }
            }
            "times" => self.print("0m0.00s 0m0.00s\n0m0.00s 0m0.00s\n").await,
            "trap" => self.trap(args).await,
            "unset" => self.unset(args).await,
            _ => Ok(0),
        }
    }

    async fn number(&mut self, name: &str, args: &[String]) -> Result<Option<u32>, Flow> {
        match args.first() {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.fatal(&format!("{name}: Illegal number: {text}")).await),
            },
        }
    }

    async fn leave_loop(&mut self, name: &str, args: &[String]) -> Run {
        let count = self.number(name, args).await?.unwrap_or(1);
        if count == 0 {
            return Err(self.fatal(&format!("{name}: Illegal number: 0")).await);
        }
        if self.loops == 0 {
            return Ok(0);
        }
        let count = count.min(self.loops);
        Err(if name == "break" { Flow::Break(count) } else { Flow::Continue(count) })
    }

    /// Runs a text as commands.
    pub async fn run_text(&mut self, source: &str) -> Run {
        if self.depth >= super::execute::DEPTH {
            return Err(self.fatal("eval: nested too deep").await);
        }
        self.depth += 1;
        let result = self.run_text_inner(source).await;
        self.depth -= 1;
        result
    }

    async fn run_text_inner(&mut self, source: &str) -> Run {
        let mut parser = Parser::new(source, Rc::clone(&self.aliases), self.line.max(1));
        let mut status = 0;
        loop {
            match parser.line_of_commands() {
                Ok(Some(list)) => {
                    status = self.run_list(&list).await?;
                    parser.set_aliases(&self.aliases);
                }
                Ok(None) => return Ok(status),
                Err(error) => return Err(self.fatal(&error.to_string()).await),
            }
        }
    }

    async fn source(&mut self, args: &[String]) -> Run {
        let Some(name) = args.first() else {
            return Err(self.fatal(".: a file's name is missing").await);
        };
        let mut file = absolute(&self.cwd, name);
        if !name.contains('/') {
            let path = self.value("PATH").unwrap_or_else(|| dispatch::PATH.into());
            let found = path.split(':').map(|directory| absolute(&self.cwd, &format!("{directory}/{name}")));
            file = found.into_iter().find(|candidate| std::path::Path::new(candidate).is_file()).unwrap_or(file);
        }
        let content = match crate::context::open(&file, &self.fds, std::fs::OpenOptions::new().read(true)) {
            Ok(handle) => read_all(&handle).await,
            Err(error) => Err(error),
        };
        let content = match content {
            Ok(content) => text::decode(&content),
            Err(_) => return Err(self.fatal(&format!(".: can't open '{name}': No such file or directory")).await),
        };
        let positional = (args.len() > 1).then(|| std::mem::replace(&mut self.positional, Rc::new(args[1..].to_vec())));
        self.returnable += 1;
        let loops = std::mem::take(&mut self.loops);
        let result = Box::pin(self.run_text(&content)).await;
        self.loops = loops;
        self.returnable -= 1;
        if let Some(positional) = positional {
            self.positional = positional;
        }
        match result {
            Err(Flow::Return(status)) => Ok(status),
            other => other,
        }
    }

    /// `exec`: new descriptors for the rest of the shell, or a last command.
    pub async fn exec(&mut self, args: &[String], fds: Fds) -> Run {
        self.fds = fds;
        match args.split_first() {
            None => Ok(0),
            Some((name, args)) => {
                let status = self.run_program(name, args).await;
                self.traps.remove("EXIT");
                Err(Flow::Exit(status))
            }
        }
    }

    async fn declare(&mut self, kind: &str, args: &[String]) -> Run {
        let export = kind == "export";
        let mut list = args;
        let mut removing = false;
        while let Some((first, rest)) = list.split_first() {
            match first.as_str() {
                "-p" | "--" => {}
                "-n" if export => removing = true,
                _ => break,
            }
            list = rest;
        }
        if list.is_empty() {
            let mut lines: Vec<String> = Vec::new();
            for (name, variable) in &self.variables {
                if (export && variable.exported) || (!export && variable.read_only) {
                    let value = variable.value.as_ref().map(|value| format!("={}", quoted(value))).unwrap_or_default();
                    lines.push(format!("{kind} {name}{value}\n"));
                }
            }
            lines.sort();
            return self.print(&lines.concat()).await;
        }
        for argument in list {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            };
            if !is_name(name) {
                return Err(self.fatal(&format!("{kind}: {name}: bad variable name")).await);
            }
            if let Some(value) = value {
                self.assign(name, value).await?;
            }
            let variable = self.variables.entry(name.to_string()).or_default();
            if export {
                variable.exported = !removing;
            } else {
                variable.read_only = true;
            }
        }
        Ok(0)
    }

    async fn set(&mut self, args: &[String]) -> Run {
        if args.is_empty() {
            let mut lines: Vec<String> = self
                .variables
                .iter()
                .filter_map(|(name, variable)| Some(format!("{name}={}\n", quoted(variable.value.as_ref()?))))
                .collect();
            lines.sort();
            return self.print(&lines.concat()).await;
        }
        let mut rest = args.iter();
        let mut operands: Option<Vec<String>> = None;
        while let Some(argument) = rest.next() {
            let on = argument.starts_with('-');
            if argument == "--" {
                operands = Some(rest.cloned().collect());
                break;
            }
            if !(on || argument.starts_with('+')) || argument.len() < 2 {
                let mut list = if argument == "-" { Vec::new() } else { vec![argument.clone()] };
                list.extend(rest.cloned());
                operands = Some(list);
                break;
            }
            for letter in argument.chars().skip(1) {
                if letter == 'o' {
                    match rest.next() {
                        Some(name) => {
                            if !self.options.set_name(name, on) {
                                return Err(self
                                    .fatal(&format!("set: illegal option {}o {name}", if on { '-' } else { '+' }))
                                    .await);
                            }
                        }
                        None => self.show_options(on).await?,
                    }
                } else if !self.options.set_letter(letter, on) {
                    return Err(self.fatal(&format!("set: illegal option -{letter}")).await);
                }
            }
        }
        if let Some(operands) = operands {
            self.positional = Rc::new(operands);
        }
        Ok(0)
    }

    async fn show_options(&mut self, long: bool) -> Result<(), Flow> {
        let mut text = String::new();
        if long {
            text.push_str("Current option settings\n");
        }
        for (name, on) in self.options.names() {
            if long {
                text.push_str(&format!("{name:<16}{}\n", if on { "on" } else { "off" }));
            } else {
                text.push_str(&format!("set {}o {name}\n", if on { '-' } else { '+' }));
            }
        }
        self.print(&text).await.map(|_| ())
    }

    async fn trap(&mut self, args: &[String]) -> Run {
        let args = if args.first().is_some_and(|first| first == "--") { &args[1..] } else { args };
        let Some((action, conditions)) = args.split_first() else {
            let lines: Vec<String> =
                self.traps.iter().map(|(condition, action)| format!("trap -- {} {condition}\n", quoted(action))).collect();
            return self.print(&lines.concat()).await;
        };
        let reset = action == "-" || (action.chars().all(|character| character.is_ascii_digit()) && !action.is_empty());
        let list = if reset && action != "-" { args } else { conditions };
        for condition in list {
            let Some(name) = crate::applets::signals::condition(condition) else {
                self.complain(&format!("trap: {condition}: invalid signal specification")).await;
                return Ok(1);
            };
            if reset {
                self.traps.remove(&name);
            } else {
                self.traps.insert(name, action.clone());
            }
        }
        Ok(0)
    }

    async fn unset(&mut self, args: &[String]) -> Run {
        let mut functions = false;
        for argument in args {
            match argument.as_str() {
                "-f" => functions = true,
                "-v" => functions = false,
                name if functions => {
                    Rc::make_mut(&mut self.functions).remove(name);
                }
                name => {
                    if self.variables.get(name).is_some_and(|variable| variable.read_only) {
                        return Err(self.fatal(&format!("unset: {name}: is read only")).await);
                    }
                    self.variables.remove(name);
                }
            }
        }
        Ok(0)
    }
}
