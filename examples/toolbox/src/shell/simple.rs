//! Simple commands: assignments, then a function, a builtin or a program.

use std::rc::Rc;

use super::assign::quoted_if_needed;
use super::redirect::Redirected;
use super::syntax::{Redirection, Word};
use super::{Flow, Run, Shell, Variable, builtins, special};
use crate::dispatch::{self, Surroundings};
use crate::runtime::executor::spawn;

/// Functions inside each other; each takes of the stack.
const FUNCTIONS: usize = 500;
/// So many of them share a stack.
const SHARED: usize = 40;

impl Shell {
    /// Runs a simple command.
    pub async fn run_simple(&mut self, assignments: &[(String, Word)], words: &[Word], redirections: &[Redirection]) -> Run {
        self.substituted = None;
        let words = self.expand_words(words).await?;
        let Some(name) = words.first().cloned() else {
            if let Redirected::Failed = self.redirected(redirections).await? {
                return Ok(1);
            }
            let assigned = self.expand_assignments(assignments).await?;
            self.trace(&assigned, &[]).await;
            for (name, value) in &assigned {
                self.assign(name, value).await?;
            }
            return Ok(self.substituted.unwrap_or(0));
        };
        let special = special::is_special(&name);
        let fds = match self.redirected(redirections).await? {
            Redirected::Open(fds) => fds,
            Redirected::Failed if special && !self.options.interactive => return Err(Flow::Fatal(1)),
            Redirected::Failed => return Ok(1),
        };
        let assigned = self.expand_assignments(assignments).await?;
        self.trace(&assigned, &words).await;
        let args = words.get(1..).unwrap_or_default();
        if special {
            for (name, value) in &assigned {
                self.assign(name, value).await?;
            }
            if name == "exec" {
                return self.exec(args, fds).await;
            }
            let before = std::mem::replace(&mut self.fds, fds);
            let result = self.special(&name, args).await;
            self.fds = before;
            return result;
        }
        // Assignments before any other command hold while it runs.
        let mut before: Vec<(String, Option<Variable>)> = Vec::new();
        for (name, value) in &assigned {
            before.push((name.clone(), self.variables.get(name).cloned()));
            self.assign(name, value).await?;
            if let Some(variable) = self.variables.get_mut(name) {
                variable.exported = true;
            }
        }
        let fds = std::mem::replace(&mut self.fds, fds);
        let result = self.call(&name, args).await;
        self.fds = fds;
        for (name, variable) in before.into_iter().rev() {
            self.put_back(&name, variable);
        }
        result
    }

    /// Calls what a name means, with the descriptors as they are.
    pub async fn call(&mut self, name: &str, args: &[String]) -> Run {
        if let Some(body) = self.functions.get(name).cloned() {
            return self.call_function(&body, args).await;
        }
        self.call_no_function(name, args).await
    }

    /// As `call`, passing over functions.
    pub async fn call_no_function(&mut self, name: &str, args: &[String]) -> Run {
        if builtins::is_builtin(name) {
            return self.builtin(name, args).await;
        }
        if special::is_special(name) {
            return self.special(name, args).await;
        }
        let status = self.run_program(name, args).await;
        // A builtin of other shells that is an applet here: as there, a broken pipe ends the shell itself.
        if status == crate::context::BROKEN_PIPE && matches!(name, "echo" | "printf") {
            return Err(Flow::Exit(status));
        }
        Ok(status)
    }

    /// Runs a program, which is an applet.
    pub async fn run_program(&mut self, name: &str, args: &[String]) -> u8 {
        let surroundings = Surroundings {
            env: Rc::new(self.environment()),
            cwd: self.cwd.clone(),
            fds: self.fds.clone(),
            terminal: self.terminal.clone(),
            depth: self.programs,
            path: self.value("PATH"),
        };
        if builtins::is_applet(name)
            && let Some(applet) = crate::applets::find(name)
        {
            return dispatch::run_applet(applet, name, args.to_vec(), surroundings).await;
        }
        let label = self.label.clone();
        dispatch::run(&label, name, args.to_vec(), surroundings).await
    }

    async fn call_function(&mut self, body: &Rc<super::syntax::Command>, args: &[String]) -> Run {
        if self.scope_count() >= FUNCTIONS {
            return Err(self.fatal(&format!("functions call each other more than {FUNCTIONS} deep")).await);
        }
        let positional = std::mem::replace(&mut self.positional, Rc::new(args.to_vec()));
        let loops = std::mem::take(&mut self.loops);
        let scopes = self.scope_count();
        self.enter_scope();
        self.returnable += 1;
        let result = if scopes % SHARED == SHARED - 1 { self.run_on_new_stack(body).await } else { self.run_command(body).await };
        self.returnable -= 1;
        self.leave_scopes(scopes);
        self.loops = loops;
        self.positional = positional;
        match result {
            Err(Flow::Return(status)) => Ok(status),
            other => other,
        }
    }

    /// Runs a command as a task, whose stack begins anew, with the state moved there and back. If it is cancelled, the
    /// state is what it was.
    async fn run_on_new_stack(&mut self, body: &Rc<super::syntax::Command>) -> Run {
        let depth = self.depth;
        let mut deeper = self.clone();
        deeper.depth = 0;
        let body = Rc::clone(body);
        let task = spawn(async move {
            let result = deeper.run_command(&body).await;
            (deeper, result)
        });
        let Some((shell, result)) = task.join().await else { return Ok(143) };
        *self = shell;
        self.depth = depth;
        result
    }

    async fn expand_assignments(&mut self, assignments: &[(String, Word)]) -> Result<Vec<(String, String)>, Flow> {
        let mut list = Vec::new();
        for (name, word) in assignments {
            let value = self.expand_assignment(word).await?;
            // Later ones see earlier ones, as in `a=1 b=$a`.
            if assignments.len() > 1 && !self.variables.get(name).is_some_and(|variable| variable.read_only) {
                let _ = self.assign_quietly(name, &value);
            }
            list.push((name.clone(), value));
        }
        Ok(list)
    }

    async fn trace(&mut self, assigned: &[(String, String)], words: &[String]) {
        if !self.options.trace {
            return;
        }
        let mut line = self.value("PS4").unwrap_or_else(|| "+ ".into());
        let assigned = assigned.iter().map(|(name, value)| format!("{name}={}", quoted_if_needed(value)));
        let words = words.iter().map(|word| quoted_if_needed(word));
        line.push_str(&assigned.chain(words).collect::<Vec<_>>().join(" "));
        line.push('\n');
        self.error_text(&line).await;
    }
}
