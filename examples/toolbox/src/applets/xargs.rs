//! `xargs`.

use std::collections::VecDeque;

use crate::applet;
use crate::applets::find::run;
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::options::parse;
use crate::runtime::file::Lines;
use crate::text::decode;

/// The table.
pub const APPLETS: &[Applet] = &[applet!("xargs", xargs)];

async fn xargs(context: &mut Context) -> Outcome {
    let parsed = parse(
        &context.args,
        "+0n:I:rd:ts:P:L:xpE:",
        &[("null", '0'), ("no-run-if-empty", 'r'), ("max-args", 'n'), ("delimiter", 'd')],
    )?;
    let mut command = parsed.operands.clone();
    if command.is_empty() {
        command.push("echo".into());
    }
    let replace = parsed.value('I').map(str::to_string);
    let lines_at_once = parsed.value('L').and_then(|text| text.parse::<usize>().ok());
    let most = parsed.value('n').and_then(|text| text.parse::<usize>().ok()).or(lines_at_once).unwrap_or(usize::MAX).max(1);
    let room = parsed.value('s').and_then(|text| text.parse::<usize>().ok()).unwrap_or(128 * 1024);
    let mut items = Items { lines: context.lines()?, kind: Split::Words, ready: VecDeque::new() };
    if parsed.has('0') {
        items = Items { lines: Lines::new(context.stdin()?).delimiter(0), kind: Split::Whole, ready: VecDeque::new() };
    } else if let Some(delimiter) = parsed.value('d') {
        let mut bytes = Vec::new();
        crate::applets::format::unescape(delimiter, false, &mut bytes);
        let delimiter = bytes.first().copied().unwrap_or(b'\n');
        items = Items { lines: Lines::new(context.stdin()?).delimiter(delimiter), kind: Split::Whole, ready: VecDeque::new() };
    } else if replace.is_some() {
        items.kind = Split::Trimmed;
    } else if lines_at_once.is_some() {
        items.kind = Split::Whole;
    }
    let mut status = 0;
    let mut ran = false;
    let mut batch: Vec<String> = Vec::new();
    loop {
        let item = items.next(context).await?;
        let ended = item.is_none();
        batch.extend(item);
        let full = batch.len() >= most || replace.is_some() || batch.iter().map(|word| word.len() + 1).sum::<usize>() > room;
        if (full && !batch.is_empty()) || (ended && (!batch.is_empty() || !(ran || parsed.has('r') || replace.is_some()))) {
            ran = true;
            let words: Vec<String> = match &replace {
                Some(mark) => {
                    command.iter().map(|word| word.replace(mark.as_str(), batch.first().map_or("", String::as_str))).collect()
                }
                None => command.iter().chain(&batch).cloned().collect(),
            };
            batch.clear();
            if parsed.has('t') {
                context.error_text(&format!("{}\n", words.join(" "))).await;
            }
            match run(context, &words, true).await? {
                0 => {}
                255 => return Ok(124),
                own @ (126 | 127) => return Ok(own),
                _ => status = 123,
            }
        }
        if ended {
            return Ok(status);
        }
    }
}

enum Split {
    /// Blanks between words, with quotes and backslashes.
    Words,
    /// Every line, without blanks at its beginning.
    Trimmed,
    /// Every line as it is.
    Whole,
}

struct Items {
    lines: Lines,
    kind: Split,
    ready: VecDeque<String>,
}

impl Items {
    async fn next(&mut self, context: &mut Context) -> Result<Option<String>, Fail> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            let Some((line, _)) = context.next(&mut self.lines).await? else { return Ok(None) };
            let line = decode(&line);
            match self.kind {
                Split::Whole => self.ready.push_back(line),
                Split::Trimmed => {
                    let trimmed = line.trim_start();
                    if !trimmed.is_empty() {
                        self.ready.push_back(trimmed.to_string());
                    }
                }
                Split::Words => words(&line, &mut self.ready)?,
            }
        }
    }
}

fn words(line: &str, list: &mut VecDeque<String>) -> Result<(), Fail> {
    let mut word: Option<String> = None;
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        match character {
            ' ' | '\t' => list.extend(word.take()),
            '\'' | '"' => {
                let text = word.get_or_insert_default();
                loop {
                    match rest.next() {
                        Some(next) if next == character => break,
                        Some(next) => text.push(next),
                        None => return fail(format!("unmatched {} quote", if character == '"' { "double" } else { "single" })),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(rest.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    list.extend(word);
    Ok(())
}
