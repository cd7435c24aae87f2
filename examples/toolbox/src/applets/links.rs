//! Links: `ln`, `readlink`, `realpath`, and the way of a path to what it is in the end.

use std::io;

use crate::applet;
use crate::context::{Applet, Context, Outcome, fail};
use crate::options::parse;
use crate::sys::{self, Kind};
use crate::text::{base_name, decode};

/// The table.
pub const APPLETS: &[Applet] = &[applet!("ln", ln), applet!("readlink", readlink), applet!("realpath", realpath)];

/// As many links on one way as Linux follows.
const LINKS: u32 = 40;

/// Where a link leads to.
pub fn target(path: &str) -> io::Result<String> {
    Ok(decode(std::fs::read_link(path)?.as_os_str().as_encoded_bytes()))
}

/// An absolute path without links, dots and double slashes; everything on it must exist.
pub fn real_path(path: &str) -> io::Result<String> {
    resolve(path, false)
}

/// As `real_path`; the last part may be missing.
pub fn resolve(path: &str, missing: bool) -> io::Result<String> {
    let mut done: Vec<String> = Vec::new();
    let mut todo: Vec<String> = path.split('/').rev().map(str::to_string).collect();
    let mut links = 0;
    while let Some(part) = todo.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                done.pop();
                continue;
            }
            _ => {}
        }
        let candidate = format!("/{}", done.iter().map(|part| format!("{part}/")).collect::<String>() + &part);
        match sys::status(&candidate, false) {
            Ok(status) if status.kind == Kind::Link => {
                links += 1;
                if links > LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                let target = target(&candidate)?;
                if target.starts_with('/') {
                    done.clear();
                }
                todo.extend(target.split('/').rev().map(str::to_string));
            }
            Ok(status) if !status.is_directory() && todo.iter().any(|part| !part.is_empty()) => {
                return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
            }
            Ok(_) => done.push(part),
            Err(error) => {
                if missing && error.raw_os_error() == Some(libc::ENOENT) && todo.iter().all(String::is_empty) {
                    done.push(part);
                } else {
                    return Err(error);
                }
            }
        }
    }
    Ok(format!("/{}", done.join("/")))
}

async fn ln(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "sfnvT", &[("symbolic", 's'), ("force", 'f'), ("no-dereference", 'n')])?;
    let mut operands = parsed.operands.clone();
    if operands.is_empty() {
        return fail("missing file operand");
    }
    let last = if operands.len() == 1 { base_name(&operands[0]).to_string() } else { operands.pop().unwrap_or_default() };
    let into = !parsed.has('T') && context.status(&last, !parsed.has('n')).is_ok_and(|status| status.is_directory());
    if operands.len() > 1 && !into {
        return fail(format!("{last}: Not a directory"));
    }
    let mut status = 0;
    for source in operands {
        let name = if into { format!("{}/{}", last.trim_end_matches('/'), base_name(&source)) } else { last.clone() };
        let path = context.path(&name);
        if parsed.has('f') && context.status(&name, false).is_ok() {
            let _ = std::fs::remove_file(&path);
        }
        let result =
            if parsed.has('s') { sys::symlink(&source, &path) } else { std::fs::hard_link(context.path(&source), &path) };
        match result {
            Ok(()) if parsed.has('v') => context.print(&format!("'{name}' -> '{source}'\n")).await?,
            Ok(()) => {}
            Err(error) => {
                let missing = !parsed.has('s') && context.status(&source, false).is_err();
                context.complain_of(if missing { &source } else { &name }, &error).await;
                status = 1;
            }
        }
    }
    Ok(status)
}

async fn readlink(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "fnemqsv", &[("canonicalize", 'f'), ("no-newline", 'n')])?;
    let mut status = 0;
    for name in &parsed.operands {
        let path = context.path(name);
        let result =
            if parsed.has('f') || parsed.has('e') || parsed.has('m') { resolve(&path, !parsed.has('e')) } else { target(&path) };
        match result {
            Ok(text) => context.print(&format!("{text}{}", if parsed.has('n') { "" } else { "\n" })).await?,
            Err(_) => status = 1,
        }
    }
    if parsed.operands.is_empty() {
        return fail("missing operand");
    }
    Ok(status)
}

async fn realpath(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "emqs", &[])?;
    let mut status = 0;
    for name in &parsed.operands {
        match resolve(&context.path(name), !parsed.has('e')) {
            Ok(text) => context.print(&format!("{text}\n")).await?,
            Err(error) => {
                context.complain_of(name, &error).await;
                status = 1;
            }
        }
    }
    Ok(status)
}
