//! Lines by their parts: `cut`, `tr`, `paste`, `fold`, `expand`, `unexpand`.

use crate::applet;
use crate::applets::format::unescape;
use crate::applets::stream::{Inputs, open, or_stdin};
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::options::parse;
use crate::runtime::file::Lines;
use crate::shell::pattern::in_class;
use crate::text::{decode, encode};

/// The table.
pub const APPLETS: &[Applet] = &[
    applet!("cut", cut),
    applet!("expand", expand),
    applet!("fold", fold),
    applet!("paste", paste),
    applet!("tr", tr),
    applet!("unexpand", unexpand),
];

/// `1,3-5,7-`: ranges from 1 on, in order and without overlaps.
fn ranges(text: &str) -> Option<Vec<(usize, usize)>> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let (from, to) = match part.split_once('-') {
            None => {
                let number = part.parse().ok()?;
                (number, number)
            }
            Some(("", "")) => return None,
            Some(("", to)) => (1, to.parse().ok()?),
            Some((from, "")) => (from.parse().ok()?, usize::MAX),
            Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
        };
        if from == 0 || to < from {
            return None;
        }
        list.push((from, to));
    }
    list.sort_unstable();
    let mut merged: Vec<(usize, usize)> = Vec::new();
    for (from, to) in list {
        match merged.last_mut() {
            Some((_, end)) if from <= end.saturating_add(1) => *end = (*end).max(to),
            _ => merged.push((from, to)),
        }
    }
    Some(merged)
}

async fn cut(context: &mut Context) -> Outcome {
    let long = [
        ("bytes", 'b'),
        ("characters", 'c'),
        ("fields", 'f'),
        ("delimiter", 'd'),
        ("only-delimited", 's'),
        ("output-delimiter", 'O'),
    ];
    let parsed = parse(&context.args, "b:c:f:d:snO:", &long)?;
    let Some(list) = parsed.value('b').or(parsed.value('c')).or(parsed.value('f')) else {
        return fail("expected a list of bytes, characters, or fields");
    };
    let Some(list) = ranges(list) else { return fail("invalid range") };
    let wanted = |index: usize| list.iter().any(|(from, to)| (*from..=*to).contains(&(index + 1)));
    let delimiter = parsed.value('d').unwrap_or("\t").to_string();
    if delimiter.chars().count() > 1 {
        return fail("the delimiter must be a single character");
    }
    let delimiter = if delimiter.is_empty() { "\0".to_string() } else { delimiter };
    let separator = parsed.value('O').unwrap_or(&delimiter).to_string();
    let mut inputs = Inputs::of(&parsed.operands, "");
    while let Some((_, mut lines)) = inputs.next(context).await {
        while let Some((line, _)) = context.next(&mut lines).await? {
            let mut out = if parsed.has('b') {
                line.iter().enumerate().filter(|(index, _)| wanted(*index)).map(|(_, byte)| *byte).collect()
            } else if parsed.has('c') {
                let text: String =
                    decode(&line).chars().enumerate().filter(|(index, _)| wanted(*index)).map(|(_, c)| c).collect();
                encode(&text).into_owned()
            } else {
                let text = decode(&line);
                if !text.contains(&delimiter) {
                    if parsed.has('s') {
                        continue;
                    }
                    line
                } else {
                    let fields: Vec<&str> =
                        text.split(&delimiter).enumerate().filter(|(index, _)| wanted(*index)).map(|(_, field)| field).collect();
                    encode(&fields.join(&separator)).into_owned()
                }
            };
            out.push(b'\n');
            context.bytes(&out).await?;
        }
    }
    Ok(inputs.status)
}

/// The characters of a set of `tr`, which are bytes.
fn set(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    unescape(text, false, &mut bytes);
    let mut list = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.starts_with(b"[:")
            && let Some(length) = rest.windows(2).position(|pair| pair == b":]")
        {
            let name = decode(rest.get(2..length).unwrap_or_default());
            list.extend((0..=127_u8).filter(|byte| in_class(&name, char::from(*byte))));
            at += length + 2;
            continue;
        }
        match (bytes.get(at + 1), bytes.get(at + 2)) {
            (Some(b'-'), Some(&end)) if end >= byte => {
                list.extend(byte..=end);
                at += 3;
            }
            _ => {
                list.push(byte);
                at += 1;
            }
        }
    }
    list
}

async fn tr(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "+cCdst", &[("delete", 'd'), ("squeeze-repeats", 's'), ("complement", 'c')])?;
    let Some(first) = parsed.operands.first() else { return fail("missing operand") };
    let mut from = set(first);
    if parsed.has('c') || parsed.has('C') {
        let kept = from;
        from = (0..=255).filter(|byte| !kept.contains(byte)).collect();
    }
    let to = parsed.operands.get(1).map(|text| set(text)).unwrap_or_default();
    if to.is_empty() && !parsed.has('d') && !parsed.has('s') {
        return fail("missing operand");
    }
    let mut map: Vec<u8> = (0..=255).collect();
    if !parsed.has('d') {
        for (index, byte) in from.iter().enumerate() {
            if let (Some(place), Some(new)) = (map.get_mut(usize::from(*byte)), to.get(index).or(to.last())) {
                *place = *new;
            }
        }
    }
    let squeezed = if parsed.operands.len() > 1 { &to } else { &from };
    let mut lines = context.lines()?;
    let mut last = None;
    loop {
        let bytes = context.chunk(&mut lines).await?;
        if bytes.is_empty() {
            return Ok(0);
        }
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if parsed.has('d') && from.contains(&byte) {
                continue;
            }
            let new = map.get(usize::from(byte)).copied().unwrap_or(byte);
            if parsed.has('s') && last == Some(new) && squeezed.contains(&new) {
                continue;
            }
            last = Some(new);
            out.push(new);
        }
        context.bytes(&out).await?;
    }
}

async fn paste(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "d:s", &[("delimiters", 'd'), ("serial", 's')])?;
    let mut delimiters = Vec::new();
    unescape(parsed.value('d').unwrap_or("\t"), false, &mut delimiters);
    let delimiter = |index: usize| delimiters.get(index % delimiters.len().max(1)).copied().into_iter().filter(|byte| *byte != 0);
    let mut sources = Vec::new();
    for name in or_stdin(&parsed.operands) {
        let Some(handle) = open(context, &name, "").await else { return Ok(1) };
        sources.push(Lines::new(handle));
    }
    if parsed.has('s') {
        for mut source in sources {
            let mut index = 0;
            while let Some((line, _)) = context.next(&mut source).await? {
                if index > 0 {
                    context.bytes(&delimiter(index - 1).collect::<Vec<_>>()).await?;
                }
                context.bytes(&line).await?;
                index += 1;
            }
            context.bytes(b"\n").await?;
        }
        return Ok(0);
    }
    loop {
        let mut row = Vec::new();
        let mut any = false;
        for (index, source) in sources.iter_mut().enumerate() {
            if index > 0 {
                row.extend(delimiter(index - 1));
            }
            if let Some((line, _)) = context.next(source).await? {
                any = true;
                row.extend(line);
            }
        }
        if !any {
            return Ok(0);
        }
        row.push(b'\n');
        context.bytes(&row).await?;
    }
}

async fn fold(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "w:sb", &[("width", 'w'), ("spaces", 's')])?;
    let width = parsed.value('w').and_then(|text| text.parse().ok()).unwrap_or(80_usize).max(1);
    let mut inputs = Inputs::of(&parsed.operands, "");
    while let Some((_, mut lines)) = inputs.next(context).await {
        while let Some((line, ended)) = context.next(&mut lines).await? {
            let mut rest: Vec<char> = decode(&line).chars().collect();
            let mut out = String::new();
            while rest.len() > width {
                let head = rest.get(..width).unwrap_or_default();
                let cut = match head.iter().rposition(|character| matches!(character, ' ' | '\t')) {
                    Some(at) if parsed.has('s') => at + 1,
                    _ => width,
                };
                out.extend(rest.drain(..cut));
                out.push('\n');
            }
            out.extend(rest);
            if ended {
                out.push('\n');
            }
            context.print(&out).await?;
        }
    }
    Ok(inputs.status)
}

async fn expand(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "t:i", &[("tabs", 't'), ("initial", 'i')])?;
    let stop = tab_stop(parsed.value('t'))?;
    each_line(context, &parsed.operands, |line| {
        let mut out = String::new();
        let mut column = 0;
        let mut initial = true;
        for character in line.chars() {
            initial &= matches!(character, ' ' | '\t');
            if character == '\t' && (initial || !parsed.has('i')) {
                let count = stop - column % stop;
                out.extend(std::iter::repeat_n(' ', count));
                column += count;
            } else {
                out.push(character);
                column += 1;
            }
        }
        out
    })
    .await
}

async fn unexpand(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "t:af", &[("tabs", 't'), ("all", 'a'), ("first-only", 'f')])?;
    let stop = tab_stop(parsed.value('t'))?;
    let all = parsed.has('a') || parsed.has('t');
    each_line(context, &parsed.operands, |line| {
        let mut out = String::new();
        let (mut column, mut blanks, mut initial) = (0, 0, true);
        for character in line.chars() {
            if character == ' ' && (initial || all) {
                blanks += 1;
                column += 1;
                if column % stop == 0 {
                    out.push(if blanks > 1 || initial { '\t' } else { ' ' });
                    blanks = 0;
                }
                continue;
            }
            if character == '\t' {
                blanks = 0;
                column += stop - column % stop;
            } else {
                initial = false;
                column += 1;
            }
            out.extend(std::iter::repeat_n(' ', blanks));
            blanks = 0;
            out.push(character);
        }
        out.extend(std::iter::repeat_n(' ', blanks));
        out
    })
    .await
}

fn tab_stop(text: Option<&str>) -> Result<usize, Fail> {
    match text.map_or(Some(8), |text| text.parse().ok()).filter(|stop| (1..10_000).contains(stop)) {
        Some(stop) => Ok(stop),
        None => fail("invalid tab stop"),
    }
}

async fn each_line(context: &mut Context, operands: &[String], change: impl Fn(&str) -> String) -> Outcome {
    let mut inputs = Inputs::of(operands, "");
    while let Some((_, mut lines)) = inputs.next(context).await {
        while let Some((line, ended)) = context.next(&mut lines).await? {
            let mut out = change(&decode(&line));
            if ended {
                out.push('\n');
            }
            context.print(&out).await?;
        }
    }
    Ok(inputs.status)
}
