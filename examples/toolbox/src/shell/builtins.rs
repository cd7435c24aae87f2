//! The other builtins: what needs the shell's state, but does not end a script when it fails.

use std::rc::Rc;

use super::assign::quoted;
use super::parser::is_reserved;
use super::{Flow, Run, Shell, special};
use crate::context::{absolute, normal};
use crate::dispatch::{self, Found};
use crate::{applets, sys};

/// Whether a name is one of them.
pub fn is_builtin(name: &str) -> bool {
    matches!(
        name,
        "alias"
            | "bg"
            | "builtin"
            | "cd"
            | "chdir"
            | "command"
            | "fg"
            | "getopts"
            | "hash"
            | "history"
            | "jobs"
            | "kill"
            | "let"
            | "local"
            | "pwd"
            | "read"
            | "source"
            | "type"
            | "ulimit"
            | "umask"
            | "unalias"
            | "wait"
    )
}

/// Applets that are builtins in other shells, so that no PATH is asked for them.
pub fn is_applet(name: &str) -> bool {
    matches!(name, "echo" | "printf" | "test" | "[" | "true" | "false")
}

impl Shell {
    /// Runs a builtin.
    pub async fn builtin(&mut self, name: &str, args: &[String]) -> Run {
        match name {
            "alias" => self.alias(args).await,
            "unalias" => {
                let aliases = Rc::make_mut(&mut self.aliases);
                if args.first().is_some_and(|first| first == "-a") {
                    aliases.clear();
                    return Ok(0);
                }
                let missing = args.iter().find(|name| aliases.remove(*name).is_none()).cloned();
                match missing {
                    None => Ok(0),
                    Some(name) => {
                        self.complain(&format!("unalias: {name} not found")).await;
                        Ok(1)
                    }
                }
            }
            "builtin" => match args.split_first() {
                Some((name, args)) => Box::pin(self.call_no_function(name, args)).await,
                None => Ok(0),
            },
            "cd" | "chdir" => self.cd(args).await,
            "command" => self.command(args).await,
            "fg" | "bg" => self.foreground(name, args).await,
            "getopts" => self.getopts(args).await,
            "hash" => Ok(0),
            "history" => {
                let lines: Vec<String> =
                    self.history.borrow().iter().enumerate().map(|(index, line)| format!("{:>5}  {line}\n", index + 1)).collect();
                self.print(&lines.concat()).await
            }
            "jobs" => self.list_jobs(args).await,
            "kill" => self.kill(args).await,
            "let" => {
                let mut value = 0;
                for argument in args {
                    match super::arithmetic::evaluate(argument, self) {
                        Ok(result) => value = result,
                        Err(message) => {
                            self.complain(&message).await;
                            return Ok(2);
                        }
                    }
                }
                Ok(u8::from(value == 0))
            }
            "local" => {
                if self.scope_count() == 0 {
                    self.complain("local: not in a function").await;
                    return Ok(2);
                }
                for argument in args {
                    let (name, value) = match argument.split_once('=') {
                        Some((name, value)) => (name, Some(value)),
                        None => (argument.as_str(), None),
                    };
                    self.make_local(name);
                    if let Some(value) = value {
                        self.assign(name, value).await?;
                    }
                }
                Ok(0)
            }
            "pwd" => {
                let shown = if args.first().is_some_and(|first| first == "-P") {
                    applets::links::real_path(&self.cwd).unwrap_or_else(|_| self.cwd.clone())
                } else {
                    self.cwd.clone()
                };
                self.print(&format!("{shown}\n")).await
            }
            "read" => self.read(args).await,
            "source" => Box::pin(self.special(".", args)).await,
            "type" => {
                let mut status = 0;
                for name in args {
                    if self.describe(name, true).await? != 0 {
                        status = 127;
                    }
                }
                Ok(status)
            }
            "ulimit" => self.print("unlimited\n").await,
            // The host decides over the modes of new files; 022 is what it uses.
            "umask" => {
                if args.is_empty() {
                    self.print("0022\n").await
                } else if args.first().is_some_and(|first| first == "-S") {
                    self.print("u=rwx,g=rx,o=rx\n").await
                } else {
                    Ok(0)
                }
            }
            "wait" => self.wait(args).await,
            _ => Ok(0),
        }
    }

    async fn alias(&mut self, args: &[String]) -> Run {
        let mut text = String::new();
        let mut status = 0;
        if args.is_empty() {
            let mut lines: Vec<String> = self.aliases.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
            lines.sort();
            text = lines.concat();
        }
        for argument in args {
            match argument.split_once('=') {
                Some((name, value)) => {
                    Rc::make_mut(&mut self.aliases).insert(name.to_string(), value.to_string());
                }
                None => match self.aliases.get(argument) {
                    Some(value) => text.push_str(&format!("{argument}={}\n", quoted(value))),
                    None => {
                        self.complain(&format!("alias: {argument} not found")).await;
                        status = 1;
                    }
                },
            }
        }
        self.print(&text).await.map(|_| status)
    }

    async fn cd(&mut self, args: &[String]) -> Run {
        let mut physical = false;
        let mut list = args;
        while let Some((first, rest)) = list.split_first() {
            match first.as_str() {
                "-P" => physical = true,
                "-L" => physical = false,
                "--" => {
                    list = rest;
                    break;
                }
                _ => break,
            }
            list = rest;
        }
        let mut say = false;
        let target = match list.first().map(String::as_str) {
            None => self.value("HOME").unwrap_or_else(|| "/".into()),
            Some("-") => {
                say = true;
                match self.value("OLDPWD") {
                    Some(old) => old,
                    None => {
                        self.complain("cd: OLDPWD not set").await;
                        return Ok(2);
                    }
                }
            }
            Some(target) => target.to_string(),
        };
        let mut path = None;
        if !target.starts_with(['/', '.'])
            && let Some(list) = self.value("CDPATH")
        {
            for directory in list.split(':').filter(|directory| !directory.is_empty()) {
                let candidate = normal(&absolute(&self.cwd, &format!("{directory}/{target}")));
                if sys::status(&candidate, true).is_ok_and(|status| status.is_directory()) {
                    path = Some(candidate);
                    say = true;
                    break;
                }
            }
        }
        let mut path = path.unwrap_or_else(|| normal(&absolute(&self.cwd, &target)));
        if physical {
            path = applets::links::real_path(&path).unwrap_or(path);
        }
        match std::fs::read_dir(&path) {
            Ok(_) => {}
            // A directory that may be entered but not listed.
            Err(_) if sys::status(&path, true).is_ok_and(|status| status.is_directory()) => {}
            Err(_) => {
                // Other shells say "can't cd to"; the reason is what helps.
                let why = match sys::status(&path, true) {
                    Ok(_) => "Not a directory".to_string(),
                    Err(error) => sys::words(&error),
                };
                self.complain(&format!("cd: can't cd to {target}: {why}")).await;
                return Ok(2);
            }
        }
        let old = std::mem::replace(&mut self.cwd, path.clone());
        self.assign("OLDPWD", &old).await?;
        self.assign("PWD", &path).await?;
        if say { self.print(&format!("{path}\n")).await } else { Ok(0) }
    }

    async fn command(&mut self, args: &[String]) -> Run {
        let mut list = args;
        let mut describe = None;
        while let Some((first, rest)) = list.split_first() {
            match first.as_str() {
                "-v" => describe = Some(false),
                "-V" => describe = Some(true),
                "-p" => {}
                "--" => {
                    list = rest;
                    break;
                }
                _ => break,
            }
            list = rest;
        }
        if let Some(long) = describe {
            let mut status = 0;
            for name in list {
                if self.describe(name, long).await? != 0 {
                    status = 127;
                }
            }
            return Ok(status);
        }
        match list.split_first() {
            Some((name, args)) => match Box::pin(self.call_no_function(name, args)).await {
                // Behind `command`, a special builtin's error does not end the script.
                Err(Flow::Fatal(status)) => Ok(status),
                other => other,
            },
            None => Ok(0),
        }
    }

    async fn describe(&mut self, name: &str, long: bool) -> Run {
        let (short, words) = if is_reserved(name) {
            (name.to_string(), "is a shell keyword".to_string())
        } else if let Some(value) = self.aliases.get(name) {
            (format!("alias {name}={}", quoted(value)), format!("is an alias for {value}"))
        } else if self.functions.contains_key(name) {
            (name.to_string(), "is a shell function".to_string())
        } else if special::is_special(name) {
            (name.to_string(), "is a special shell builtin".to_string())
        } else if is_builtin(name) || is_applet(name) {
            (name.to_string(), "is a shell builtin".to_string())
        } else {
            match dispatch::find(name, self.value("PATH").as_deref(), &self.cwd) {
                Found::Applet(_, Some(file)) | Found::Script(_, _, _, file) => (file.clone(), format!("is {file}")),
                Found::Applet(_, None) => (name.to_string(), "is an applet of the toolbox".to_string()),
                Found::Nothing(_, 126) => (String::new(), "cannot be run".to_string()),
                Found::Nothing(..) => {
                    if long {
                        self.print(&format!("{name}: not found\n")).await?;
                    }
                    return Ok(127);
                }
            }
        };
        self.print(&if long { format!("{name} {words}\n") } else { format!("{short}\n") }).await
    }
}
