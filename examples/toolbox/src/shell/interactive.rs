//! A person at the prompt. Where the host makes the terminal raw, the shell edits lines itself and does the line
//! discipline for the programs that it runs; elsewhere it prints a prompt and takes lines as they come.

use std::rc::Rc;

use super::editor::{Editor, Line};
use super::parser::Parser;
use super::syntax::{List, SyntaxError};
use super::{Flow, Run, Shell};
use crate::applets::users;
use crate::host;
use crate::runtime::executor::{Task, first, spawn};
use crate::runtime::file::{Handle, OpenFile};
use crate::runtime::terminal::{Mode, Terminal};

/// Lines that are remembered.
const HISTORY: usize = 1000;

enum Input {
    Commands(Option<List>),
    Abandoned,
    Wrong(SyntaxError),
    Ended,
}

impl Shell {
    /// Reads and runs commands until the person goes.
    pub async fn converse(mut self) -> u8 {
        let outer = self.terminal.clone();
        let _pump = self.take_terminal();
        if let Some(file) = self.value("ENV").filter(|file| !file.is_empty()) {
            let _ = self.special(".", &[file]).await;
        }
        let result = loop {
            self.tell_of_ended_jobs().await;
            if let Some(terminal) = &self.terminal {
                terminal.set_mode(Mode::Keys);
            }
            match self.input().await {
                Input::Ended => break Ok(self.status),
                Input::Abandoned => self.status = 130,
                Input::Wrong(error) => {
                    self.complain(&error.to_string()).await;
                    self.status = 2;
                }
                Input::Commands(None) => {}
                Input::Commands(Some(list)) => match self.run_for_a_person(&list).await {
                    Ok(status) => self.status = status,
                    Err(Flow::Exit(status)) => break Err(Flow::Exit(status)),
                    Err(flow) => self.status = flow.status(self.status),
                },
            }
        };
        let status = self.finish(result).await;
        match outer {
            Some(terminal) => {
                terminal.set_mode(Mode::Lines);
            }
            None => {
                host::raw(0, false);
            }
        }
        status
    }

    /// Makes the terminal raw, if the host can, and begins to read it.
    fn take_terminal(&mut self) -> Option<Task<()>> {
        if self.terminal.is_some() {
            return None;
        }
        let input: Handle = self.fds.get(&0).cloned()?;
        let output = self.fds.get(&1).cloned().filter(|handle| handle.is_terminal()).or_else(|| self.fds.get(&2).cloned())?;
        if !(input.is_terminal() && output.is_terminal() && host::raw(0, true)) {
            return None;
        }
        let terminal = Terminal::new(output);
        let task = spawn(Rc::clone(&terminal).pump(input));
        self.fds.insert(0, Rc::new(OpenFile::Terminal(Rc::clone(&terminal))));
        self.terminal = Some(terminal);
        Some(task)
    }

    /// Runs a list; ^C ends it, and the shell is as it was before.
    async fn run_for_a_person(&mut self, list: &List) -> Run {
        let Some(terminal) = self.terminal.clone() else { return self.run_list(list).await };
        terminal.set_mode(Mode::Lines);
        let fds = self.fds.clone();
        let (positional, depth, scopes) = (Rc::clone(&self.positional), self.depth, self.scope_count());
        let (loops, tested, returnable) = (self.loops, self.tested, self.returnable);
        match first(self.run_list(list), terminal.interrupt()).await {
            Ok(result) => result,
            Err(()) => {
                self.leave_scopes(scopes);
                self.fds = fds;
                self.positional = positional;
                (self.depth, self.loops, self.tested, self.returnable) = (depth, loops, tested, returnable);
                self.status = 130;
                if let Some(action) = self.traps.get("INT").cloned().filter(|action| !action.is_empty()) {
                    self.run_text(&action).await?;
                }
                Ok(130)
            }
        }
    }

    /// A whole command, over as many lines as it takes.
    async fn input(&mut self) -> Input {
        let mut source = String::new();
        loop {
            let prompt = self.prompt(if source.is_empty() { "PS1" } else { "PS2" });
            let mut last = false;
            match self.terminal.clone() {
                Some(terminal) => {
                    let history = self.history.borrow().clone();
                    let shell: &Shell = self;
                    let line = Editor::new(&terminal, &history).line(&prompt, &mut |before| shell.complete(before)).await;
                    match line {
                        Line::Done(line) => {
                            source.push_str(&line);
                            source.push('\n');
                        }
                        Line::Abandoned => return Input::Abandoned,
                        Line::Ended if source.is_empty() => return Input::Ended,
                        Line::Ended => last = true,
                    }
                }
                None => {
                    self.error_text(&prompt).await;
                    let (line, ended) = self.input_line().await;
                    if !ended && line.is_empty() && source.is_empty() {
                        self.error_text("\n").await;
                        return Input::Ended;
                    }
                    last = !ended;
                    source.push_str(&line);
                }
            }
            let parser = Parser::new(&source, Rc::clone(&self.aliases), 1);
            let mut parser = if last { parser } else { parser.may_grow() };
            let mut all = List::new();
            let result = loop {
                match parser.line_of_commands() {
                    Ok(Some(mut list)) => all.append(&mut list),
                    Ok(None) => break Input::Commands((!all.is_empty()).then_some(all)),
                    Err(SyntaxError::Incomplete(_)) if !last => break Input::Abandoned,
                    Err(error) => break Input::Wrong(error),
                }
            };
            if matches!(result, Input::Abandoned) {
                continue;
            }
            self.remember(source.trim_end());
            return result;
        }
    }

    fn remember(&self, line: &str) {
        let mut history = self.history.borrow_mut();
        if !line.trim().is_empty() && !line.starts_with(' ') && history.last().is_none_or(|last| last != line) {
            history.push(line.to_string());
            let over = history.len().saturating_sub(HISTORY);
            history.drain(..over);
        }
    }

    /// A prompt. `\u`, `\h`, `\w`, `\W` and `\$` are replaced; without a PS1 it is `user@host:/path # `.
    fn prompt(&self, name: &str) -> String {
        let identity = host::identity();
        let mark = if identity.as_ref().is_none_or(|identity| identity.user == 0) { '#' } else { '$' };
        let user = identity.map(|identity| users::user_name(identity.user));
        let host = users::host_name(self.value("HOSTNAME").as_deref());
        let home = self.value("HOME").filter(|home| home.len() > 1);
        let place = match home.and_then(|home| self.cwd.strip_prefix(&home).map(str::to_string)) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("~{rest}"),
            _ => self.cwd.clone(),
        };
        let template = self.value(name).unwrap_or_default();
        if template.is_empty() && name == "PS1" {
            let who = match (&user, &host) {
                (Some(user), Some(host)) => format!("{user}@{host}:"),
                (None, Some(host)) => format!("{host}:"),
                (Some(user), None) => format!("{user}:"),
                (None, None) => String::new(),
            };
            return format!("{who}{place} {mark} ");
        }
        let mut text = String::new();
        let mut rest = template.chars();
        while let Some(character) = rest.next() {
            match (character, if character == '\\' { rest.next() } else { None }) {
                ('\\', Some('u')) => text.push_str(user.as_deref().unwrap_or("?")),
                ('\\', Some('h' | 'H')) => text.push_str(host.as_deref().unwrap_or("?")),
                ('\\', Some('w')) => text.push_str(&place),
                ('\\', Some('W')) => text.push_str(crate::text::base_name(&place)),
                ('\\', Some('$')) => text.push(mark),
                ('\\', Some('n')) => text.push('\n'),
                ('\\', Some('e')) => text.push('\x1b'),
                ('\\', Some('[' | ']')) => {}
                ('\\', Some(other)) => text.push(other),
                (other, _) => text.push(other),
            }
        }
        text
    }
}
