//! Bytes as numbers: `od`, `hexdump`, `xxd`, `cmp`, `strings`.

use crate::applet;
use crate::applets::stream::{open, or_stdin};
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::options::parse;
use crate::runtime::file::{Lines, read_all};

/// The table.
pub const APPLETS: &[Applet] = &[
    applet!("cmp", cmp),
    applet!("hd", hexdump),
    applet!("hexdump", hexdump),
    applet!("od", od),
    applet!("strings", strings),
    applet!("xxd", xxd),
];

/// All operands as one stream of rows of the same width.
struct Rows {
    names: std::vec::IntoIter<String>,
    current: Option<Lines>,
    held: Vec<u8>,
    skip: u64,
    left: u64,
    status: u8,
}

impl Rows {
    fn new(operands: &[String], skip: u64, left: Option<u64>) -> Self {
        Self {
            names: or_stdin(operands).into_iter(),
            current: None,
            held: Vec::new(),
            skip,
            left: left.unwrap_or(u64::MAX),
            status: 0,
        }
    }

    async fn next(&mut self, context: &mut Context, width: usize) -> Result<Vec<u8>, Fail> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(width);
        while self.held.len() < wanted {
            let Some(lines) = &mut self.current else {
                let Some(name) = self.names.next() else { break };
                match open(context, &name, "").await {
                    Some(handle) => self.current = Some(Lines::new(handle)),
                    None => self.status = 1,
                }
                continue;
            };
            let mut bytes = context.chunk(lines).await?;
            if bytes.is_empty() {
                self.current = None;
            }
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= skipped as u64;
            bytes.drain(..skipped);
            self.held.extend(bytes);
        }
        let row: Vec<u8> = self.held.drain(..wanted.min(self.held.len())).collect();
        self.left -= row.len() as u64;
        Ok(row)
    }
}

fn offset(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => crate::applets::numbers::size(text),
    }
}

fn printable(row: &[u8]) -> String {
    row.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect()
}

async fn hexdump(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "Cvn:s:bcdox", &[])?;
    let canonical = parsed.has('C') || context.name == "hd";
    let start = parsed.value('s').and_then(offset).unwrap_or(0);
    let mut rows = Rows::new(&parsed.operands, start, parsed.value('n').and_then(offset));
    let mut at = start;
    let mut last: Option<Vec<u8>> = None;
    let mut starred = false;
    loop {
        let row = rows.next(context, 16).await?;
        if row.is_empty() {
            break;
        }
        if last.as_ref() == Some(&row) && row.len() == 16 && !parsed.has('v') {
            if !std::mem::replace(&mut starred, true) {
                context.print("*\n").await?;
            }
            at += 16;
            continue;
        }
        starred = false;
        let mut line;
        if canonical {
            line = format!("{at:08x} ");
            for index in 0..16 {
                line.push_str(if index == 8 { "  " } else { " " });
                line.push_str(&row.get(index).map_or("  ".to_string(), |byte| format!("{byte:02x}")));
            }
            line.push_str(&format!("  |{}|", printable(&row)));
        } else {
            line = format!("{at:07x}");
            for pair in row.chunks(2) {
                let word = u16::from(pair.first().copied().unwrap_or(0)) | u16::from(pair.get(1).copied().unwrap_or(0)) << 8;
                line.push_str(&format!(" {word:04x}"));
            }
        }
        context.print(&format!("{line}\n")).await?;
        at += row.len() as u64;
        last = Some(row);
    }
    if at > start {
        context.print(&if canonical { format!("{at:08x}\n") } else { format!("{at:07x}\n") }).await?;
    }
    Ok(rows.status)
}

async fn od(context: &mut Context) -> Outcome {
    let parsed = parse(
        &context.args,
        "A:t:N:j:vw:bcdoxaX",
        &[("address-radix", 'A'), ("format", 't'), ("read-bytes", 'N'), ("skip-bytes", 'j')],
    )?;
    let kind = match parsed.value('t') {
        Some(kind) => kind.to_string(),
        None if parsed.has('b') => "o1".into(),
        None if parsed.has('c') => "c".into(),
        None if parsed.has('x') => "x2".into(),
        None if parsed.has('d') => "u2".into(),
        None => "o2".into(),
    };
    let letter = kind.chars().next().unwrap_or('o');
    let size: usize = match kind.get(1..).unwrap_or_default() {
        "C" => 1,
        "S" => 2,
        "I" | "L" if kind.len() == 2 => 4,
        "" if matches!(letter, 'c' | 'a') => 1,
        "" => 4,
        text => text.trim_end_matches('z').parse().unwrap_or(1),
    };
    if !matches!(size, 1 | 2 | 4 | 8) || !"oxduca".contains(letter) {
        return fail(format!("invalid type string '{kind}'"));
    }
    let width: usize = parsed.value('w').and_then(|text| text.parse().ok()).unwrap_or(16).clamp(size, 4096);
    let start = parsed.value('j').and_then(offset).unwrap_or(0);
    let mut rows = Rows::new(&parsed.operands, start, parsed.value('N').and_then(offset));
    let address = |at: u64| match parsed.value('A') {
        Some("n") => String::new(),
        Some("x") => format!("{at:06x}"),
        Some("d") => format!("{at:07}"),
        _ => format!("{at:07o}"),
    };
    let mut at = start;
    let mut last: Option<Vec<u8>> = None;
    let mut starred = false;
    loop {
        let row = rows.next(context, width).await?;
        if row.is_empty() {
            break;
        }
        if last.as_ref() == Some(&row) && !parsed.has('v') && row.len() == width {
            if !std::mem::replace(&mut starred, true) {
                context.print("*\n").await?;
            }
            at += row.len() as u64;
            continue;
        }
        starred = false;
        let mut line = address(at);
        for group in row.chunks(size) {
            let value = group.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
            let signed = (value << (64 - 8 * size as u32)).cast_signed() >> (64 - 8 * size as u32);
            line.push_str(&match (letter, size) {
                ('o', _) => {
                    format!(" {value:0width$o}", width = [3, 6, 11, 22].get(size.trailing_zeros() as usize).copied().unwrap_or(3))
                }
                ('x', _) => format!(" {value:0width$x}", width = size * 2),
                ('u', _) => {
                    format!(" {value:>width$}", width = [3, 5, 10, 20].get(size.trailing_zeros() as usize).copied().unwrap_or(3))
                }
                ('d', _) => {
                    format!(" {signed:>width$}", width = [4, 6, 11, 20].get(size.trailing_zeros() as usize).copied().unwrap_or(4))
                }
                _ => format!(" {:>3}", shown_character(value as u8)),
            });
        }
        context.print(&format!("{line}\n")).await?;
        at += row.len() as u64;
        last = Some(row);
    }
    let end = address(at);
    if !end.is_empty() {
        context.print(&format!("{end}\n")).await?;
    }
    Ok(rows.status)
}

fn shown_character(byte: u8) -> String {
    match byte {
        0 => "\\0".into(),
        7 => "\\a".into(),
        8 => "\\b".into(),
        9 => "\\t".into(),
        10 => "\\n".into(),
        11 => "\\v".into(),
        12 => "\\f".into(),
        13 => "\\r".into(),
        0x20..=0x7e => char::from(byte).to_string(),
        other => format!("{other:03o}"),
    }
}

async fn xxd(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "pl:s:c:g:ru", &[])?;
    if parsed.has('r') {
        return xxd_back(context, &parsed.operands, parsed.has('p')).await;
    }
    let plain = parsed.has('p');
    let width: usize = parsed.value('c').and_then(|text| text.parse().ok()).unwrap_or(if plain { 30 } else { 16 }).clamp(1, 4096);
    let group: usize = parsed.value('g').and_then(|text| text.parse().ok()).filter(|group| *group > 0).unwrap_or(2);
    let start = parsed.value('s').and_then(offset).unwrap_or(0);
    let mut rows = Rows::new(&parsed.operands, start, parsed.value('l').and_then(offset));
    let mut at = start;
    loop {
        let row = rows.next(context, width).await?;
        if row.is_empty() {
            return Ok(rows.status);
        }
        let hex = |byte: &u8| if parsed.has('u') { format!("{byte:02X}") } else { format!("{byte:02x}") };
        let line = if plain {
            row.iter().map(hex).collect()
        } else {
            let mut digits = String::new();
            for (index, byte) in row.iter().enumerate() {
                if index > 0 && index % group == 0 {
                    digits.push(' ');
                }
                digits.push_str(&hex(byte));
            }
            let full = width * 2 + width.div_ceil(group) - 1;
            format!("{at:08x}: {digits:<full$}  {}", printable(&row))
        };
        context.print(&format!("{line}\n")).await?;
        at += row.len() as u64;
    }
}

async fn xxd_back(context: &mut Context, operands: &[String], plain: bool) -> Outcome {
    let name = operands.first().map_or("-", String::as_str);
    let Some(handle) = open(context, name, "").await else { return Ok(1) };
    let mut lines = Lines::new(handle);
    while let Some((line, _)) = context.next(&mut lines).await? {
        let text = crate::text::decode(&line);
        let digits = if plain {
            text.as_str()
        } else {
            let rest = text.split_once(": ").map_or("", |(_, rest)| rest);
            rest.split("  ").next().unwrap_or_default()
        };
        let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
        let bytes: Vec<u8> =
            digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |value, digit| value << 4 | *digit) as u8).collect();
        context.bytes(&bytes).await?;
    }
    Ok(0)
}

async fn cmp(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "slbn:", &[("silent", 's'), ("quiet", 's'), ("verbose", 'l')])?;
    let two = |text: String| Fail::Message(text, 2);
    let (Some(left), right) = (parsed.operands.first(), parsed.operands.get(1)) else {
        return Err(two("two files are wanted".into()));
    };
    let right = right.cloned().unwrap_or_else(|| "-".into());
    let mut sides = Vec::new();
    for name in [left, &right] {
        match context.open(name) {
            Ok(handle) => sides.push(Rows {
                names: Vec::new().into_iter(),
                current: Some(Lines::new(handle)),
                held: Vec::new(),
                skip: 0,
                left: u64::MAX,
                status: 0,
            }),
            Err(error) => return Err(two(format!("can't open '{name}': {}", crate::sys::words(&error)))),
        }
    }
    let [one, other] = sides.as_mut_slice() else { return Ok(2) };
    let (mut at, mut line, mut status) = (0_u64, 1_u64, 0);
    loop {
        let (own, others) = (one.next(context, 4096).await?, other.next(context, 4096).await?);
        for (a, b) in own.iter().zip(&others) {
            at += 1;
            if a != b {
                status = 1;
                if parsed.has('s') {
                    return Ok(1);
                }
                if !parsed.has('l') {
                    context.print(&format!("{left} {right} differ: char {at}, line {line}\n")).await?;
                    return Ok(1);
                }
                context.print(&format!("{at} {a:>3o} {b:>3o}\n")).await?;
            }
            line += u64::from(*a == b'\n');
        }
        if own.len() != others.len() {
            if !parsed.has('s') {
                let short = if own.len() < others.len() { left } else { &right };
                context.complain(&format!("EOF on {short}")).await;
            }
            return Ok(1);
        }
        if own.is_empty() {
            return Ok(status);
        }
    }
}

async fn strings(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "an:ft:o", &[])?;
    let least: usize = parsed.value('n').and_then(|text| text.parse().ok()).unwrap_or(4);
    let mut status = 0;
    for name in or_stdin(&parsed.operands) {
        let Some(handle) = open(context, &name, "").await else {
            status = 1;
            continue;
        };
        let bytes = read_all(&handle).await?;
        for part in bytes.split(|byte| !(0x20..0x7f).contains(byte) && *byte != b'\t').filter(|part| part.len() >= least) {
            context.bytes(part).await?;
            context.bytes(b"\n").await?;
        }
    }
    Ok(status)
}
