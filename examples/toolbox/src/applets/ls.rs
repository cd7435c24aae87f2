//! `ls`. Permissions, owners and groups are shown as `?`, because WASI does not tell them.

use crate::applet;
use crate::applets::{date, files, links, numbers};
use crate::context::{Applet, Context, Fail, Outcome};
use crate::options::{Parsed, parse};
use crate::runtime::executor::{Local, tick};
use crate::sys::{Kind, Status};

/// The table.
pub const APPLETS: &[Applet] = &[applet!("ls", ls), applet!("dir", ls)];

/// Columns where no terminal tells its own.
const COLUMNS: usize = 80;

struct Entry {
    name: String,
    path: String,
    status: Status,
}

async fn ls(context: &mut Context) -> Outcome {
    let spec = "laA1RhdtSriFnCmxpskLHcugovZNqbeG";
    let long = [
        ("all", 'a'),
        ("almost-all", 'A'),
        ("recursive", 'R'),
        ("reverse", 'r'),
        ("directory", 'd'),
        ("color", 'N'),
        ("full-time", 'e'),
        ("group-directories-first", 'N'),
        ("human-readable", 'h'),
    ];
    let parsed = parse(&context.args, spec, &long)?;
    let operands = if parsed.operands.is_empty() { vec![".".to_string()] } else { parsed.operands.clone() };
    let mut status = 0;
    let mut files = Vec::new();
    let mut directories = Vec::new();
    for name in operands {
        let follow = !(parsed.has('l') || parsed.has('d') || parsed.has('F')) || parsed.has('L') || parsed.has('H');
        let found = context.status(&name, follow).or_else(|_| context.status(&name, false));
        match found {
            Ok(found) => {
                let entry = Entry { path: context.path(&name), name, status: found };
                if found.is_directory() && !parsed.has('d') { directories.push(entry) } else { files.push(entry) }
            }
            Err(error) => {
                context.complain_of(&name, &error).await;
                status = 1;
            }
        }
    }
    sort(&mut files, &parsed);
    sort(&mut directories, &parsed);
    let headings = files.len() + directories.len() > 1 || parsed.has('R') || status != 0;
    if !files.is_empty() {
        show(context, &files, &parsed).await?;
    }
    let mut first = files.is_empty();
    for directory in directories {
        if !show_directory(context, &directory, &parsed, headings, &mut first).await? {
            status = 1;
        }
    }
    Ok(status)
}

fn show_directory<'a>(
    context: &'a mut Context,
    directory: &'a Entry,
    parsed: &'a Parsed,
    headings: bool,
    first: &'a mut bool,
) -> Local<'a, Result<bool, Fail>> {
    Box::pin(async move {
        if headings {
            let gap = if std::mem::replace(first, false) { "" } else { "\n" };
            context.print(&format!("{gap}{}:\n", directory.name)).await?;
        }
        let mut names = match files::list(&directory.path) {
            Ok(names) => names,
            Err(error) => {
                context.complain_of(&directory.name, &error).await;
                return Ok(false);
            }
        };
        if parsed.has('a') {
            names.splice(0..0, [".".to_string(), "..".to_string()]);
        } else if !parsed.has('A') {
            names.retain(|name| !name.starts_with('.'));
        }
        let mut entries = Vec::new();
        let mut fine = true;
        for name in names {
            tick().await;
            let path = format!("{}/{name}", directory.path.trim_end_matches('/'));
            match crate::sys::status(&path, parsed.has('L')) {
                Ok(status) => entries.push(Entry { name, path, status }),
                Err(error) => {
                    context.complain_of(&format!("{}/{name}", directory.name), &error).await;
                    fine = false;
                }
            }
        }
        sort(&mut entries, parsed);
        if parsed.has('l') || parsed.has('n') || parsed.has('s') || parsed.has('o') || parsed.has('g') {
            let blocks: u64 = entries.iter().map(|entry| entry.status.size.div_ceil(4096) * 4).sum();
            context
                .print(&format!("total {}\n", if parsed.has('h') { numbers::human(blocks * 1024) } else { blocks.to_string() }))
                .await?;
        }
        show(context, &entries, parsed).await?;
        if parsed.has('R') {
            for entry in entries.iter().filter(|entry| entry.status.is_directory() && !matches!(entry.name.as_str(), "." | ".."))
            {
                let name = format!("{}/{}", directory.name.trim_end_matches('/'), entry.name);
                let inner = Entry { name, path: entry.path.clone(), status: entry.status };
                fine &= show_directory(context, &inner, parsed, true, first).await?;
            }
        }
        Ok(fine)
    })
}

fn sort(entries: &mut [Entry], parsed: &Parsed) {
    let time = |entry: &Entry| {
        if parsed.has('u') {
            entry.status.accessed
        } else if parsed.has('c') {
            entry.status.changed
        } else {
            entry.status.modified
        }
    };
    entries.sort_by(|left, right| {
        let names = left.name.cmp(&right.name);
        if parsed.has('S') {
            right.status.size.cmp(&left.status.size).then(names)
        } else if parsed.has('t') {
            time(right).cmp(&time(left)).then(names)
        } else {
            names
        }
    });
    if parsed.has('r') {
        entries.reverse();
    }
}

async fn show(context: &mut Context, entries: &[Entry], parsed: &Parsed) -> Result<(), Fail> {
    let terminal = context.out.handle().is_some_and(|handle| handle.is_terminal());
    let long = parsed.has('l') || parsed.has('n') || parsed.has('o') || parsed.has('g');
    let colour =
        terminal && !parsed.has('N') && context.variable("NO_COLOR").is_none() && context.variable("TERM") != Some("dumb");
    let shown = |entry: &Entry| {
        let name = decorated(entry, parsed, colour);
        let inode = if parsed.has('i') { format!("{:>7} ", entry.status.inode) } else { String::new() };
        let blocks = if parsed.has('s') { format!("{:>4} ", entry.status.size.div_ceil(4096) * 4) } else { String::new() };
        format!("{inode}{blocks}{name}")
    };
    if long {
        let now = crate::sys::now().0;
        let links_width = entries.iter().map(|entry| entry.status.links.to_string().len()).max().unwrap_or(1);
        for entry in entries {
            tick().await;
            let status = &entry.status;
            let size = if parsed.has('h') { numbers::human(status.size) } else { status.size.to_string() };
            let when = if parsed.has('e') { date::full(status.modified.0) } else { date::short(status.modified.0, now) };
            let target = match status.kind {
                Kind::Link => links::target(&entry.path).map(|target| format!(" -> {target}")).unwrap_or_default(),
                _ => String::new(),
            };
            let line = format!(
                "{}????????? {:>links_width$} ?        ?        {size:>9} {when} {}{target}\n",
                letter(status.kind),
                status.links,
                shown(entry),
            );
            context.print(&line).await?;
        }
        return Ok(());
    }
    let one = parsed.has('1') || !(terminal || parsed.has('C') || parsed.has('x'));
    if one {
        for entry in entries {
            context.print(&format!("{}\n", shown(entry))).await?;
        }
        return Ok(());
    }
    let width = entries.iter().map(|entry| plain_width(entry, parsed)).max().unwrap_or(0) + 2;
    let total = crate::host::size(1).map_or(COLUMNS, |size| size.0);
    let columns = (total / width).max(1);
    let rows = entries.len().div_ceil(columns);
    for row in 0..rows {
        let mut line = String::new();
        let in_row: Vec<&Entry> = entries.iter().skip(row).step_by(rows.max(1)).collect();
        for (index, entry) in in_row.iter().enumerate() {
            line.push_str(&shown(entry));
            if index + 1 < in_row.len() {
                line.push_str(&" ".repeat(width.saturating_sub(plain_width(entry, parsed))));
            }
        }
        context.print(&format!("{line}\n")).await?;
    }
    Ok(())
}

fn plain_width(entry: &Entry, parsed: &Parsed) -> usize {
    let extra = if parsed.has('i') { 8 } else { 0 } + if parsed.has('s') { 5 } else { 0 };
    decorated(entry, parsed, false).chars().count() + extra
}

fn decorated(entry: &Entry, parsed: &Parsed, colour: bool) -> String {
    let mark = match entry.status.kind {
        Kind::Directory if parsed.has('F') || parsed.has('p') => "/",
        Kind::Link if parsed.has('F') => "@",
        Kind::Pipe if parsed.has('F') => "|",
        Kind::Socket if parsed.has('F') => "=",
        _ => "",
    };
    let paint = match entry.status.kind {
        Kind::Directory => "1;34",
        Kind::Link => "1;36",
        Kind::Character | Kind::Block | Kind::Pipe => "1;33",
        Kind::Socket => "1;35",
        _ => "",
    };
    if colour && !paint.is_empty() { format!("\x1b[{paint}m{}\x1b[m{mark}", entry.name) } else { format!("{}{mark}", entry.name) }
}

/// The letter of a kind.
pub fn letter(kind: Kind) -> char {
    match kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Link => 'l',
        Kind::Character => 'c',
        Kind::Block => 'b',
        Kind::Pipe => 'p',
        Kind::Socket => 's',
        Kind::Unknown => '?',
    }
}
