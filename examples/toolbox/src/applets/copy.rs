//! `cp`, `mv`, `dd`.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};

use crate::applet;
use crate::applets::{files, links, numbers};
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::options::{Parsed, parse};
use crate::runtime::executor::{Local, tick};
use crate::runtime::file::CHUNK;
use crate::sys::{self, Kind, Status};
use crate::text::base_name;

/// The table.
pub const APPLETS: &[Applet] = &[applet!("cp", cp), applet!("dd", dd), applet!("install", cp), applet!("mv", mv)];

async fn cp(context: &mut Context) -> Outcome {
    let long = [
        ("recursive", 'r'),
        ("archive", 'a'),
        ("force", 'f'),
        ("no-clobber", 'n'),
        ("verbose", 'v'),
        ("parents", 'P'),
        ("update", 'u'),
        ("target-directory", 't'),
    ];
    let parsed = parse(&context.args, "rRaApPfinvdLHsluTt:m:D", &long)?;
    each_into(context, &parsed, false).await
}

async fn mv(context: &mut Context) -> Outcome {
    let long = [("force", 'f'), ("no-clobber", 'n'), ("verbose", 'v'), ("target-directory", 't')];
    let parsed = parse(&context.args, "finvTt:", &long)?;
    each_into(context, &parsed, true).await
}

async fn each_into(context: &mut Context, parsed: &Parsed, moving: bool) -> Outcome {
    let mut operands = parsed.operands.clone();
    let target = match parsed.value('t') {
        Some(target) => target.to_string(),
        None if operands.len() < 2 => return fail("missing file operand"),
        None => operands.pop().unwrap_or_default(),
    };
    let into = !parsed.has('T') && context.status(&target, true).is_ok_and(|status| status.is_directory());
    if !into
        && (operands.len() > 1 || (target.ends_with('/') && !context.status(&operands[0], true).is_ok_and(|s| s.is_directory())))
    {
        return fail(format!("target '{target}' is not a directory"));
    }
    let mut status = 0;
    for source in operands {
        let name = if into { format!("{}/{}", target.trim_end_matches('/'), base_name(&source)) } else { target.clone() };
        if parsed.has('n') && context.status(&name, false).is_ok() {
            continue;
        }
        let fine = if moving {
            move_one(context, &source, &name, parsed).await
        } else {
            copy_one(context, &source, &name, parsed).await
        };
        if !fine {
            status = 1;
        } else if parsed.has('v') {
            context.print(&format!("'{source}' -> '{name}'\n")).await?;
        }
    }
    Ok(status)
}

async fn move_one(context: &mut Context, source: &str, name: &str, parsed: &Parsed) -> bool {
    let (from, to) = (context.path(source.trim_end_matches('/')), context.path(name.trim_end_matches('/')));
    if let Err(error) = sys::status(&from, false) {
        context.complain_of(&format!("can't rename '{source}'"), &error).await;
        return false;
    }
    match std::fs::rename(&from, &to) {
        Ok(()) => true,
        // Another file system: copied, then removed.
        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
            let args = parse(&["-a".to_string()], "a", &[]).unwrap_or_default();
            if !copy_tree(context, &from, &to, &args, &mut Vec::new()).await {
                return false;
            }
            let removed = match sys::status(&from, false) {
                Ok(status) if status.is_directory() => std::fs::remove_dir_all(&from),
                _ => std::fs::remove_file(&from),
            };
            if let Err(error) = removed {
                context.complain_of(&format!("can't remove '{source}'"), &error).await;
                return false;
            }
            let _ = parsed;
            true
        }
        Err(error) => {
            context.complain_of(&format!("can't rename '{source}'"), &error).await;
            false
        }
    }
}

async fn copy_one(context: &mut Context, source: &str, name: &str, parsed: &Parsed) -> bool {
    let (from, to) = (context.path(source), context.path(name));
    let follow = !(parsed.has('a')
        || parsed.has('d')
        || parsed.has('P')
        || (parsed.has('R') || parsed.has('r')) && !parsed.has('L') && !parsed.has('H'));
    let status = match sys::status(&from, follow) {
        Ok(status) => status,
        Err(error) => {
            context.complain_of(&format!("can't stat '{source}'"), &error).await;
            return false;
        }
    };
    if let Ok(other) = sys::status(&to, true)
        && (other.device, other.inode) == (status.device, status.inode)
        && status.kind != Kind::Link
    {
        context.complain(&format!("'{source}' and '{name}' are the same file")).await;
        return false;
    }
    if status.is_directory() && !(parsed.has('r') || parsed.has('R') || parsed.has('a')) {
        context.complain(&format!("omitting directory '{source}'")).await;
        return false;
    }
    if follow && status.kind == Kind::File {
        return copy_file(context, &from, &to, &status, parsed).await;
    }
    copy_tree(context, &from, &to, parsed, &mut Vec::new()).await
}

/// Copies whatever it is. `above` holds the directories that were made, so that a copy into itself ends.
fn copy_tree<'a>(
    context: &'a mut Context,
    from: &'a str,
    to: &'a str,
    parsed: &'a Parsed,
    above: &'a mut Vec<(u64, u64)>,
) -> Local<'a, bool> {
    Box::pin(async move {
        tick().await;
        let status = match sys::status(from, parsed.has('L')) {
            Ok(status) => status,
            Err(error) => {
                context.complain_of(&format!("can't stat '{from}'"), &error).await;
                return false;
            }
        };
        let result = match status.kind {
            Kind::Directory => {
                if above.contains(&(status.device, status.inode)) {
                    return true;
                }
                if let Err(error) = std::fs::create_dir(to)
                    && !sys::status(to, true).is_ok_and(|status| status.is_directory())
                {
                    context.complain_of(&format!("can't create directory '{to}'"), &error).await;
                    return false;
                }
                above.extend(sys::status(to, true).map(|made| (made.device, made.inode)));
                let names = match files::list(from) {
                    Ok(names) => names,
                    Err(error) => {
                        context.complain_of(&format!("can't open '{from}'"), &error).await;
                        return false;
                    }
                };
                let mut fine = true;
                for name in names {
                    fine &= copy_tree(context, &format!("{from}/{name}"), &format!("{to}/{name}"), parsed, above).await;
                }
                keep_times(to, &status, parsed);
                return fine;
            }
            Kind::Link => {
                let _ = std::fs::remove_file(to);
                links::target(from).and_then(|target| sys::symlink(&target, to))
            }
            Kind::File => return copy_file(context, from, to, &status, parsed).await,
            _ => {
                context.complain(&format!("omitting '{from}': neither a file nor a directory")).await;
                return false;
            }
        };
        match result {
            Ok(()) => true,
            Err(error) => {
                context.complain_of(&format!("can't create '{to}'"), &error).await;
                false
            }
        }
    })
}

fn keep_times(path: &str, status: &Status, parsed: &Parsed) {
    if parsed.has('p') || parsed.has('a') {
        // A copy without its times is still a copy.
        let _ = sys::set_times(path, Some(status.accessed), Some(status.modified), true);
    }
}

async fn copy_file(context: &mut Context, from: &str, to: &str, status: &Status, parsed: &Parsed) -> bool {
    let source = match context.open(from) {
        Ok(source) => source,
        Err(error) => {
            context.complain_of(&format!("can't open '{from}'"), &error).await;
            return false;
        }
    };
    let mut opened = context.create(to);
    if opened.is_err() && parsed.has('f') && std::fs::remove_file(to).is_ok() {
        opened = context.create(to);
    }
    let target = match opened {
        Ok(target) => target,
        Err(error) => {
            context.complain_of(&format!("can't create '{to}'"), &error).await;
            return false;
        }
    };
    let mut buffer = vec![0; CHUNK * 4];
    loop {
        let result = match source.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => target.write(buffer.get(..count).unwrap_or_default()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            context.complain_of(&format!("error writing to '{to}'"), &error).await;
            return false;
        }
    }
    keep_times(to, status, parsed);
    true
}

async fn dd(context: &mut Context) -> Outcome {
    let (mut input, mut output) = ("-".to_string(), String::new());
    let (mut read_size, mut write_size) = (512_u64, 512_u64);
    let (mut count, mut skip, mut seek) = (None, 0, 0);
    let (mut truncate, mut full, mut sync, mut quiet, mut skip_bytes, mut count_bytes) =
        (true, false, false, false, false, false);
    let mut no_errors = false;
    for argument in context.args.clone() {
        let Some((key, value)) = argument.split_once('=') else { return fail(format!("unrecognized operand '{argument}'")) };
        let number = || numbers::size(value).ok_or_else(|| Fail::Message(format!("invalid number '{value}'"), 1));
        match key {
            "if" => input = value.to_string(),
            "of" => output = value.to_string(),
            "bs" => (read_size, write_size) = (number()?, number()?),
            "ibs" => read_size = number()?,
            "obs" => write_size = number()?,
            "count" => count = Some(number()?),
            "skip" | "iseek" => skip = number()?,
            "seek" | "oseek" => seek = number()?,
            "conv" => {
                truncate &= !value.split(',').any(|word| word == "notrunc");
                sync |= value.split(',').any(|word| word == "sync");
                no_errors |= value.split(',').any(|word| word == "noerror");
            }
            "iflag" => {
                full |= value.split(',').any(|word| word == "fullblock");
                skip_bytes |= value.split(',').any(|word| word == "skip_bytes");
                count_bytes |= value.split(',').any(|word| word == "count_bytes");
            }
            "oflag" => {}
            "status" => quiet = value == "none" || value == "noxfer",
            _ => return fail(format!("unrecognized operand '{argument}'")),
        }
    }
    if read_size == 0 || write_size == 0 {
        return fail("the size of a block must not be 0");
    }
    let started = std::time::Instant::now();
    let source = context.open(&input).or_else(|error| crate::context::because(&format!("can't open '{input}'"), &error))?;
    let target = if output.is_empty() {
        context.fds.get(&1).cloned().ok_or_else(|| Fail::Message("standard output is closed".into(), 1))?
    } else {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(truncate && seek == 0);
        crate::context::open(&context.path(&output), &context.fds, &options)
            .or_else(|error| crate::context::because(&format!("can't open '{output}'"), &error))?
    };
    if seek > 0
        && let Some(mut file) = target.file()
    {
        if truncate && !output.is_empty() {
            file.set_len(seek * write_size)?;
        }
        file.seek(SeekFrom::Start(seek * write_size))?;
    }
    let Ok(size) = usize::try_from(read_size) else { return fail("memory exhausted") };
    let mut buffer: Vec<u8> = Vec::new();
    if size > 1 << 31 || buffer.try_reserve_exact(size).is_err() {
        return fail("memory exhausted");
    }
    // Written, not only reserved: a block of that size has to be there.
    buffer.resize(size, 0);
    let mut to_skip = if skip_bytes { skip } else { skip.saturating_mul(read_size) };
    if to_skip > 0
        && let Some(mut file) = source.file()
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        file.seek(SeekFrom::Current(i64::try_from(to_skip).unwrap_or(i64::MAX)))?;
        to_skip = 0;
    }
    while to_skip > 0 {
        let most = usize::try_from(to_skip).unwrap_or(usize::MAX).min(buffer.len());
        let read = source.read(buffer.get_mut(..most).unwrap_or_default()).await?;
        if read == 0 {
            break;
        }
        to_skip -= read as u64;
    }
    let (mut whole, mut partial, mut total, mut blocks, mut out_whole, mut out_partial) =
        (0_u64, 0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    let mut status = 0;
    loop {
        let limit = match count {
            Some(count) if count_bytes => usize::try_from(count.saturating_sub(total)).unwrap_or(usize::MAX).min(size),
            Some(count) if blocks >= count => 0,
            _ => size,
        };
        if limit == 0 {
            break;
        }
        let mut filled = 0;
        while filled < limit {
            match source.read(buffer.get_mut(filled..limit).unwrap_or_default()).await {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) => {
                    context.complain_of(&format!("error reading '{input}'"), &error).await;
                    status = 1;
                    if !no_errors {
                        break;
                    }
                }
            }
            // A device gives whole blocks, a pipe what it has.
            if !full && !matches!(*source, crate::runtime::file::OpenFile::Zero) {
                break;
            }
        }
        if filled == 0 {
            break;
        }
        blocks += 1;
        *(if filled == size { &mut whole } else { &mut partial }) += 1;
        if sync {
            buffer.get_mut(filled..).unwrap_or_default().fill(0);
            filled = size;
        }
        target.write(buffer.get(..filled).unwrap_or_default()).await?;
        total += filled as u64;
        if filled as u64 >= write_size {
            out_whole += filled as u64 / write_size;
            out_partial += u64::from(!(filled as u64).is_multiple_of(write_size));
        } else {
            out_partial += 1;
        }
        if status != 0 && !no_errors {
            break;
        }
    }
    if let Some(mut file) = target.file() {
        let _ = file.flush();
    }
    let mut report = format!("{whole}+{partial} records in\n{out_whole}+{out_partial} records out\n");
    if !quiet {
        let seconds = started.elapsed().as_secs_f64().max(1e-6);
        let speed = numbers::human((total as f64 / seconds) as u64);
        report.push_str(&format!("{total} bytes ({}B) copied, {seconds:.6} seconds, {speed}B/s\n", numbers::human(total)));
    }
    context.error_text(&report).await;
    Ok(status)
}
