//! `sed`.

mod script;

use std::collections::HashMap;

use crate::applet;
use crate::applets::stream::{open, or_stdin};
use crate::context::{Applet, Context, Fail, Outcome};
use crate::options::parse;
use crate::regex::{Regex, Scratch};
use crate::runtime::file::{Handle, Lines, read_all};
use crate::runtime::output::Output;
use crate::text::{decode, encode};
use script::{Action, Address, Command, Part, Replace};

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

/// The lines of all files, with one read ahead, by which the last is known.
struct Input {
    names: std::vec::IntoIter<String>,
    current: Option<Lines>,
    ahead: Option<(Vec<u8>, bool)>,
    ended: bool,
    status: u8,
    /// The line that is worked on had a newline.
    newline: bool,
}

impl Input {
    async fn read(&mut self, context: &mut Context, null: bool) -> Result<Option<(Vec<u8>, bool)>, Fail> {
        loop {
            if self.current.is_none() {
                let Some(name) = self.names.next() else { return Ok(None) };
                match open(context, &name, "").await {
                    Some(handle) => self.current = Some(if null { Lines::new(handle).delimiter(0) } else { Lines::new(handle) }),
                    None => self.status = 1,
                }
                continue;
            }
            if let Some(lines) = &mut self.current {
                match context.next(lines).await? {
                    Some(line) => return Ok(Some(line)),
                    None => self.current = None,
                }
            }
        }
    }

    /// The next line. One is read ahead only where it is asked whether this is the last, so that lines are not held back.
    async fn next(&mut self, context: &mut Context, null: bool) -> Result<Option<Vec<u8>>, Fail> {
        let line = match self.ahead.take() {
            Some(line) => Some(line),
            None if self.ended => None,
            None => self.read(context, null).await?,
        };
        Ok(line.map(|(line, newline)| {
            self.newline = newline;
            line
        }))
    }

    async fn is_last(&mut self, context: &mut Context, null: bool) -> Result<bool, Fail> {
        if self.ahead.is_none() && !self.ended {
            self.ahead = self.read(context, null).await?;
            self.ended = self.ahead.is_none();
        }
        Ok(self.ahead.is_none())
    }
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
    let long = [("quiet", 'n'), ("silent", 'n'), ("expression", 'e'), ("file", 'f'), ("regexp-extended", 'r'), ("null-data", 'z'), ("separate", 's')];
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
            if let Action::Branch(Some(label)) | Action::BranchIfReplaced(Some(label)) | Action::BranchUnlessReplaced(Some(label)) = &command.action
                && !labels.contains_key(label.as_str())
            {
                return Err(Fail::Message(format!("can't find label '{label}'"), 1));
            }
        }
        let input = Input { names: names.into_iter(), current: None, ahead: None, ended: false, status: 0, newline: true };
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
                Action::Begin(_) | Action::Nothing | Action::Label(_) | Action::Simple('}') => {}
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
                Action::Simple(letter) => match self.simple(context, *letter).await? {
                    Some(after) => return Ok(after),
                    None => {}
                },
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

    async fn simple(&mut self, context: &mut Context, letter: char) -> Result<Option<After>, Fail> {
        match letter {
            'd' => return Ok(Some(After::Delete)),
            'D' => {
                match self.pattern.iter().position(|byte| *byte == b'\n') {
                    Some(at) => {
                        self.pattern.drain(..=at);
                        return Ok(Some(After::Restart));
                    }
                    None => return Ok(Some(After::Delete)),
                }
            }
            'n' => {
                if self.input.is_last(context, self.null).await? {
                    // GNU and busybox print the last line where there is no next one.
                    return Ok(Some(After::Quit(true, self.input.status)));
                }
                if !self.quiet {
                    let pattern = self.pattern.clone();
                    self.print(context, &pattern).await?;
                }
                self.flush_appended(context).await?;
                if let Some(line) = self.input.next(context, self.null).await? {
                    self.pattern = line;
                    self.number += 1;
                }
            }
            'N' => {
                if self.input.is_last(context, self.null).await? {
                    return Ok(Some(After::Quit(true, self.input.status)));
                }
                self.flush_appended(context).await?;
                if let Some(line) = self.input.next(context, self.null).await? {
                    self.pattern.push(b'\n');
                    self.pattern.extend(line);
                    self.number += 1;
                }
            }
            'p' => {
                let pattern = self.pattern.clone();
                self.print(context, &pattern).await?;
            }
            'P' => {
                let line = self.pattern.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
                context.bytes(&line).await?;
                context.bytes(b"\n").await?;
            }
            'h' => self.hold.clone_from(&self.pattern),
            'H' => {
                self.hold.push(b'\n');
                self.hold.extend(&self.pattern);
            }
            'g' => self.pattern.clone_from(&self.hold),
            'G' => {
                self.pattern.push(b'\n');
                self.pattern.extend(&self.hold);
            }
            'x' => std::mem::swap(&mut self.pattern, &mut self.hold),
            'z' => self.pattern.clear(),
            'F' => context.print("-\n").await?,
            'l' => {
                let mut text = String::new();
                for byte in &self.pattern {
                    match byte {
                        b'\\' => text.push_str("\\\\"),
                        b'\n' => text.push_str("\\n"),
                        b'\t' => text.push_str("\\t"),
                        0x20..=0x7e => text.push(char::from(*byte)),
                        other => text.push_str(&format!("\\{other:03o}")),
                    }
                }
                context.print(&format!("{text}$\n")).await?;
            }
            _ => {}
        }
        Ok(None)
    }

    async fn address_matches(&mut self, context: &mut Context, address: &'a Address) -> Result<bool, Fail> {
        Ok(match address {
            Address::Line(line) => *line == self.number,
            Address::Last => self.input.is_last(context, self.null).await?,
            Address::Step(first, 0) => *first == self.number,
            Address::Step(first, step) => self.number >= *first && (self.number - first) % step == 0,
            Address::More(_) => false,
            Address::Regex(regex) => {
                let regex = self.regex(regex)?;
                regex.is_match(&self.pattern, &mut self.scratch)
            }
        })
    }

    fn regex(&mut self, regex: &'a Option<Regex>) -> Result<&'a Regex, Fail> {
        if let Some(regex) = regex {
            self.last_regex = Some(regex);
        }
        self.last_regex.ok_or_else(|| Fail::Message("no previous regexp".into(), 1))
    }

    async fn applies(&mut self, context: &mut Context, command: &'a Command, index: usize) -> Result<bool, Fail> {
        let (Some(first), second) = (&command.addresses.0, &command.addresses.1) else { return Ok(true) };
        let Some(second) = second else { return self.address_matches(context, first).await };
        let state = self.ranges.get(index).copied().flatten();
        if let Some(end) = state {
            let ends = match second {
                Address::Line(_) | Address::More(_) => self.number >= end,
                address => self.address_matches(context, address).await?,
            };
            // A second address that lies before the line: only what was begun.
            let passed = matches!(second, Address::Line(_) | Address::More(_)) && self.number > end;
            if let Some(place) = self.ranges.get_mut(index) {
                *place = if ends { None } else { Some(end) };
            }
            if !passed {
                return Ok(true);
            }
        }
        // `0,/x/` ends at a match in the first line already.
        let zero = matches!(first, Address::Line(0)) && self.number == 1;
        if zero || self.address_matches(context, first).await? {
            let end = match second {
                Address::Line(line) => *line,
                Address::More(count) => self.number + count,
                _ => u64::MAX,
            };
            let over = match second {
                Address::Line(_) | Address::More(_) => end <= self.number,
                Address::Last => self.input.is_last(context, self.null).await?,
                address if zero => self.address_matches(context, address).await?,
                _ => false,
            };
            if let Some(place) = self.ranges.get_mut(index) {
                *place = if over { None } else { Some(end) };
            }
            return Ok(true);
        }
        Ok(false)
    }

    async fn replace(&mut self, context: &mut Context, replace: &'a Replace) -> Result<(), Fail> {
        let regex = self.regex(&replace.regex)?;
        let mut out: Vec<u8> = Vec::new();
        let (mut at, mut count, mut changed) = (0, 0, false);
        let mut last_end = None;
        while at <= self.pattern.len() {
            let Some(captures) = regex.find(&self.pattern, at, &mut self.scratch) else { break };
            let Some((from, to)) = captures.first().copied().flatten() else { break };
            // An empty match right behind a match is none.
            let empty_again = from == to && last_end == Some(from);
            if !empty_again {
                count += 1;
            }
            out.extend(self.pattern.get(at..from).unwrap_or_default());
            if !empty_again && (count == replace.number || (replace.all && count > replace.number)) {
                changed = true;
                expand(&replace.parts, &captures, &self.pattern, &mut out);
            } else {
                out.extend(self.pattern.get(from..to).unwrap_or_default());
            }
            last_end = Some(to);
            at = to;
            if from == to {
                // One whole character further.
                let mut end = to + 1;
                while self.pattern.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
                    end += 1;
                }
                out.extend(self.pattern.get(to..end.min(self.pattern.len())).unwrap_or_default());
                at = end;
            }
            if changed && !replace.all {
                break;
            }
        }
        if !changed {
            return Ok(());
        }
        out.extend(self.pattern.get(at.min(self.pattern.len())..).unwrap_or_default());
        self.pattern = out;
        self.replaced = true;
        let pattern = self.pattern.clone();
        if replace.print {
            self.print(context, &pattern).await?;
        }
        if let Some(name) = &replace.write {
            self.write(name, &pattern).await?;
        }
        Ok(())
    }
}

fn expand(parts: &[Part], captures: &[Option<(usize, usize)>], text: &[u8], out: &mut Vec<u8>) {
    let mut case = None;
    let mut next = None;
    for part in parts {
        let bytes = match part {
            Part::Text(text) => encode(text).into_owned(),
            Part::Group(group) => {
                captures.get(*group).copied().flatten().and_then(|(from, to)| text.get(from..to)).unwrap_or_default().to_vec()
            }
            Part::Case(letter @ ('U' | 'L')) => {
                case = Some(*letter);
                continue;
            }
            Part::Case('E') => {
                case = None;
                continue;
            }
            Part::Case(letter) => {
                next = Some(*letter);
                continue;
            }
        };
        if case.is_none() && next.is_none() {
            out.extend(bytes);
            continue;
        }
        let mut text = decode(&bytes);
        match case {
            Some('U') => text = text.to_uppercase(),
            Some('L') => text = text.to_lowercase(),
            _ => {}
        }
        if !text.is_empty()
            && let Some(letter) = next.take()
        {
            let mut rest = text.chars();
            let first = rest.next().map(|first| first.to_string()).unwrap_or_default();
            let first = if letter == 'u' { first.to_uppercase() } else { first.to_lowercase() };
            text = format!("{first}{}", rest.as_str());
        }
        out.extend(encode(&text).iter());
    }
}
