//! What files take: `stat`, `du`, `df`.

use std::collections::HashSet;

use crate::applet;
use crate::applets::format::fill;
use crate::applets::{date, files, links, numbers};
use crate::context::{Applet, Context, Fail, Outcome};
use crate::options::{Parsed, parse};
use crate::runtime::executor::{Local, tick};
use crate::sys::{Kind, Status};

/// The table.
pub const APPLETS: &[Applet] = &[applet!("df", df), applet!("du", du), applet!("stat", stat)];

fn kind_name(status: &Status) -> &'static str {
    match status.kind {
        Kind::File if status.size == 0 => "regular empty file",
        Kind::File => "regular file",
        Kind::Directory => "directory",
        Kind::Link => "symbolic link",
        Kind::Character => "character special file",
        Kind::Block => "block special file",
        Kind::Pipe => "fifo",
        Kind::Socket => "socket",
        Kind::Unknown => "weird file",
    }
}

async fn stat(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "Lc:ftz", &[("format", 'c'), ("dereference", 'L')])?;
    if parsed.operands.is_empty() {
        return crate::context::fail("missing operand");
    }
    let mut status = 0;
    for name in &parsed.operands {
        let found = match context.status(name, parsed.has('L')) {
            Ok(found) => found,
            Err(error) => {
                context.complain_of(&format!("can't stat '{name}'"), &error).await;
                status = 1;
                continue;
            }
        };
        let text = match parsed.value('c') {
            Some(template) => format!("{}\n", filled(context, template, name, &found)),
            None => {
                let target = links::target(&context.path(name)).ok().filter(|_| found.kind == Kind::Link);
                let shown = target.map_or_else(|| name.clone(), |target| format!("'{name}' -> '{target}'"));
                let device = format!("{:x}h/{}d", found.device, found.device);
                format!(
                    "  File: {shown}\n  Size: {:<10}\tBlocks: {:<10} IO Block: 4096   {}\nDevice: {device}\tInode: {:<10}  Links: {}\nAccess: (????/{}?????????)  Uid: (?/?)   Gid: (?/?)\nAccess: {}\nModify: {}\nChange: {}\n",
                    found.size,
                    found.size.div_ceil(512),
                    kind_name(&found),
                    found.inode,
                    found.links,
                    crate::applets::ls::letter(found.kind),
                    whole(found.accessed),
                    whole(found.modified),
                    whole(found.changed),
                )
            }
        };
        context.print(&text).await?;
    }
    Ok(status)
}

fn whole(time: (i64, u32)) -> String {
    date::format("%Y-%m-%d %H:%M:%S.%N +0000", time.0, time.1)
}

fn filled(context: &Context, template: &str, name: &str, status: &Status) -> String {
    fill(template, |rest| {
        match rest.next() {
            Some('n') => name.to_string(),
            Some('N') => match links::target(&context.path(name)) {
                Ok(target) => format!("'{name}' -> '{target}'"),
                Err(_) => format!("'{name}'"),
            },
            Some('s') => status.size.to_string(),
            Some('b') => status.size.div_ceil(512).to_string(),
            Some('B') => "512".into(),
            Some('o') => "4096".into(),
            Some('F') => kind_name(status).into(),
            Some('i') => status.inode.to_string(),
            Some('h') => status.links.to_string(),
            Some('d') => status.device.to_string(),
            Some('D') => format!("{:x}", status.device),
            Some('x') => whole(status.accessed),
            Some('X') => status.accessed.0.to_string(),
            Some('y') => whole(status.modified),
            Some('Y') => status.modified.0.to_string(),
            Some('z') => whole(status.changed),
            Some('Z') => status.changed.0.to_string(),
            // Modes and owners, which WASI does not tell.
            Some('a' | 'A' | 'f' | 'u' | 'U' | 'g' | 'G' | 't' | 'T' | 'm' | 'C') => "?".into(),
            Some('%') => "%".into(),
            Some(other) => format!("%{other}"),
            None => "%".into(),
        }
    })
}

struct Du<'a> {
    parsed: &'a Parsed,
    seen: HashSet<(u64, u64)>,
    most: usize,
    status: u8,
}

async fn du(context: &mut Context) -> Outcome {
    let long =
        [("summarize", 's'), ("human-readable", 'h'), ("all", 'a'), ("max-depth", 'd'), ("total", 'c'), ("apparent-size", 'A')];
    let parsed = parse(&context.args, "shacbkmd:xLHlA", &long)?;
    let mut du = Du {
        most: if parsed.has('s') { 0 } else { parsed.value('d').and_then(|text| text.parse().ok()).unwrap_or(usize::MAX) },
        parsed: &parsed,
        seen: HashSet::new(),
        status: 0,
    };
    let operands = if parsed.operands.is_empty() { vec![".".to_string()] } else { parsed.operands.clone() };
    let mut total = 0;
    for name in operands {
        total += du.visit(context, &name, 0).await?;
    }
    if parsed.has('c') {
        du.show(context, total, "total").await?;
    }
    Ok(du.status)
}

impl Du<'_> {
    /// The bytes of a path. WASI tells no blocks, so files count with their sizes, rounded up to pages.
    fn visit<'a>(&'a mut self, context: &'a mut Context, name: &'a str, depth: usize) -> Local<'a, Result<u64, Fail>> {
        Box::pin(async move {
            tick().await;
            let status = match context.status(name, self.parsed.has('L')) {
                Ok(status) => status,
                Err(error) => {
                    context.complain_of(name, &error).await;
                    self.status = 1;
                    return Ok(0);
                }
            };
            if !self.parsed.has('l')
                && status.links > 1
                && !status.is_directory()
                && !self.seen.insert((status.device, status.inode))
            {
                return Ok(0);
            }
            let apparent = self.parsed.has('b') || self.parsed.has('A');
            let mut sum = if apparent || status.kind == Kind::Link { status.size } else { status.size.next_multiple_of(4096) };
            if status.kind == Kind::Link && !apparent {
                sum = 0;
            }
            if status.is_directory() {
                match files::list(&context.path(name)) {
                    Ok(names) => {
                        for entry in names {
                            sum += self.visit(context, &format!("{}/{entry}", name.trim_end_matches('/')), depth + 1).await?;
                        }
                    }
                    Err(error) => {
                        context.complain_of(name, &error).await;
                        self.status = 1;
                    }
                }
            }
            if depth <= self.most && (status.is_directory() || self.parsed.has('a') || depth == 0) {
                self.show(context, sum, name).await?;
            }
            Ok(sum)
        })
    }

    async fn show(&self, context: &mut Context, bytes: u64, name: &str) -> Result<(), Fail> {
        let size = if self.parsed.has('h') {
            numbers::human(bytes)
        } else if self.parsed.has('b') {
            bytes.to_string()
        } else if self.parsed.has('m') {
            bytes.div_ceil(1 << 20).to_string()
        } else {
            bytes.div_ceil(1024).to_string()
        };
        context.print(&format!("{size}\t{name}\n")).await
    }
}

/// What is mounted is known where /proc is; how full it is, WASI does not tell anybody.
async fn df(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "hkmPTai", &[("human-readable", 'h')])?;
    let header = if parsed.has('h') {
        "Filesystem                Size      Used Available Use% Mounted on"
    } else {
        "Filesystem           1K-blocks      Used Available Use% Mounted on"
    };
    context.print(&format!("{header}\n")).await?;
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_else(|_| "? / ? ? 0 0\n".into());
    let mut status = 0;
    let mut wanted = Vec::new();
    for name in &parsed.operands {
        match links::real_path(&context.path(name)) {
            Ok(path) => {
                let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
                let above = |point: &&str| path == **point || path.starts_with(&format!("{}/", point.trim_end_matches('/')));
                wanted.extend(points.filter(above).max_by_key(|point| point.len()).map(str::to_string));
            }
            Err(error) => {
                context.complain_of(name, &error).await;
                status = 1;
            }
        }
    }
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(device), Some(point)) = (fields.next(), fields.next()) else { continue };
        if parsed.operands.is_empty() || wanted.iter().any(|wanted| wanted == point) {
            context.print(&format!("{device:<20} {:>9} {:>9} {:>9} {:>4} {point}\n", "?", "?", "?", "?")).await?;
        }
    }
    Ok(status)
}
