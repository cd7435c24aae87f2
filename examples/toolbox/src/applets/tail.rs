//! `tail`.

use std::collections::VecDeque;
use std::io::{Seek, SeekFrom};
use std::time::Duration;

use crate::applet;
use crate::applets::numbers::size;
use crate::applets::stream::{heading, old_numbers, open, or_stdin};
use crate::context::{Applet, Context, Outcome, fail};
use crate::options::parse;
use crate::runtime;
use crate::runtime::file::{Handle, Lines};

/// The table.
pub const APPLETS: &[Applet] = &[applet!("tail", tail)];

async fn tail(context: &mut Context) -> Outcome {
    let args: Vec<String> = old_numbers(&context.args)
        .into_iter()
        .enumerate()
        .flat_map(|(index, argument)| match argument.strip_prefix('+').filter(|_| index == 0) {
            Some(digits) if digits.parse::<u64>().is_ok() => vec!["-n".to_string(), argument],
            _ => vec![argument],
        })
        .collect();
    let parsed = parse(&args, "n:c:fFqvs:", &[("lines", 'n'), ("bytes", 'c'), ("follow", 'f'), ("quiet", 'q')])?;
    let given = parsed.value('c').or(parsed.value('n')).unwrap_or("10");
    let from_start = given.starts_with('+');
    let Some(count) = size(given.trim_start_matches(['+', '-'])) else { return fail(format!("invalid number '{given}'")) };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let names = or_stdin(&parsed.operands);
    let headings = (names.len() > 1 || parsed.has('v')) && !parsed.has('q');
    let (mut status, mut first) = (0, true);
    let mut followed: Vec<(String, Handle)> = Vec::new();
    for name in &names {
        let Some(handle) = open(context, name, "can't open").await else {
            status = 1;
            continue;
        };
        if headings {
            heading(context, name, &mut first).await?;
        }
        followed.push((name.clone(), handle.clone()));
        if !from_start && !parsed.has('c') {
            skip_to_end(&handle, count);
        }
        let mut lines = Lines::new(handle);
        if parsed.has('c') {
            let mut held: VecDeque<u8> = VecDeque::new();
            let mut passed = 0_usize;
            loop {
                let bytes = context.chunk(&mut lines).await?;
                if bytes.is_empty() {
                    break;
                }
                if from_start {
                    let skip = count.saturating_sub(1).saturating_sub(passed).min(bytes.len());
                    passed += bytes.len();
                    context.bytes(bytes.get(skip..).unwrap_or_default()).await?;
                } else {
                    held.extend(bytes);
                    held.drain(..held.len().saturating_sub(count));
                }
            }
            context.bytes(held.make_contiguous()).await?;
            continue;
        }
        let mut held: VecDeque<(Vec<u8>, bool)> = VecDeque::new();
        let mut number = 0;
        while let Some(line) = context.next(&mut lines).await? {
            number += 1;
            if from_start && number < count {
                continue;
            }
            held.push_back(line);
            if from_start || held.len() > count {
                let line = held.pop_front();
                if let Some((mut line, ended)) = line.filter(|_| from_start) {
                    if ended {
                        line.push(b'\n');
                    }
                    context.bytes(&line).await?;
                }
            }
        }
        for (mut line, ended) in held {
            if ended {
                line.push(b'\n');
            }
            context.bytes(&line).await?;
        }
    }
    if followed.is_empty() {
        context.complain("no files").await;
        return Ok(1);
    }
    if parsed.has('f') || parsed.has('F') {
        let wait = parsed.value('s').and_then(|text| text.parse().ok()).unwrap_or(0.2);
        let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::from_secs(1));
        let mut last = names.len() - 1;
        let mut buffer = vec![0; 16384];
        loop {
            context.out.flush().await?;
            runtime::sleep(wait).await;
            for (index, (name, handle)) in followed.iter().enumerate() {
                loop {
                    let length = handle.file().and_then(|file| file.metadata().ok()).map(|metadata| metadata.len());
                    if let (Some(length), Some(mut file)) = (length, handle.file())
                        && file.stream_position().is_ok_and(|at| at > length)
                    {
                        // The file was cut: from its beginning again.
                        let _ = file.seek(SeekFrom::Start(0));
                    }
                    let count = handle.read(&mut buffer).await?;
                    if count == 0 {
                        break;
                    }
                    if headings && last != index {
                        heading(context, name, &mut first).await?;
                        last = index;
                    }
                    context.bytes(buffer.get(..count).unwrap_or_default()).await?;
                }
            }
        }
    }
    Ok(status)
}

/// Moves near the last lines of a large file, so that not all of it has to be read.
fn skip_to_end(handle: &Handle, lines: usize) {
    use std::io::Read;
    const BLOCK: u64 = 65536;
    let Some(mut file) = handle.file() else { return };
    let (Ok(at), Ok(length)) = (file.stream_position(), file.metadata().map(|metadata| metadata.len())) else { return };
    let mut from = length;
    let mut found = 0;
    while from > at && found <= lines {
        let block = BLOCK.min(from - at);
        from -= block;
        let mut bytes = vec![0; block as usize];
        if file.seek(SeekFrom::Start(from)).is_err() || file.read_exact(&mut bytes).is_err() {
            let _ = file.seek(SeekFrom::Start(at));
            return;
        }
        found += bytes.iter().filter(|byte| **byte == b'\n').count();
    }
    // What stands before the first newline belongs to a line that is cut; the lines wanted come behind it.
    let _ = file.seek(SeekFrom::Start(from));
}
