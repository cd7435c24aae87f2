//! `sed`.

mod apply;
mod input;
mod replace;
mod script;
mod simple;

use std::collections::HashMap;

use crate::applet;
use crate::applets::stream::or_stdin;
use crate::context::{Applet, Context, Fail, Outcome};
use crate::options::parse;
use crate::regex::{Regex, Scratch};
use crate::runtime::file::{Handle, read_all};
use crate::runtime::output::Output;
use crate::text::{decode, encode};
use input::Input;
use script::{Action, Command};

/// The table.
pub const APPLETS: &[Applet] = &[applet!("sed", sed)];

/// Commands that a line may take, so that a loop without end gives others their turn and is seen.
const STEPS: u64 = 50_000_000;

struct Sed<'a> {
    commands: &'a [Command],
    labels: HashMap<&'a str, usize>,
    quiet: bool,
    pattern: Vec<u8>,
    hold: Vec<u8>,
    number: u64,
    replaced: bool,
    /// For each command with two addresses, whether and until which line it is inside.
    ranges: Vec<Option<u64>>,
    appended: Vec<Pending>,
    written: HashMap<String, Handle>,
    last_regex: Option<&'a Regex>,
    scratch: Scratch,
    input: Input,
    null: bool,
}

enum Pending {
    Text(String),
    File(String),
}

async fn sed(context: &mut Context) -> Outcome {
    // The suffix of -i stands in the same word.
    let mut suffix = None;
    let mut args = Vec::new();
    for argument in &context.args {
        match argument.strip_prefix("-i").or(argument.strip_prefix("--in-place")) {
            Some(rest) if !rest.starts_with(['n', 'e', 'r', 'E']) || rest.starts_with('=') || rest.starts_with('.') => {
                suffix = Some(rest.trim_start_matches('=').to_string());
            }
            Some(rest) if !argument.starts_with("--") => {
                suffix = Some(String::new());
                args.push(format!("-{rest}"));
            }
            _ => args.push(argument.clone()),
        }
    }
    let long = [
        ("quiet", 'n'),
        ("silent", 'n'),
        ("expression", 'e'),
        ("file", 'f'),
        ("regexp-extended", 'r'),
        ("null-data", 'z'),
        ("separate", 's'),
    ];
    let mut parsed = parse(&args, "nrEze:f:sui", &long)?;
    if parsed.has('i') {
        suffix = Some(String::new());
    }
    let mut source = String::new();
    for (letter, value) in &parsed.options {
        match letter {
            'e' => source.push_str(&format!("{value}\n")),
            'f' => {
                let bytes = match context.open(value) {
                    Ok(handle) => read_all(&handle).await,
                    Err(error) => Err(error),
                };
                match bytes {
                    Ok(bytes) => source.push_str(&format!("{}\n", decode(&bytes))),
                    Err(error) => return crate::context::because(value, &error),
                }
            }
            _ => {}
        }
    }
    if source.is_empty() && !parsed.has('e') && !parsed.has('f') {
        if parsed.operands.is_empty() {
            return Err(Fail::Message("a script is missing".into(), 1));
        }
        source = parsed.operands.remove(0);
    }
    let quiet = parsed.has('n') || source.starts_with("#n\n");
    let commands = script::parse(&source, parsed.has('r') || parsed.has('E')).map_err(|error| Fail::Message(error, 1))?;
    let null = parsed.has('z');
    let Some(suffix) = suffix else {
        let mut sed = Sed::new(context, &commands, quiet, null, or_stdin(&parsed.operands))?;
        return sed.run(context).await;
    };
    let mut status = 0;
    for name in parsed.operands.clone() {
        let path = context.path(&name);
        if let Err(error) = context.status(&name, true) {
            context.complain_of(&name, &error).await;
            status = 1;
            continue;
        }
        let temporary = format!("{path}.sed-new");
        let file = std::fs::File::create(&temporary).or_else(|error| crate::context::because(&name, &error))?;
        let before = std::mem::replace(&mut context.out, Output::new(Some(crate::runtime::file::OpenFile::host(file))));
        let mut sed = Sed::new(context, &commands, quiet, null, vec![name.clone()])?;
        let result = sed.run(context).await;
        let flushed = context.out.flush().await;
        context.out = before;
        match (result, flushed) {
            (Ok(own), Ok(())) => {
                status |= own;
                if !suffix.is_empty() {
                    std::fs::rename(&path, format!("{path}{suffix}"))?;
                }
                std::fs::rename(&temporary, &path)?;
            }
            (result, flushed) => {
                let _ = std::fs::remove_file(&temporary);
                flushed?;
                return result;
            }
        }
    }
    Ok(status)
}

enum After {
    Next,
    Delete,
    Restart,
    Quit(bool, u8),
}

impl<'a> Sed<'a> {
    fn new(context: &Context, commands: &'a [Command], quiet: bool, null: bool, names: Vec<String>) -> Result<Self, Fail> {
        let mut labels = HashMap::new();
        let mut written = HashMap::new();
        for (index, command) in commands.iter().enumerate() {
            match &command.action {
                Action::Label(label) => {
                    labels.insert(label.as_str(), index);
                }
                Action::Write(name) => {
                    written.insert(name.clone(), context.create(name)?);
                }
                Action::Replace(replace) => {
                    if let Some(name) = &replace.write {
                        written.insert(name.clone(), context.create(name)?);
                    }
                }
                _ => {}
            }
        }
        for command in commands {
            if let Action::Branch(Some(label)) | Action::BranchIfReplaced(Some(label)) | Action::BranchUnlessReplaced(Some(label)) =
                &command.action
                && !labels.contains_key(label.as_str())
            {
                return Err(Fail::Message(format!("can't find label '{label}'"), 1));
            }
        }
        let input = Input::new(names);
        Ok(Self {
            commands,
            labels,
            quiet,
            pattern: Vec::new(),
            hold: Vec::new(),
            number: 0,
            replaced: false,
            ranges: vec![None; commands.len()],
            appended: Vec::new(),
            written,
            last_regex: None,
            scratch: Scratch::default(),
            input,
            null,
        })
    }

    async fn run(&mut self, context: &mut Context) -> Outcome {
        let mut keep = false;
        loop {
            if !keep {
                match self.input.next(context, self.null).await? {
                    Some(line) => self.pattern = line,
                    None => break,
                }
                self.number += 1;
                self.replaced = false;
            }
            keep = false;
            let after = self.cycle(context).await?;
            if !self.quiet && matches!(after, After::Next | After::Quit(true, _)) {
                let pattern = self.pattern.clone();
                self.print(context, &pattern).await?;
            }
            self.flush_appended(context).await?;
            match after {
                After::Quit(_, status) => return Ok(status),
                After::Restart => keep = true,
                After::Next | After::Delete => {}
            }
        }
        Ok(self.input.status)
    }

    async fn print(&mut self, context: &mut Context, bytes: &[u8]) -> Result<(), Fail> {
        context.bytes(bytes).await?;
        // The last line keeps what it ended with.
        if self.input.newline || !self.input.is_last(context, self.null).await? {
            context.bytes(if self.null { b"\0" } else { b"\n" }).await?;
        }
        Ok(())
    }

    async fn flush_appended(&mut self, context: &mut Context) -> Result<(), Fail> {
        for pending in std::mem::take(&mut self.appended) {
            match pending {
                Pending::Text(text) => context.print(&text).await?,
                Pending::File(name) => {
                    if let Ok(handle) = context.open(&name) {
                        let bytes = read_all(&handle).await.unwrap_or_default();
                        context.bytes(&bytes).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn cycle(&mut self, context: &mut Context) -> Result<After, Fail> {
        let commands = self.commands;
        let mut at = 0;
        let mut steps = 0;
        while let Some(command) = commands.get(at) {
            crate::runtime::executor::tick().await;
            steps += 1;
            if steps > STEPS {
                return Err(Fail::Message("the script goes round without end".into(), 1));
            }
            let index = at;
            at += 1;
            if self.applies(context, command, index).await? == command.negated {
                if let Action::Begin(end) = command.action {
                    at = end;
                }
                continue;
            }
            match &command.action {
                Action::Begin(_) | Action::Label(_) | Action::Simple('}') => {}
                Action::Number => {
                    let number = self.number;
                    context.print(&format!("{number}\n")).await?;
                }
                Action::Append(text) => self.appended.push(Pending::Text(text.clone())),
                Action::Insert(text) => context.print(text).await?,
                Action::Change(text) => {
                    let inside = command.addresses.1.is_some() && self.ranges.get(index).copied().flatten().is_some();
                    if !inside || command.negated {
                        context.print(text).await?;
                    }
                    return Ok(After::Delete);
                }
                Action::Branch(label) => at = self.target(label),
                Action::BranchIfReplaced(label) => {
                    if std::mem::take(&mut self.replaced) {
                        at = self.target(label);
                    }
                }
                Action::BranchUnlessReplaced(label) => {
                    if !std::mem::take(&mut self.replaced) {
                        at = self.target(label);
                    }
                }
                Action::Quit(print, status) => return Ok(After::Quit(*print, *status)),
                Action::Read(name) => self.appended.push(Pending::File(name.clone())),
                Action::Write(name) => {
                    let pattern = self.pattern.clone();
                    self.write(name, &pattern).await?;
                }
                Action::Replace(replace) => self.replace(context, replace).await?,
                Action::Translate(pairs) => {
                    let text: String = decode(&self.pattern)
                        .chars()
                        .map(|character| pairs.iter().find(|(from, _)| *from == character).map_or(character, |(_, to)| *to))
                        .collect();
                    self.pattern = encode(&text).into_owned();
                }
                Action::Simple(letter) => {
                    if let Some(after) = self.simple(context, *letter).await? {
                        return Ok(after);
                    }
                }
            }
        }
        Ok(After::Next)
    }

    fn target(&self, label: &Option<String>) -> usize {
        match label {
            None => self.commands.len(),
            Some(label) => self.labels.get(label.as_str()).copied().unwrap_or(self.commands.len()),
        }
    }

    async fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), Fail> {
        if let Some(handle) = self.written.get(name) {
            handle.write(&[bytes, b"\n"].concat()).await?;
        }
        Ok(())
    }
}
