//! Making and removing: `touch`, `mkdir`, `rmdir`, `rm`, `mktemp`, `truncate`, and what permissions would need.

use std::fs::OpenOptions;
use std::io;

use crate::applet;
use crate::applets::date;
use crate::context::{Applet, Context, Fail, Outcome, absolute, fail};
use crate::options::parse;
use crate::runtime::executor::{Local, tick};
use crate::sys::{self, Kind};
use crate::text::{base_name, decode};

/// The table.
pub const APPLETS: &[Applet] = &[
    applet!("chgrp", chown),
    applet!("chmod", chmod),
    applet!("chown", chown),
    applet!("fsync", fsync),
    applet!("mkdir", mkdir),
    applet!("mktemp", mktemp),
    applet!("rm", rm),
    applet!("rmdir", rmdir),
    applet!("touch", touch),
    applet!("truncate", truncate),
    applet!("unlink", unlink),
];

async fn touch(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "camr:d:t:h", &[("no-create", 'c'), ("reference", 'r'), ("date", 'd')])?;
    if parsed.operands.is_empty() {
        return fail("missing file operand");
    }
    let mut time = None;
    if let Some(reference) = parsed.value('r') {
        match context.status(reference, true) {
            Ok(status) => time = Some((status.accessed, status.modified)),
            Err(error) => return crate::context::because(reference, &error),
        }
    }
    if let Some(text) = parsed.value('d').or(parsed.value('t')) {
        match date::parse_date(text) {
            Some(seconds) => time = Some(((seconds, 0), (seconds, 0))),
            None => return fail(format!("invalid date '{text}'")),
        }
    }
    let mut status = 0;
    for name in &parsed.operands {
        let path = context.path(name);
        let exists = sys::status(&path, true);
        let mut result = match &exists {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                if parsed.has('c') {
                    continue;
                }
                OpenOptions::new().write(true).create(true).truncate(false).open(&path).map(|_| ())
            }
            _ => Ok(()),
        };
        if result.is_ok() && (exists.is_ok() || time.is_some()) {
            let old = exists.ok().map(|status| (status.accessed, status.modified));
            let keep = |wanted: bool, new: Option<(i64, u32)>, old: Option<(i64, u32)>| if wanted { new } else { old.or(new) };
            let both = parsed.has('a') == parsed.has('m');
            let accessed = keep(both || parsed.has('a'), time.map(|time| time.0), old.map(|old| old.0));
            let modified = keep(both || parsed.has('m'), time.map(|time| time.1), old.map(|old| old.1));
            result = sys::set_times(&path, accessed, modified, !parsed.has('h'));
        }
        if let Err(error) = result {
            context.complain_of(name, &error).await;
            status = 1;
        }
    }
    Ok(status)
}

async fn mkdir(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "pm:v", &[("parents", 'p'), ("mode", 'm'), ("verbose", 'v')])?;
    if parsed.operands.is_empty() {
        return fail("missing operand");
    }
    let mut status = 0;
    for name in &parsed.operands {
        let path = context.path(name);
        let result = if parsed.has('p') { make_all(&path) } else { std::fs::create_dir(&path) };
        match result {
            Ok(()) if parsed.has('v') => context.print(&format!("created directory: '{name}'\n")).await?,
            Ok(()) => {}
            Err(error) => {
                context.complain_of(&format!("can't create directory '{name}'"), &error).await;
                status = 1;
            }
        }
    }
    Ok(status)
}

/// Makes a directory and those above it.
pub fn make_all(path: &str) -> io::Result<()> {
    let mut made = String::new();
    let mut result = Ok(());
    for part in path.split('/').filter(|part| !part.is_empty()) {
        made.push('/');
        made.push_str(part);
        result = match std::fs::create_dir(&made) {
            Err(_) if sys::status(&made, true).is_ok_and(|status| status.is_directory()) => Ok(()),
            Err(error) => return Err(error),
            Ok(()) => Ok(()),
        };
    }
    result
}

async fn rmdir(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "p", &[("parents", 'p'), ("ignore-fail-on-non-empty", 'p')])?;
    if parsed.operands.is_empty() {
        return fail("missing operand");
    }
    let mut status = 0;
    for name in &parsed.operands {
        let mut part = name.trim_end_matches('/').to_string();
        loop {
            if let Err(error) = std::fs::remove_dir(context.path(&part)) {
                context.complain_of(&format!("'{part}'"), &error).await;
                status = 1;
                break;
            }
            match part.rfind('/') {
                Some(at) if parsed.has('p') && at > 0 => part.truncate(at),
                _ => break,
            }
        }
    }
    Ok(status)
}

async fn unlink(context: &mut Context) -> Outcome {
    let [name] = context.args.as_slice() else { return fail("one operand, please") };
    match std::fs::remove_file(context.path(name)) {
        Ok(()) => Ok(0),
        Err(error) => crate::context::because(&format!("can't remove '{name}'"), &error),
    }
}

async fn rm(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "rRfiv", &[("recursive", 'r'), ("force", 'f'), ("verbose", 'v')])?;
    let force = parsed.has('f');
    let recursive = parsed.has('r') || parsed.has('R');
    if parsed.operands.is_empty() && !force {
        return fail("missing operand");
    }
    let mut status = 0;
    for name in &parsed.operands {
        if matches!(base_name(name), "." | "..") {
            context.complain(&format!("can't remove '{name}': it is where one stands, or above")).await;
            status = 1;
            continue;
        }
        if crate::context::normal(&context.path(name)) == "/" {
            context.complain("can't remove '/'").await;
            status = 1;
            continue;
        }
        let path = context.path(name.trim_end_matches('/'));
        match sys::status(&path, false) {
            Ok(found) => {
                if found.is_directory() && !recursive {
                    context.complain(&format!("'{name}' is a directory")).await;
                    status = 1;
                } else if !remove(context, name, &path, found.kind, parsed.has('v')).await {
                    status = 1;
                }
            }
            Err(error) if force && error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => {
                context.complain_of(&format!("can't remove '{name}'"), &error).await;
                status = 1;
            }
        }
    }
    Ok(status)
}

fn remove<'a>(context: &'a mut Context, name: &'a str, path: &'a str, kind: Kind, say: bool) -> Local<'a, bool> {
    Box::pin(async move {
        tick().await;
        let mut fine = true;
        let result = if kind == Kind::Directory {
            match list(path) {
                Ok(entries) => {
                    for entry in entries {
                        let (inner, inner_name) = (format!("{path}/{entry}"), format!("{name}/{entry}"));
                        let kind = sys::status(&inner, false).map_or(Kind::Unknown, |status| status.kind);
                        fine &= remove(context, &inner_name, &inner, kind, say).await;
                    }
                    if fine { std::fs::remove_dir(path) } else { return false }
                }
                Err(error) => Err(error),
            }
        } else {
            std::fs::remove_file(path)
        };
        match result {
            Ok(()) => {
                if say {
                    let _ = context.print(&format!("removed '{name}'\n")).await;
                }
                fine
            }
            Err(error) => {
                context.complain_of(&format!("can't remove '{name}'"), &error).await;
                false
            }
        }
    })
}

/// The names in a directory, sorted.
pub fn list(path: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(decode(entry?.file_name().as_encoded_bytes()));
    }
    names.sort_unstable();
    Ok(names)
}

async fn mktemp(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "dqutp:", &[("directory", 'd'), ("tmpdir", 'p')])?;
    let base = parsed.value('p').map(str::to_string).or_else(|| context.variable("TMPDIR").map(str::to_string));
    let base = base.unwrap_or_else(|| "/tmp".into());
    let template = match parsed.operands.first() {
        Some(name) if parsed.has('t') || parsed.has('p') => format!("{base}/{name}"),
        Some(name) => name.clone(),
        None => format!("{base}/tmp.XXXXXX"),
    };
    let stem = template.trim_end_matches('X');
    let count = template.len() - stem.len();
    if count < 6 {
        return fail(format!("too few X's in template '{template}'"));
    }
    let mut last = io::Error::from_raw_os_error(libc::EEXIST);
    for attempt in 0..100_u32 {
        let name = format!("{stem}{}", random_name(count, attempt));
        let path = context.path(&name);
        let result = if parsed.has('d') {
            std::fs::create_dir(&path)
        } else {
            OpenOptions::new().write(true).create_new(true).open(&path).map(|_| ())
        };
        match result {
            Ok(()) => {
                if parsed.has('u') {
                    let _ = if parsed.has('d') { std::fs::remove_dir(&path) } else { std::fs::remove_file(&path) };
                }
                context.print(&format!("{name}\n")).await?;
                return Ok(0);
            }
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => last = error,
            Err(error) => return because_template(&template, &error),
        }
    }
    because_template(&template, &last)
}

fn because_template(template: &str, error: &io::Error) -> Outcome {
    Err(Fail::Message(format!("(null): {}", sys::words(error)), 1)).or_else(|_: Fail| crate::context::because(template, error))
}

/// A name of letters and digits that nobody can guess: the hasher of std is keyed by the host's random numbers.
fn random_name(count: usize, attempt: u32) -> String {
    use std::hash::{BuildHasher, Hasher};
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let keys = std::collections::hash_map::RandomState::new();
    (0..count)
        .map(|index| {
            let mut hasher = keys.build_hasher();
            hasher.write_u32(attempt);
            hasher.write_usize(index);
            hasher.write_u32(sys::now().1);
            let number = (hasher.finish() % LETTERS.len() as u64) as usize;
            LETTERS.get(number).copied().map_or('x', char::from)
        })
        .collect()
}

/// Permissions and owners are nothing that WASI has.
async fn chmod(context: &mut Context) -> Outcome {
    refuse_changes(context, 1).await
}

async fn chown(context: &mut Context) -> Outcome {
    refuse_changes(context, 1).await
}

async fn refuse_changes(context: &mut Context, skipped: usize) -> Outcome {
    let operands: Vec<String> =
        context.args.iter().filter(|argument| !matches!(argument.as_str(), "-R" | "-f" | "-v" | "-c" | "-h")).cloned().collect();
    if operands.len() <= skipped {
        return fail("missing operand");
    }
    for name in operands.get(skipped..).unwrap_or_default() {
        match context.status(name, true) {
            Ok(_) => context.complain(&format!("{name}: Operation not permitted")).await,
            Err(error) => context.complain_of(name, &error).await,
        }
    }
    Ok(1)
}

async fn truncate(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "cs:", &[("size", 's')])?;
    let Some(size) = parsed.value('s').and_then(crate::applets::numbers::size) else { return fail("a size is missing: -s SIZE") };
    let mut status = 0;
    for name in &parsed.operands {
        let opened = OpenOptions::new().write(true).create(!parsed.has('c')).truncate(false).open(absolute(&context.cwd, name));
        match opened.and_then(|file| file.set_len(size)) {
            Ok(()) => {}
            Err(error) => {
                context.complain_of(name, &error).await;
                status = 1;
            }
        }
    }
    Ok(status)
}

async fn fsync(context: &mut Context) -> Outcome {
    let mut status = 0;
    for name in context.args.clone() {
        let result = std::fs::File::open(context.path(&name)).and_then(|file| file.sync_all());
        if let Err(error) = result {
            context.complain_of(&name, &error).await;
            status = 1;
        }
    }
    Ok(status)
}
