//! Running what was parsed: lists, pipelines, compound commands.

use std::rc::Rc;

use super::redirect::Redirected;
use super::syntax::{AndOr, Command, CommandKind, List, Pipeline};
use super::{Flow, Run, Shell};
use crate::runtime::executor::{Local, Task, spawn, tick};
use crate::runtime::file::{OpenFile, read_all};
use crate::runtime::pipe::pipe;
use crate::text;

/// Functions, groups and shells inside each other; each takes of the stack, of which a host may give little.
pub const DEPTH: u32 = 200;

impl Shell {
    /// Runs a list; its status is that of its last command.
    pub fn run_list<'a>(&'a mut self, list: &'a List) -> Local<'a, Run> {
        Box::pin(async move {
            let mut status = 0;
            for and_or in list {
                status = if and_or.background { self.start_job(and_or).await? } else { self.run_and_or(and_or).await? };
                self.status = status;
            }
            Ok(status)
        })
    }

    /// Runs pipelines with `&&` and `||` between them.
    pub async fn run_and_or(&mut self, and_or: &AndOr) -> Run {
        let count = and_or.rest.len();
        let mut status = self.run_tested(&and_or.first, count > 0).await?;
        for (index, (and, pipeline)) in and_or.rest.iter().enumerate() {
            self.status = status;
            if *and == (status == 0) {
                status = self.run_tested(pipeline, index + 1 < count).await?;
            }
        }
        Ok(status)
    }

    async fn run_tested(&mut self, pipeline: &Pipeline, tested: bool) -> Run {
        if self.options.no_exec {
            return Ok(0);
        }
        let tested = u32::from(tested || pipeline.negated);
        self.tested += tested;
        let result = match pipeline.stages.as_slice() {
            [single] => self.run_command(single).await,
            stages => self.run_pipeline(stages).await,
        };
        self.tested -= tested;
        let status = result?;
        self.status = if pipeline.negated { u8::from(status == 0) } else { status };
        Ok(self.status)
    }

    async fn run_pipeline(&mut self, stages: &[Rc<Command>]) -> Run {
        let mut tasks: Vec<Task<u8>> = Vec::new();
        let mut input = None;
        for (index, stage) in stages.iter().enumerate() {
            let mut shell = self.subshell();
            if let Some(reader) = input.take() {
                shell.fds.insert(0, Rc::new(OpenFile::Reader(reader)));
            }
            if index + 1 < stages.len() {
                let (reader, writer) = pipe();
                shell.fds.insert(1, Rc::new(OpenFile::Writer(writer)));
                input = Some(reader);
            }
            let stage = Rc::clone(stage);
            tasks.push(spawn(shell.run_to_end(move |shell| Box::pin(async move { shell.run_command(&stage).await }))));
        }
        let mut status = 0;
        for task in &tasks {
            let own = task.join().await.unwrap_or(143);
            if own != 0 || !self.options.pipe_fail {
                status = own;
            }
        }
        self.checked(status)
    }

    /// `set -e`: a failure that nobody asks for ends the shell.
    fn checked(&mut self, status: u8) -> Run {
        self.status = status;
        if status != 0 && self.options.exit_on_error && self.tested == 0 { Err(Flow::Exit(status)) } else { Ok(status) }
    }

    /// Runs something as the whole life of this shell, its EXIT trap included.
    pub async fn run_to_end(mut self, body: impl FnOnce(&mut Shell) -> Local<'_, Run>) -> u8 {
        let result = body(&mut self).await;
        self.finish(result).await
    }

    /// The end of a shell: the trap of EXIT, and the status.
    pub async fn finish(&mut self, result: Run) -> u8 {
        let status = result.unwrap_or_else(|flow| flow.status(self.status));
        self.status = status;
        match self.traps.remove("EXIT") {
            Some(action) if !action.is_empty() => match self.run_text(&action).await {
                Err(Flow::Exit(status)) => status,
                _ => status,
            },
            _ => status,
        }
    }

    /// `$( )`: what a list prints, without the newlines at its end.
    pub async fn command_substitution(&mut self, list: &Rc<List>) -> Result<String, Flow> {
        let (reader, writer) = pipe();
        let mut shell = self.subshell();
        shell.fds.insert(1, Rc::new(OpenFile::Writer(writer)));
        let list = Rc::clone(list);
        let task = spawn(shell.run_to_end(move |shell| Box::pin(async move { shell.run_list(&list).await })));
        let mut bytes = read_all(&Rc::new(OpenFile::Reader(reader))).await.unwrap_or_default();
        let status = task.join().await.unwrap_or(143);
        self.substituted = Some(status);
        self.status = status;
        while bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        bytes.retain(|byte| *byte != 0);
        Ok(text::decode(&bytes))
    }

    /// Runs a command with its redirections.
    pub fn run_command<'a>(&'a mut self, command: &'a Command) -> Local<'a, Run> {
        Box::pin(async move {
            tick().await;
            self.line = command.line;
            if let CommandKind::Simple { assignments, words } = &command.kind {
                let status = self.run_simple(assignments, words, &command.redirections).await?;
                return self.checked(status);
            }
            if self.depth >= DEPTH {
                return Err(self.fatal(&format!("commands are nested more than {DEPTH} deep")).await);
            }
            self.depth += 1;
            let result = self.run_compound(command).await;
            self.depth -= 1;
            result
        })
    }

    async fn run_compound(&mut self, command: &Command) -> Run {
        if command.redirections.is_empty() {
            return self.run_kind(&command.kind).await;
        }
        match self.redirected(&command.redirections).await? {
            Redirected::Failed => self.checked(1),
            Redirected::Open(fds) => {
                let before = std::mem::replace(&mut self.fds, fds);
                let result = self.run_kind(&command.kind).await;
                self.fds = before;
                result
            }
        }
    }

    async fn run_kind(&mut self, kind: &CommandKind) -> Run {
        match kind {
            CommandKind::Simple { .. } => Ok(0),
            CommandKind::Group(list) => self.run_list(list).await,
            CommandKind::Subshell(list) => {
                let list = Rc::clone(list);
                let shell = self.subshell();
                let task = spawn(shell.run_to_end(move |shell| Box::pin(async move { shell.run_list(&list).await })));
                let status = task.join().await.unwrap_or(143);
                self.checked(status)
            }
            CommandKind::If { arms, otherwise } => {
                for (condition, body) in arms {
                    if self.condition(condition).await? {
                        return self.run_list(body).await;
                    }
                }
                match otherwise {
                    Some(body) => self.run_list(body).await,
                    None => Ok(0),
                }
            }
            CommandKind::While { until, condition, body } => {
                let mut status = 0;
                self.loops += 1;
                let result = loop {
                    match self.condition(condition).await {
                        Ok(true) if !until => {}
                        Ok(false) if *until => {}
                        Ok(_) => break Ok(status),
                        Err(flow) => match continued(flow) {
                            Some(Ok(())) => continue,
                            Some(Err(flow)) => break Err(flow),
                            None => break Ok(0),
                        },
                    }
                    match self.run_list(body).await {
                        Ok(last) => status = last,
                        Err(flow) => match continued(flow) {
                            Some(Ok(())) => status = 0,
                            Some(Err(flow)) => break Err(flow),
                            None => break Ok(0),
                        },
                    }
                };
                self.loops -= 1;
                result
            }
            CommandKind::For { name, words, body } => {
                let list = match words {
                    Some(words) => self.expand_words(words).await?,
                    None => self.positional.to_vec(),
                };
                let mut result = Ok(0);
                self.loops += 1;
                for word in list {
                    if let Err(flow) = self.assign(name, &word).await {
                        result = Err(flow);
                        break;
                    }
                    result = self.run_list(body).await;
                    if let Err(flow) = result {
                        match continued(flow) {
                            Some(Ok(())) => result = Ok(0),
                            Some(Err(flow)) => {
                                result = Err(flow);
                                break;
                            }
                            None => {
                                result = Ok(0);
                                break;
                            }
                        }
                    }
                }
                self.loops -= 1;
                result
            }
            CommandKind::Case { word, arms } => {
                let text = self.expand_one(word).await?;
                for (patterns, body) in arms {
                    for pattern in patterns {
                        if self.expand_pattern(pattern).await?.matches(&text) {
                            return self.run_list(body).await;
                        }
                    }
                }
                Ok(0)
            }
            CommandKind::Function { name, body } => {
                Rc::make_mut(&mut self.functions).insert(name.clone(), Rc::clone(body));
                Ok(0)
            }
        }
    }

    async fn condition(&mut self, list: &List) -> Result<bool, Flow> {
        self.tested += 1;
        let result = self.run_list(list).await;
        self.tested -= 1;
        Ok(result? == 0)
    }
}

/// What `break` and `continue` mean to the innermost loop: go on, leave with a flow for those around, or just leave.
fn continued(flow: Flow) -> Option<Result<(), Flow>> {
    match flow {
        Flow::Break(count) if count > 1 => Some(Err(Flow::Break(count - 1))),
        Flow::Break(_) => None,
        Flow::Continue(count) if count > 1 => Some(Err(Flow::Continue(count - 1))),
        Flow::Continue(_) => Some(Ok(())),
        other => Some(Err(other)),
    }
}
