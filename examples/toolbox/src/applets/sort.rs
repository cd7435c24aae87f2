//! `sort`, `uniq`, `comm`: lines in order.

use std::cmp::Ordering;

use crate::applet;
use crate::applets::stream::{open, or_stdin};
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::options::{Parsed, parse};
use crate::runtime::file::{Handle, Lines};

/// The table.
pub const APPLETS: &[Applet] = &[applet!("comm", comm), applet!("sort", sort), applet!("uniq", uniq)];

#[derive(Clone, Default)]
struct Key {
    from: usize,
    from_character: usize,
    to: Option<(usize, usize)>,
    letters: String,
}

impl Key {
    /// `-k 2.3n,4r` and the like.
    fn parse(text: &str) -> Option<Key> {
        let (first, second) = match text.split_once(',') {
            Some((first, second)) => (first, Some(second)),
            None => (text, None),
        };
        let (from, from_character, mut letters) = place(first)?;
        let to = match second {
            None => None,
            Some(second) => {
                let (field, character, more) = place(second)?;
                letters.push_str(&more);
                Some((field, character))
            }
        };
        (from > 0).then_some(Key { from, from_character: from_character.max(1), to, letters })
    }
}

fn place(text: &str) -> Option<(usize, usize, String)> {
    let end = text.find(|character: char| character.is_ascii_alphabetic()).unwrap_or(text.len());
    let (numbers, letters) = text.split_at(end);
    let (field, character) = match numbers.split_once('.') {
        Some((field, character)) => (field, character.parse().ok()?),
        None => (numbers, 0),
    };
    Some((field.parse().ok()?, character, letters.to_string()))
}

struct Order {
    keys: Vec<Key>,
    separator: Option<u8>,
    letters: String,
    stable: bool,
    unique: bool,
}

impl Order {
    fn compare(&self, left: &[u8], right: &[u8]) -> Ordering {
        for key in &self.keys {
            let letters = if key.letters.is_empty() { &self.letters } else { &key.letters };
            let order = by(self.part(left, key, letters), self.part(right, key, letters), letters);
            if order != Ordering::Equal {
                return order;
            }
        }
        if self.keys.is_empty() {
            let order = by(left, right, &self.letters);
            if order != Ordering::Equal {
                return order;
            }
        }
        if self.stable || self.unique {
            return Ordering::Equal;
        }
        // The last resort is the whole line, byte by byte.
        let order = left.cmp(right);
        if self.letters.contains('r') { order.reverse() } else { order }
    }

    fn part<'a>(&self, line: &'a [u8], key: &Key, letters: &str) -> &'a [u8] {
        let fields = self.fields(line);
        let begin = |number: usize| fields.get(number - 1).map_or(line.len(), |(from, _)| *from);
        let mut from = begin(key.from);
        if letters.contains('b') {
            while line.get(from).is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
                from += 1;
            }
        }
        from = (from + key.from_character - 1).min(line.len());
        let to = match key.to {
            None => line.len(),
            Some((field, 0)) => fields.get(field.max(1) - 1).map_or(line.len(), |(_, to)| *to),
            Some((field, character)) => {
                let mut start = begin(field.max(1));
                if letters.contains('b') {
                    while line.get(start).is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
                        start += 1;
                    }
                }
                (start + character).min(line.len())
            }
        };
        line.get(from..to.max(from)).unwrap_or_default()
    }

    fn fields(&self, line: &[u8]) -> Vec<(usize, usize)> {
        let mut fields = Vec::new();
        let mut start = 0;
        match self.separator {
            Some(separator) => {
                for (at, byte) in line.iter().enumerate() {
                    if *byte == separator {
                        fields.push((start, at));
                        start = at + 1;
                    }
                }
                fields.push((start, line.len()));
            }
            None => {
                // A field begins with the blanks before it.
                let mut at = 0;
                while at < line.len() {
                    while line.get(at).is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
                        at += 1;
                    }
                    while line.get(at).is_some_and(|byte| !matches!(byte, b' ' | b'\t')) {
                        at += 1;
                    }
                    fields.push((start, at));
                    start = at;
                }
            }
        }
        fields
    }
}

fn by(left: &[u8], right: &[u8], letters: &str) -> Ordering {
    let order = if letters.contains(['n', 'g']) {
        number(left).total_cmp(&number(right))
    } else if letters.contains('h') {
        human(left).total_cmp(&human(right))
    } else if letters.contains('M') {
        month(left).cmp(&month(right))
    } else if letters.contains('V') {
        version(left, right)
    } else {
        let trim = |bytes: &[u8]| -> Vec<u8> {
            let mut bytes = if letters.contains('b') { bytes.trim_ascii_start() } else { bytes }.to_vec();
            if letters.contains('d') {
                bytes.retain(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'\t'));
            }
            if letters.contains('f') {
                bytes.make_ascii_uppercase();
            }
            bytes
        };
        if letters.contains(['b', 'd', 'f']) { trim(left).cmp(&trim(right)) } else { left.cmp(right) }
    };
    if letters.contains('r') { order.reverse() } else { order }
}

fn number(bytes: &[u8]) -> f64 {
    let text = bytes.trim_ascii_start();
    let mut end = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let mut dot = false;
    while let Some(byte) = text.get(end) {
        match byte {
            b'0'..=b'9' => {}
            b'.' if !dot => dot = true,
            _ => break,
        }
        end += 1;
    }
    std::str::from_utf8(text.get(..end).unwrap_or_default()).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

fn human(bytes: &[u8]) -> f64 {
    let unit = bytes.iter().rev().find_map(|byte| b"KMGTPE".iter().position(|unit| unit == &byte.to_ascii_uppercase()));
    number(bytes) * 1024_f64.powi(unit.map_or(0, |unit| unit as i32 + 1))
}

fn month(bytes: &[u8]) -> usize {
    const NAMES: [&[u8]; 12] = [b"JAN", b"FEB", b"MAR", b"APR", b"MAY", b"JUN", b"JUL", b"AUG", b"SEP", b"OCT", b"NOV", b"DEC"];
    let start = bytes.trim_ascii_start();
    let start = start.get(..3).unwrap_or_default();
    NAMES.iter().position(|name| start.eq_ignore_ascii_case(name)).map_or(0, |index| index + 1)
}

fn version(mut left: &[u8], mut right: &[u8]) -> Ordering {
    loop {
        let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (own, other) = (digits(left), digits(right));
        if own > 0 && other > 0 {
            let order = number(left.get(..own).unwrap_or_default()).total_cmp(&number(right.get(..other).unwrap_or_default()));
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (left.get(own..).unwrap_or_default(), right.get(other..).unwrap_or_default());
            continue;
        }
        match (left.split_first(), right.split_first()) {
            (Some((own, left_rest)), Some((other, right_rest))) if own == other => (left, right) = (left_rest, right_rest),
            _ => return left.cmp(right),
        }
    }
}

async fn sort(context: &mut Context) -> Outcome {
    let long = [
        ("unique", 'u'),
        ("reverse", 'r'),
        ("numeric-sort", 'n'),
        ("key", 'k'),
        ("field-separator", 't'),
        ("check", 'c'),
        ("stable", 's'),
        ("output", 'o'),
        ("ignore-case", 'f'),
        ("zero-terminated", 'z'),
    ];
    let parsed = parse(&context.args, "nrubfdgshMVicCmzo:k:t:S:T:", &long).map_err(two)?;
    let keys: Option<Vec<Key>> = parsed.values('k').map(Key::parse).collect();
    let Some(keys) = keys else { return Err(Fail::Message("bad field specification".into(), 2)) };
    let order = Order {
        keys,
        separator: parsed
            .value('t')
            .and_then(|text| if text == "\\0" { Some(0) } else { crate::text::encode(text).first().copied() }),
        letters: parsed.options.iter().map(|(letter, _)| *letter).filter(|letter| "nrbfdghMV".contains(*letter)).collect(),
        stable: parsed.has('s'),
        unique: parsed.has('u'),
    };
    let end = if parsed.has('z') { 0 } else { b'\n' };
    let mut all: Vec<Vec<u8>> = Vec::new();
    for name in or_stdin(&parsed.operands) {
        let Some(handle) = open(context, &name, "").await else { return Ok(2) };
        let mut lines = Lines::new(handle).delimiter(end);
        while let Some((line, _)) = context.next(&mut lines).await? {
            if (parsed.has('c') || parsed.has('C'))
                && let Some(before) = all.last()
            {
                let sorted = order.compare(before, &line);
                if sorted == Ordering::Greater || (sorted == Ordering::Equal && parsed.has('u')) {
                    let number = all.len() + 1;
                    if parsed.has('c') {
                        context.complain(&format!("{name}:{number}: disorder: {}", crate::text::decode(&line))).await;
                    }
                    return Ok(1);
                }
            }
            all.push(line);
        }
    }
    if parsed.has('c') || parsed.has('C') {
        return Ok(0);
    }
    all.sort_by(|left, right| order.compare(left, right));
    if parsed.has('u') {
        all.dedup_by(|next, kept| order.compare(kept, next) == Ordering::Equal);
    }
    if let Some(file) = parsed.value('o') {
        let handle = context.create(file).or_else(|error| crate::context::because(file, &error))?;
        context.out = crate::runtime::output::Output::new(Some(handle));
    }
    for mut line in all {
        line.push(end);
        context.bytes(&line).await?;
    }
    Ok(0)
}

fn two(fail: Fail) -> Fail {
    match fail {
        Fail::Message(text, _) => Fail::Message(text, 2),
        other => other,
    }
}

async fn uniq(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "cduif:s:w:", &[("count", 'c'), ("repeated", 'd'), ("unique", 'u'), ("ignore-case", 'i')])?;
    let number = |letter: char| parsed.value(letter).and_then(|text| text.parse::<usize>().ok());
    let input = parsed.operands.first().map_or("-", String::as_str);
    let Some(handle) = open(context, input, "").await else { return Ok(1) };
    if let Some(file) = parsed.operands.get(1).filter(|file| *file != "-") {
        let handle = context.create(file).or_else(|error| crate::context::because(file, &error))?;
        context.out = crate::runtime::output::Output::new(Some(handle));
    }
    let key = |line: &[u8]| -> Vec<u8> {
        let mut rest = line;
        for _ in 0..number('f').unwrap_or(0) {
            let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let word = rest.iter().skip(blanks).take_while(|byte| !matches!(byte, b' ' | b'\t')).count();
            rest = rest.get(blanks + word..).unwrap_or_default();
        }
        let rest = rest.get(number('s').unwrap_or(0)..).unwrap_or_default();
        let mut bytes = rest.get(..number('w').unwrap_or(rest.len()).min(rest.len())).unwrap_or_default().to_vec();
        if parsed.has('i') {
            bytes.make_ascii_lowercase();
        }
        bytes
    };
    let mut lines = Lines::new(handle);
    let mut current: Option<(Vec<u8>, Vec<u8>, u64)> = None;
    while let Some((line, _)) = context.next(&mut lines).await? {
        let own = key(&line);
        match &mut current {
            Some((_, other, count)) if *other == own => *count += 1,
            _ => {
                let before = current.replace((line, own, 1));
                show_group(context, before, &parsed).await?;
            }
        }
    }
    show_group(context, current, &parsed).await?;
    Ok(0)
}

async fn show_group(context: &mut Context, group: Option<(Vec<u8>, Vec<u8>, u64)>, parsed: &Parsed) -> Result<(), Fail> {
    let Some((mut line, _, count)) = group else { return Ok(()) };
    if (parsed.has('d') && count < 2) || (parsed.has('u') && count > 1) {
        return Ok(());
    }
    if parsed.has('c') {
        context.print(&format!("{count:>7} ")).await?;
    }
    line.push(b'\n');
    context.bytes(&line).await
}

async fn comm(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "123", &[])?;
    let [left, right] = parsed.operands.as_slice() else { return fail("two files are wanted") };
    let mut sides: Vec<Lines> = Vec::new();
    for name in [left, right] {
        let Some(handle): Option<Handle> = open(context, name, "").await else { return Ok(1) };
        sides.push(Lines::new(handle));
    }
    let [left, right] = sides.as_mut_slice() else { return Ok(1) };
    let shown = |column: char| !parsed.has(column);
    let indent = [
        "".to_string(),
        if shown('1') { "\t" } else { "" }.to_string(),
        format!("{}{}", if shown('1') { "\t" } else { "" }, if shown('2') { "\t" } else { "" }),
    ];
    let (mut one, mut two) = (context.next(left).await?, context.next(right).await?);
    loop {
        let (column, line) = match (&one, &two) {
            (None, None) => return Ok(0),
            (Some((line, _)), None) => (0, line.clone()),
            (None, Some((line, _))) => (1, line.clone()),
            (Some((own, _)), Some((other, _))) => match own.cmp(other) {
                Ordering::Less => (0, own.clone()),
                Ordering::Greater => (1, other.clone()),
                Ordering::Equal => (2, own.clone()),
            },
        };
        if shown(['1', '2', '3'].get(column).copied().unwrap_or('1')) {
            context.print(indent.get(column).map_or("", String::as_str)).await?;
            context.bytes(&line).await?;
            context.print("\n").await?;
        }
        if column != 1 {
            one = context.next(left).await?;
        }
        if column != 0 {
            two = context.next(right).await?;
        }
    }
}
