//! Streams from one end to the other: `cat`, `head`, `tee`, `wc`.

use std::collections::VecDeque;

use crate::applet;
use crate::applets::numbers::size;
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::options::parse;
use crate::runtime::file::{Handle, Lines};

/// The table.
pub const APPLETS: &[Applet] = &[applet!("cat", cat), applet!("head", head), applet!("tee", tee), applet!("wc", wc)];

/// The operands, or the standard input if there are none.
pub fn or_stdin(operands: &[String]) -> Vec<String> {
    if operands.is_empty() { vec!["-".into()] } else { operands.to_vec() }
}

/// Opens an operand; a directory is an error here, as reading it would be. Says so if it cannot be opened.
pub async fn open(context: &mut Context, name: &str, verb: &str) -> Option<Handle> {
    let directory = name != "-" && context.status(name, true).is_ok_and(|status| status.is_directory());
    let result = if directory { Err(std::io::Error::from_raw_os_error(libc::EISDIR)) } else { context.open(name) };
    match result {
        Ok(handle) => Some(handle),
        Err(error) => {
            let what = match verb {
                _ if directory => "read error".to_string(),
                "" => name.to_string(),
                _ => format!("{verb} '{name}'"),
            };
            context.complain_of(&what, &error).await;
            None
        }
    }
}

/// The inputs of an applet that reads its operands one after the other.
pub struct Inputs {
    names: std::vec::IntoIter<String>,
    verb: &'static str,
    /// 1 once one of them could not be opened.
    pub status: u8,
}

impl Inputs {
    /// Those of the operands, or the standard input; `verb` is how [`open`] complains.
    pub fn of(operands: &[String], verb: &'static str) -> Self {
        Self { names: or_stdin(operands).into_iter(), verb, status: 0 }
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.names.len()
    }

    /// The next one that can be opened, with its name.
    pub async fn next(&mut self, context: &mut Context) -> Option<(String, Lines)> {
        loop {
            let name = self.names.next()?;
            match open(context, &name, self.verb).await {
                Some(handle) => return Some((name, Lines::new(handle))),
                None => self.status = 1,
            }
        }
    }
}

async fn cat(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "nbsvetAETu", &[("number", 'n'), ("show-all", 'A')])?;
    let visible = parsed.has('v') || parsed.has('e') || parsed.has('t') || parsed.has('A');
    let ends = parsed.has('e') || parsed.has('A') || parsed.has('E');
    let tabs = parsed.has('t') || parsed.has('A') || parsed.has('T');
    let by_lines = visible || ends || tabs || parsed.has('n') || parsed.has('b') || parsed.has('s');
    let mut number = 0;
    let mut blank = false;
    let mut inputs = Inputs::of(&parsed.operands, "can't open");
    while let Some((_, mut lines)) = inputs.next(context).await {
        if !by_lines {
            loop {
                let bytes = context.chunk(&mut lines).await?;
                if bytes.is_empty() {
                    break;
                }
                context.bytes(&bytes).await?;
            }
            continue;
        }
        while let Some((line, ended)) = context.next(&mut lines).await? {
            if parsed.has('s') && line.is_empty() && std::mem::replace(&mut blank, true) {
                continue;
            }
            blank = line.is_empty();
            if (parsed.has('n') && !parsed.has('b')) || (parsed.has('b') && !line.is_empty()) {
                number += 1;
                context.print(&format!("{number:>6}\t")).await?;
            }
            let mut shown = Vec::new();
            for byte in line {
                match byte {
                    b'\t' if tabs => shown.extend(b"^I"),
                    b'\t' => shown.push(byte),
                    byte if visible => show_byte(byte, &mut shown),
                    byte => shown.push(byte),
                }
            }
            if ends && ended {
                shown.push(b'$');
            }
            if ended {
                shown.push(b'\n');
            }
            context.bytes(&shown).await?;
        }
    }
    Ok(inputs.status)
}

fn show_byte(byte: u8, out: &mut Vec<u8>) {
    let low = byte & 0x7f;
    if byte >= 0x80 {
        out.extend(b"M-");
    }
    match low {
        0..=31 => out.extend([b'^', low + 64]),
        127 => out.extend(b"^?"),
        low => out.push(low),
    }
}

/// `-5` for `-n 5`, as old scripts have it.
pub fn old_numbers(args: &[String]) -> Vec<String> {
    let mut list = Vec::new();
    for (index, argument) in args.iter().enumerate() {
        match argument.strip_prefix('-').filter(|digits| !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit()))
        {
            Some(digits) if index == 0 => list.extend(["-n".to_string(), digits.to_string()]),
            _ => list.push(argument.clone()),
        }
    }
    list
}

/// The line before a file's where there are several.
pub async fn heading(context: &mut Context, name: &str, first: &mut bool) -> Result<(), Fail> {
    let gap = if std::mem::replace(first, false) { "" } else { "\n" };
    let name = if name == "-" { "standard input" } else { name };
    context.print(&format!("{gap}==> {name} <==\n")).await
}

async fn head(context: &mut Context) -> Outcome {
    let parsed = parse(&old_numbers(&context.args), "n:c:qv", &[("lines", 'n'), ("bytes", 'c'), ("quiet", 'q')])?;
    let given = parsed.value('c').or(parsed.value('n')).unwrap_or("10");
    let (all_but, digits) = match given.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, given),
    };
    let Some(count) = size(digits.trim_start_matches('+')) else { return fail(format!("invalid number '{given}'")) };
    let mut inputs = Inputs::of(&parsed.operands, "");
    let headings = (inputs.left() > 1 || parsed.has('v')) && !parsed.has('q');
    let mut first = true;
    while let Some((name, mut lines)) = inputs.next(context).await {
        if headings {
            heading(context, &name, &mut first).await?;
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if parsed.has('c') {
            let mut left = count;
            let mut held = Vec::new();
            loop {
                if left == 0 && !all_but {
                    break;
                }
                let bytes = context.chunk(&mut lines).await?;
                if bytes.is_empty() {
                    break;
                }
                if all_but {
                    held.extend(bytes);
                    let sure = held.len().saturating_sub(count);
                    let part: Vec<u8> = held.drain(..sure).collect();
                    context.bytes(&part).await?;
                } else {
                    let part = bytes.get(..left.min(bytes.len())).unwrap_or_default();
                    left -= part.len();
                    context.bytes(part).await?;
                }
            }
            continue;
        }
        let mut seen = 0;
        let mut held: VecDeque<(Vec<u8>, bool)> = VecDeque::new();
        while all_but || seen < count {
            let Some(line) = context.next(&mut lines).await? else { break };
            seen += 1;
            let line = if all_but {
                held.push_back(line);
                if held.len() <= count {
                    continue;
                }
                held.pop_front()
            } else {
                Some(line)
            };
            if let Some((mut line, ended)) = line {
                if ended {
                    line.push(b'\n');
                }
                context.bytes(&line).await?;
            }
        }
    }
    Ok(inputs.status)
}

async fn tee(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "ai", &[("append", 'a')])?;
    let mut files = Vec::new();
    let mut status = 0;
    for name in &parsed.operands {
        let opened = if parsed.has('a') { context.append(name) } else { context.create(name) };
        match opened {
            Ok(handle) => files.push((name.clone(), handle)),
            Err(error) => {
                context.complain_of(name, &error).await;
                status = 1;
            }
        }
    }
    let mut lines = context.lines()?;
    loop {
        let bytes = context.chunk(&mut lines).await?;
        if bytes.is_empty() {
            return Ok(status);
        }
        for (name, handle) in &files {
            if let Err(error) = handle.write(&bytes).await {
                context.complain_of(name, &error).await;
                status = 1;
            }
        }
        context.bytes(&bytes).await?;
    }
}

async fn wc(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "clmwL", &[("lines", 'l'), ("words", 'w'), ("bytes", 'c'), ("chars", 'm')])?;
    let all = parsed.options.is_empty();
    let wanted = [all || parsed.has('l'), all || parsed.has('w'), parsed.has('m'), all || parsed.has('c'), parsed.has('L')];
    let mut inputs = Inputs::of(&parsed.operands, "");
    let several = inputs.left() > 1;
    let single = wanted.iter().filter(|wanted| **wanted).count() == 1;
    let width = if single && !several { 0 } else { 9 };
    let mut totals = [0_u64; 5];
    while let Some((name, mut lines)) = inputs.next(context).await {
        let mut counts = [0_u64; 5];
        let (mut in_word, mut length) = (false, 0);
        loop {
            let bytes = context.chunk(&mut lines).await?;
            if bytes.is_empty() {
                break;
            }
            for byte in &bytes {
                counts[0] += u64::from(*byte == b'\n');
                let blank = byte.is_ascii_whitespace() || *byte == 11;
                counts[1] += u64::from(!blank && !in_word);
                in_word = !blank;
                counts[2] += u64::from(byte & 0xc0 != 0x80);
                length = if *byte == b'\n' { 0 } else { length + u64::from(byte & 0xc0 != 0x80) };
                counts[4] = counts[4].max(length);
            }
            counts[3] += bytes.len() as u64;
        }
        totals.iter_mut().zip(counts).enumerate().for_each(|(index, (total, count))| {
            *total = if index == 4 { (*total).max(count) } else { *total + count };
        });
        show_counts(context, &counts, &wanted, width, if parsed.operands.is_empty() { "" } else { &name }).await?;
    }
    if several {
        show_counts(context, &totals, &wanted, width, "total").await?;
    }
    Ok(inputs.status)
}

async fn show_counts(context: &mut Context, counts: &[u64; 5], wanted: &[bool; 5], width: usize, name: &str) -> Result<(), Fail> {
    let shown: Vec<String> =
        counts.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(count, _)| format!("{count:>width$}")).collect();
    let name = if name.is_empty() { String::new() } else { format!(" {name}") };
    context.print(&format!("{}{name}\n", shown.join(" "))).await
}
