//! The other builtins: what needs the shell's state, but does not end a script when it fails.

use std::rc::Rc;

use super::assign::quoted;
use super::parser::is_reserved;
use super::{Flow, Run, Shell, special};
use crate::context::{absolute, normal};
use crate::dispatch::{self, Found};
use crate::{applets, sys, text};

/// Whether a name is one of them.
pub fn is_builtin(name: &str) -> bool {
    matches!(
        name,
        "alias" | "bg" | "builtin" | "cd" | "chdir" | "command" | "fg" | "getopts" | "hash" | "history" | "jobs" | "kill" | "let"
            | "local" | "pwd" | "read" | "source" | "type" | "ulimit" | "umask" | "unalias" | "wait"
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
            let mut lines: Vec<String> =
                self.aliases.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect();
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

    async fn getopts(&mut self, args: &[String]) -> Run {
        let [spec, name, rest @ ..] = args else {
            return Err(self.fatal("getopts: usage: getopts OPTIONS NAME [ARGUMENT]...").await);
        };
        let list: Vec<String> = if rest.is_empty() { self.positional.to_vec() } else { rest.to_vec() };
        let mut index = self.value("OPTIND").and_then(|text| text.parse::<usize>().ok()).unwrap_or(1).max(1);
        let mut offset = self.option_offset;
        let silent = spec.starts_with(':');
        let argument = list.get(index - 1).cloned().unwrap_or_default();
        if offset == 0 {
            if argument == "--" {
                self.assign("OPTIND", &(index + 1).to_string()).await?;
                self.assign(name, "?").await?;
                return Ok(1);
            }
            if !argument.starts_with('-') || argument.len() < 2 {
                self.assign(name, "?").await?;
                self.assign("OPTIND", &index.to_string()).await?;
                return Ok(1);
            }
            offset = 1;
        }
        let letters: Vec<char> = argument.chars().collect();
        let letter = letters.get(offset).copied().unwrap_or('?');
        offset += 1;
        let known = letter != ':' && spec.trim_start_matches(':').contains(letter);
        let wants = known && spec.contains(&format!("{letter}:"));
        let mut value = letter.to_string();
        self.assign("OPTARG", "").await?;
        if !known {
            value = "?".into();
            if silent {
                self.assign("OPTARG", &letter.to_string()).await?;
            } else {
                self.complain(&format!("illegal option -- {letter}")).await;
            }
        } else if wants {
            let inline: String = letters.iter().skip(offset).collect();
            offset = letters.len();
            if !inline.is_empty() {
                self.assign("OPTARG", &inline).await?;
            } else if let Some(next) = list.get(index).cloned() {
                index += 1;
                self.assign("OPTARG", &next).await?;
            } else if silent {
                value = ":".into();
                self.assign("OPTARG", &letter.to_string()).await?;
            } else {
                value = "?".into();
                self.complain(&format!("option requires an argument -- {letter}")).await;
            }
        }
        if offset >= letters.len() {
            offset = 0;
            index += 1;
        }
        self.assign("OPTIND", &index.to_string()).await?;
        self.option_offset = offset;
        self.assign(name, &value).await?;
        Ok(0)
    }

    async fn read(&mut self, args: &[String]) -> Run {
        let mut raw = false;
        let mut timeout = None;
        let mut prompt = None;
        let mut names = Vec::new();
        let mut rest = args.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "-r" => raw = true,
                "-s" => {}
                "-t" => timeout = rest.next().and_then(|text| text.parse::<f64>().ok()),
                "-p" => prompt = rest.next().cloned(),
                "--" => {
                    names.extend(rest.by_ref().cloned());
                }
                name => names.push(name.to_string()),
            }
        }
        if let Some(prompt) = prompt {
            self.error_text(&prompt).await;
        }
        let reading = self.read_line(raw);
        let (line, ended) = match timeout {
            None => reading.await,
            Some(seconds) => {
                let wait = crate::runtime::sleep(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default());
                match crate::runtime::executor::first(reading, wait).await {
                    Ok(line) => line,
                    Err(()) => return Ok(142),
                }
            }
        };
        if names.is_empty() {
            names.push("REPLY".into());
        }
        let fields = self.split_line(&line, names.len());
        for (index, name) in names.iter().enumerate() {
            let value = fields.get(index).cloned().unwrap_or_default();
            self.assign(name, &value).await?;
        }
        Ok(u8::from(!ended))
    }

    /// One line, byte by byte, so that nothing is taken from who reads next.
    async fn read_line(&self, raw: bool) -> (Vec<(char, bool)>, bool) {
        let mut bytes: Vec<u8> = Vec::new();
        let mut ended = false;
        let mut escapes = Vec::new();
        if let Some(handle) = self.fds.get(&0) {
            let mut byte = [0];
            let mut escaped = false;
            while let Ok(1) = handle.read(&mut byte).await {
                let [value] = byte;
                if escaped {
                    escaped = false;
                    if value != b'\n' {
                        escapes.push(bytes.len());
                        bytes.push(value);
                    }
                } else if value == b'\\' && !raw {
                    escaped = true;
                } else if value == b'\n' {
                    ended = true;
                    break;
                } else {
                    bytes.push(value);
                }
            }
        }
        let mut line = Vec::new();
        let mut offset = 0;
        for character in text::decode(&bytes).chars() {
            line.push((character, escapes.contains(&offset)));
            offset += text::encode(character.encode_utf8(&mut [0; 4])).len();
        }
        (line, ended)
    }
}
