//! `grep`, `egrep` and `fgrep`.

use std::collections::VecDeque;

use crate::applet;
use crate::applets::files;
use crate::context::{Applet, Context, Fail, Outcome};
use crate::options::{Parsed, parse};
use crate::regex::{Regex, Scratch};
use crate::runtime::executor::Local;
use crate::runtime::file::{Lines, read_all};
use crate::text::decode;

/// The table.
pub const APPLETS: &[Applet] = &[applet!("egrep", grep), applet!("fgrep", grep), applet!("grep", grep)];

struct Grep {
    patterns: Vec<Matcher>,
    parsed: Parsed,
    with_names: bool,
    before: usize,
    after: usize,
    limit: u64,
    scratch: Scratch,
    matched: bool,
    failed: bool,
    /// `-L` has listed a file.
    listed: bool,
}

enum Matcher {
    Regex(Regex),
    Fixed(Vec<u8>, bool),
}

impl Matcher {
    fn find(&self, line: &[u8], start: usize, scratch: &mut Scratch) -> Option<(usize, usize)> {
        match self {
            Matcher::Regex(regex) => regex.find(line, start, scratch)?.first().copied().flatten(),
            Matcher::Fixed(wanted, fold) => {
                if wanted.is_empty() {
                    return Some((start, start));
                }
                let rest = line.get(start..)?;
                let at = rest
                    .windows(wanted.len())
                    .position(|part| if *fold { part.eq_ignore_ascii_case(wanted) } else { part == wanted })?;
                Some((start + at, start + at + wanted.len()))
            }
        }
    }
}

async fn grep(context: &mut Context) -> Outcome {
    let long = [
        ("extended-regexp", 'E'),
        ("fixed-strings", 'F'),
        ("ignore-case", 'i'),
        ("invert-match", 'v'),
        ("line-number", 'n'),
        ("count", 'c'),
        ("files-with-matches", 'l'),
        ("files-without-match", 'L'),
        ("quiet", 'q'),
        ("silent", 'q'),
        ("recursive", 'r'),
        ("only-matching", 'o'),
        ("word-regexp", 'w'),
        ("line-regexp", 'x'),
        ("after-context", 'A'),
        ("before-context", 'B'),
        ("context", 'C'),
        ("regexp", 'e'),
        ("file", 'f'),
        ("no-filename", 'h'),
        ("with-filename", 'H'),
        ("no-messages", 's'),
        ("max-count", 'm'),
        ("color", 'K'),
        ("colour", 'K'),
        ("text", 'a'),
        ("include", 'I'),
        ("exclude", 'X'),
        ("line-buffered", 'a'),
    ];
    let parsed = parse(&context.args, "EFGPivnclLqrRowxA:B:C:e:f:hHsm:zaKI:X:y", &long).map_err(two)?;
    let mut operands = parsed.operands.clone();
    let mut texts: Vec<String> =
        parsed.values('e').flat_map(|text| text.split('\n').map(str::to_string).collect::<Vec<_>>()).collect();
    for file in parsed.values('f').map(str::to_string).collect::<Vec<_>>() {
        let bytes = match context.open(&file) {
            Ok(handle) => read_all(&handle).await,
            Err(error) => Err(error),
        };
        match bytes {
            Ok(bytes) => texts.extend(decode(&bytes).lines().map(str::to_string)),
            Err(error) => return Err(Fail::Message(format!("{file}: {}", crate::sys::words(&error)), 2)),
        }
    }
    if !parsed.has('e') && !parsed.has('f') {
        if operands.is_empty() {
            return Err(Fail::Message("a pattern is missing".into(), 2));
        }
        texts.extend(operands.remove(0).split('\n').map(str::to_string));
    }
    let fixed = parsed.has('F') || context.name == "fgrep";
    let extended = parsed.has('E') || parsed.has('P') || context.name == "egrep";
    let fold = parsed.has('i') || parsed.has('y');
    let mut patterns = Vec::new();
    for text in &texts {
        // A pattern without anything special is faster looked for as it is.
        let plain =
            fixed || text.chars().all(|character| character.is_ascii_alphanumeric() || " _-/:=@,;'\"<>~%&!#".contains(character));
        patterns.push(if plain && (!fold || text.is_ascii()) {
            Matcher::Fixed(crate::text::encode(text).into_owned(), fold)
        } else {
            Matcher::Regex(
                Regex::new(text, extended, fold).map_err(|error| Fail::Message(format!("bad regex '{text}': {error}"), 2))?,
            )
        });
    }
    let recursive = parsed.has('r') || parsed.has('R');
    if operands.is_empty() {
        operands.push(if recursive { "." } else { "-" }.to_string());
    }
    let number = |letter: char| parsed.value(letter).and_then(|text| text.parse::<usize>().ok());
    let around = number('C').unwrap_or(0);
    let mut grep = Grep {
        with_names: (operands.len() > 1 || recursive || parsed.has('H')) && !parsed.has('h'),
        before: number('B').unwrap_or(around),
        after: number('A').unwrap_or(around),
        limit: number('m').map_or(u64::MAX, |count| count as u64),
        patterns,
        parsed,
        scratch: Scratch::default(),
        matched: false,
        failed: false,
        listed: false,
    };
    let top = operands.len() == 1 && operands.first().is_some_and(|name| name == ".") && grep.parsed.operands.len() < 2;
    for name in operands {
        if recursive && name != "-" {
            grep.tree(context, &name, top && recursive && name == ".").await?;
        } else if !recursive && name != "-" && context.status(&name, true).is_ok_and(|status| status.is_directory()) {
            grep.failed = true;
            if !grep.parsed.has('s') {
                context.complain(&format!("{name}: Is a directory")).await;
            }
        } else {
            grep.file(context, &name).await?;
        }
        if grep.matched && grep.parsed.has('q') {
            return Ok(0);
        }
    }
    if grep.parsed.has('L') {
        grep.matched = grep.listed;
    }
    Ok(if grep.failed && !(grep.matched && grep.parsed.has('q')) { 2 } else { u8::from(!grep.matched) })
}

fn two(fail: Fail) -> Fail {
    match fail {
        Fail::Message(text, _) => Fail::Message(text, 2),
        other => other,
    }
}

impl Grep {
    fn tree<'a>(&'a mut self, context: &'a mut Context, name: &'a str, bare: bool) -> Local<'a, Result<(), Fail>> {
        Box::pin(async move {
            match context.status(name, true) {
                Ok(status) if status.is_directory() => match files::list(&context.path(name)) {
                    Ok(names) => {
                        for entry in names {
                            let inner = if bare { entry } else { format!("{}/{entry}", name.trim_end_matches('/')) };
                            // Links are not followed, so that no circle catches it.
                            if context.status(&inner, false).is_ok_and(|status| status.kind != crate::sys::Kind::Link) {
                                self.tree(context, &inner, false).await?;
                            }
                        }
                        Ok(())
                    }
                    Err(error) => self.fail(context, name, &error).await,
                },
                _ => {
                    let pattern =
                        |text: &str| crate::shell::pattern::Pattern::from_text(text).matches(crate::text::base_name(name));
                    let included = !self.parsed.has('I') || self.parsed.values('I').any(pattern);
                    if included && !self.parsed.values('X').any(pattern) { self.file(context, name).await } else { Ok(()) }
                }
            }
        })
    }

    async fn fail(&mut self, context: &mut Context, name: &str, error: &std::io::Error) -> Result<(), Fail> {
        self.failed = true;
        if !self.parsed.has('s') {
            context.complain_of(name, error).await;
        }
        Ok(())
    }

    /// The first match of any pattern at `start` or behind it: the leftmost, of these the longest.
    fn find(&mut self, line: &[u8], start: usize) -> Option<(usize, usize)> {
        let mut best: Option<(usize, usize)> = None;
        let (words, whole) = (self.parsed.has('w'), self.parsed.has('x'));
        for pattern in &self.patterns {
            let mut from = start;
            while let Some((begin, end)) = pattern.find(line, from, &mut self.scratch) {
                let word = |place: Option<&u8>| place.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
                let fits = if whole {
                    begin == 0 && end == line.len()
                } else {
                    !words || (begin < end && !word(begin.checked_sub(1).and_then(|at| line.get(at))) && !word(line.get(end)))
                };
                if fits {
                    if best.is_none_or(|(old, old_end)| begin < old || (begin == old && end > old_end)) {
                        best = Some((begin, end));
                    }
                    break;
                }
                from = begin + 1;
                if from > line.len() || (whole && begin > 0) {
                    break;
                }
            }
        }
        best
    }

    async fn file(&mut self, context: &mut Context, name: &str) -> Result<(), Fail> {
        let handle = match context.open(name) {
            Ok(handle) => handle,
            Err(error) => return self.fail(context, name, &error).await,
        };
        let mut lines = Lines::new(handle);
        if self.parsed.has('z') {
            lines = lines.delimiter(0);
        }
        let label = if name == "-" { "(standard input)" } else { name };
        let end = if self.parsed.has('z') { b'\0' } else { b'\n' };
        let silent = ['q', 'l', 'L', 'c'].into_iter().any(|letter| self.parsed.has(letter));
        let invert = self.parsed.has('v');
        let mut count = 0;
        let mut number = 0_u64;
        let mut earlier: VecDeque<(u64, Vec<u8>)> = VecDeque::new();
        let mut trailing = 0;
        let mut last_shown = 0;
        while count < self.limit {
            let line = match context.next(&mut lines).await {
                Ok(Some((line, _))) => line,
                Ok(None) => break,
                Err(Fail::Message(text, _)) => {
                    self.failed = true;
                    context.complain(&format!("{name}: {text}")).await;
                    break;
                }
                Err(other) => return Err(other),
            };
            number += 1;
            let found = self.find(&line, 0);
            if found.is_some() == invert {
                if silent {
                    continue;
                }
                if trailing > 0 {
                    trailing -= 1;
                    last_shown = number;
                    self.show(context, label, number, &line, b'-', end).await?;
                } else if self.before > 0 {
                    earlier.push_back((number, line));
                    if earlier.len() > self.before {
                        earlier.pop_front();
                    }
                }
                continue;
            }
            count += 1;
            self.matched = true;
            if self.parsed.has('q') {
                return Ok(());
            }
            if self.parsed.has('l') || self.parsed.has('L') {
                break;
            }
            if silent {
                continue;
            }
            let first = earlier.front().map_or(number, |(number, _)| *number);
            if (self.before > 0 || self.after > 0) && last_shown > 0 && first > last_shown + 1 {
                context.print("--\n").await?;
            }
            for (number, line) in std::mem::take(&mut earlier) {
                self.show(context, label, number, &line, b'-', end).await?;
            }
            last_shown = number;
            trailing = self.after;
            if self.parsed.has('o') {
                let mut next = found;
                while let Some((from, to)) = next.filter(|_| !invert) {
                    if to > from {
                        self.show(context, label, number, line.get(from..to).unwrap_or_default(), b':', end).await?;
                    }
                    let start = if to > from { to } else { to + 1 };
                    next = if start <= line.len() { self.find(&line, start) } else { None };
                }
            } else {
                self.show(context, label, number, &line, b':', end).await?;
            }
        }
        if self.parsed.has('c') {
            let prefix = if self.with_names { format!("{label}:") } else { String::new() };
            context.print(&format!("{prefix}{count}\n")).await?;
        }
        if (self.parsed.has('l') && count > 0) || (self.parsed.has('L') && count == 0) {
            context.print(&format!("{label}\n")).await?;
        }
        self.listed |= self.parsed.has('L') && count == 0;
        Ok(())
    }

    async fn show(
        &mut self,
        context: &mut Context,
        label: &str,
        number: u64,
        line: &[u8],
        mark: u8,
        end: u8,
    ) -> Result<(), Fail> {
        let mut bytes = Vec::new();
        if self.with_names {
            bytes.extend(crate::text::encode(label).as_ref());
            bytes.push(mark);
        }
        if self.parsed.has('n') {
            bytes.extend(number.to_string().bytes());
            bytes.push(mark);
        }
        bytes.extend_from_slice(line);
        bytes.push(end);
        context.bytes(&bytes).await
    }
}
