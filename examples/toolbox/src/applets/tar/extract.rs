//! Reading archives. What they say is not believed: absolute names become relative, `..` is refused, and nothing is
//! written through a symbolic link below the directory, as an archive could have put it there itself.

use tar::Header;

use super::{BLOCK, Job};
use crate::applets::gzip::Packer;
use crate::applets::{date, files, ls};
use crate::context::{Context, Fail, Outcome, because, fail};
use crate::runtime::file::{Handle, Lines};
use crate::sys::{self, Kind};
use crate::text::decode;

/// The longest name, and the longest record of pax, that is read.
const LONGEST: u64 = 1 << 20;

struct Reader {
    lines: Lines,
    packer: Option<Packer>,
    decided: bool,
    buffer: Vec<u8>,
    at: usize,
}

impl Reader {
    /// At most so many bytes; none at the end.
    async fn some(&mut self, most: usize) -> Result<&[u8], Fail> {
        while self.at >= self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            let bytes = self.lines.chunk().await?;
            if !std::mem::replace(&mut self.decided, true) {
                self.packer = Some(if bytes.starts_with(&[0x1f, 0x8b]) { Packer::unpack() } else { Packer::Plain });
            }
            let Some(packer) = &mut self.packer else { return Ok(&[]) };
            if bytes.is_empty() {
                let rest = self.packer.take().map_or(Ok(Vec::new()), Packer::finish)?;
                self.buffer = rest;
                if self.buffer.is_empty() {
                    return Ok(&[]);
                }
                continue;
            }
            let pieces: Vec<&[u8]> = packer.pieces(&bytes).collect();
            for piece in pieces {
                self.buffer.extend(packer.push(piece)?);
            }
        }
        let end = (self.at + most).min(self.buffer.len());
        let part = self.buffer.get(self.at..end).unwrap_or_default();
        self.at = end;
        Ok(part)
    }

    async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Fail> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let part = self.some(count - bytes.len()).await?;
            if part.is_empty() {
                break;
            }
            bytes.extend_from_slice(part);
        }
        Ok(bytes)
    }

    async fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Fail> {
        let bytes = self.exactly(BLOCK).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        bytes.try_into().map(Some).or_else(|_| fail("short read"))
    }

    /// A member's text, such as a long name.
    async fn text(&mut self, size: u64) -> Result<Vec<u8>, Fail> {
        if size > LONGEST {
            return fail("a member's name is too long");
        }
        let padded = size.next_multiple_of(BLOCK as u64);
        let mut bytes = self.exactly(padded as usize).await?;
        if (bytes.len() as u64) < size {
            return fail("short read");
        }
        bytes.truncate(size as usize);
        Ok(bytes)
    }

    async fn skip(&mut self, mut count: u64) -> Result<(), Fail> {
        while count > 0 {
            let part = self.some(usize::try_from(count).unwrap_or(usize::MAX)).await?;
            if part.is_empty() {
                return fail("short read");
            }
            count -= part.len() as u64;
        }
        Ok(())
    }
}

struct Member {
    name: String,
    target: String,
    kind: u8,
    size: u64,
    time: i64,
    mode: u32,
}

pub async fn extract(context: &mut Context, job: &Job) -> Outcome {
    let file = job.parsed.value('f').unwrap_or("-");
    let handle = context.open(file).or_else(|error| because(&format!("can't open '{file}'"), &error))?;
    let mut reader = Reader { lines: Lines::new(handle), packer: None, decided: false, buffer: Vec::new(), at: 0 };
    let mut status = 0;
    let mut found = vec![false; job.names.len()];
    let mut directories = Vec::new();
    let (mut long_name, mut long_target, mut pax): (Option<String>, Option<String>, Vec<(String, String)>) = Default::default();
    let mut first = true;
    while let Some(block) = reader.block().await? {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let header = Header::from_byte_slice(&block);
        let sum: u32 =
            block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
        if header.cksum().ok() != Some(sum) {
            return fail(if first { "invalid tar magic" } else { "invalid tar header checksum" });
        }
        first = false;
        let Ok(size) = header.entry_size() else { return fail("a member's size is no number") };
        let kind = header.entry_type().as_byte();
        match kind {
            b'L' => {
                long_name = Some(text_of(&reader.text(size).await?));
                continue;
            }
            b'K' => {
                long_target = Some(text_of(&reader.text(size).await?));
                continue;
            }
            b'x' => {
                pax = records(&reader.text(size).await?);
                continue;
            }
            b'g' => {
                reader.skip(size.next_multiple_of(BLOCK as u64)).await?;
                continue;
            }
            _ => {}
        }
        let mut member = Member {
            name: long_name.take().unwrap_or_else(|| decode(&header.path_bytes())),
            target: long_target.take().or_else(|| header.link_name_bytes().map(|bytes| decode(&bytes))).unwrap_or_default(),
            kind,
            size,
            time: header.mtime().map_or(0, |time| i64::try_from(time).unwrap_or(0)),
            mode: header.mode().unwrap_or(0o644),
        };
        for (key, value) in std::mem::take(&mut pax) {
            match key.as_str() {
                "path" => member.name = value,
                "linkpath" => member.target = value,
                "size" => member.size = value.parse().or_else(|_| fail("a member's size is no number"))?,
                "mtime" => member.time = value.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(member.time),
                _ => {}
            }
        }
        let Some(padding) = member.size.checked_next_multiple_of(BLOCK as u64).map(|end| end - member.size) else {
            return fail("a member's size is too large");
        };
        let wanted = wanted(job, &member.name, &mut found) && !job.excludes(&member.name);
        let has_data = matches!(member.kind, b'0' | 0 | b'7');
        if !wanted || job.parsed.has('t') {
            if wanted {
                list(context, job, &member).await?;
            }
            reader.skip(member.size + padding).await?;
            continue;
        }
        if !has_data {
            // Nobody but hostile archives give data to what has none.
            reader.skip(member.size + padding).await?;
        }
        if job.parsed.has('v') {
            let line = format!("{}\n", member.name);
            if job.parsed.has('O') { context.error_text(&line).await } else { context.print(&line).await? }
        }
        let left_before = member.size;
        let mut left = if has_data { left_before } else { 0 };
        let result = unpack(context, job, &member, &mut reader, &mut left, &mut directories).await;
        if let Err(fail) = result {
            match fail {
                Fail::Message(text, _) => {
                    context.complain(&format!("{}: {text}", member.name)).await;
                    status = 1;
                }
                other => return Err(other),
            }
        }
        if has_data {
            reader.skip(left + padding).await?;
        }
    }
    // The rest is read, so that who writes into a pipe is not cut off.
    while !reader.some(usize::MAX >> 1).await?.is_empty() {}
    // A directory's time changes with everything that is put into it, so it comes last.
    for (path, time) in directories.into_iter().rev() {
        let _ = sys::set_times(&path, Some((time, 0)), Some((time, 0)), true);
    }
    for (name, _) in job.names.iter().zip(&found).filter(|(_, found)| !**found) {
        context.complain(&format!("{name}: not found in archive")).await;
        status = 1;
    }
    Ok(status)
}

fn text_of(bytes: &[u8]) -> String {
    decode(bytes.split(|byte| *byte == 0).next().unwrap_or_default())
}

/// `LENGTH KEY=VALUE\n`, as often as it fits.
fn records(bytes: &[u8]) -> Vec<(String, String)> {
    let mut list = Vec::new();
    let mut rest = bytes;
    while let Some(blank) = rest.iter().position(|byte| *byte == b' ') {
        let length = std::str::from_utf8(rest.get(..blank).unwrap_or_default()).ok().and_then(|text| text.parse::<usize>().ok());
        let Some(record) = length.and_then(|length| rest.get(blank + 1..length)) else { break };
        let text = decode(record);
        if let Some((key, value)) = text.trim_end_matches('\n').split_once('=') {
            list.push((key.to_string(), value.to_string()));
        }
        rest = rest.get(length.unwrap_or(rest.len())..).unwrap_or_default();
    }
    list
}

fn wanted(job: &Job, name: &str, found: &mut [bool]) -> bool {
    if job.names.is_empty() {
        return true;
    }
    let own = name.trim_end_matches('/');
    let mut any = false;
    for (wanted, found) in job.names.iter().zip(found) {
        let wanted = wanted.trim_end_matches('/');
        if own == wanted || own.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('/')) {
            *found = true;
            any = true;
        }
    }
    any
}

async fn list(context: &mut Context, job: &Job, member: &Member) -> Result<(), Fail> {
    if !job.parsed.has('v') {
        return context.print(&format!("{}\n", member.name)).await;
    }
    let kind = match member.kind {
        b'5' => Kind::Directory,
        b'2' => Kind::Link,
        b'3' => Kind::Character,
        b'4' => Kind::Block,
        b'6' => Kind::Pipe,
        _ => Kind::File,
    };
    let mode: String = (0..9)
        .rev()
        .map(|bit| if member.mode >> bit & 1 == 1 { ['x', 'w', 'r'].get(bit % 3).copied().unwrap_or('-') } else { '-' })
        .collect();
    let arrow = match member.kind {
        b'2' => format!(" -> {}", member.target),
        b'1' => format!(" link to {}", member.target),
        _ => String::new(),
    };
    let time = date::format("%Y-%m-%d %H:%M:%S", member.time, 0);
    context.print(&format!("{}{mode} 0/0 {:>9} {time} {}{arrow}\n", ls::letter(kind), member.size, member.name)).await
}

/// The path inside the directory; an error if it would lead out of it.
fn safe_path(job: &Job, name: &str) -> Result<Option<String>, Fail> {
    let strip = job.parsed.value('S').and_then(|text| text.parse().ok()).unwrap_or(0);
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return fail("name with '..' in archive, not extracted");
    }
    let parts = parts.get(strip..).unwrap_or_default();
    if parts.is_empty() {
        return Ok(None);
    }
    let mut path = job.directory.trim_end_matches('/').to_string();
    for (index, part) in parts.iter().enumerate() {
        path = format!("{path}/{part}");
        if index + 1 < parts.len() && sys::status(&path, false).is_ok_and(|status| status.kind == Kind::Link) {
            return fail("would go through a symbolic link, not extracted");
        }
    }
    Ok(Some(path))
}

async fn unpack(
    context: &mut Context,
    job: &Job,
    member: &Member,
    reader: &mut Reader,
    left: &mut u64,
    directories: &mut Vec<(String, i64)>,
) -> Result<(), Fail> {
    if job.parsed.has('O') {
        return pour(reader, left, context.fds.get(&1).cloned()).await;
    }
    let Some(path) = safe_path(job, &member.name)? else { return Ok(()) };
    let directory = crate::text::directory_name(&path).to_string();
    files::make_all(&directory)?;
    let there = sys::status(&path, false).ok();
    if member.kind == b'5' || (member.kind == b'0' && member.name.ends_with('/')) {
        if !there.is_some_and(|status| status.is_directory()) {
            if there.is_some() {
                std::fs::remove_file(&path)?;
            }
            std::fs::create_dir(&path)?;
        }
        if !job.parsed.has('m') {
            directories.push((path, member.time));
        }
        return Ok(());
    }
    match there {
        Some(_) if job.parsed.has('k') => return Ok(()),
        Some(status) if status.is_directory() => std::fs::remove_dir(&path)?,
        // Removed rather than overwritten: it may be a link to elsewhere.
        Some(_) => std::fs::remove_file(&path)?,
        None => {}
    }
    match member.kind {
        b'0' | 0 | b'7' => {
            let handle = context.create(&path)?;
            pour(reader, left, Some(handle)).await?;
            if !job.parsed.has('m') {
                let _ = sys::set_times(&path, Some((member.time, 0)), Some((member.time, 0)), true);
            }
            Ok(())
        }
        b'1' => match safe_path(job, &member.target)? {
            Some(target) => Ok(std::fs::hard_link(target, &path)?),
            None => fail("a link to nothing"),
        },
        b'2' => Ok(sys::symlink(&member.target, &path)?),
        _ => fail("devices and pipes cannot be made, not extracted"),
    }
}

async fn pour(reader: &mut Reader, left: &mut u64, to: Option<Handle>) -> Result<(), Fail> {
    while *left > 0 {
        let part = reader.some(usize::try_from(*left).unwrap_or(usize::MAX)).await?;
        if part.is_empty() {
            return fail("short read");
        }
        *left -= part.len() as u64;
        if let Some(handle) = &to {
            let bytes = part.to_vec();
            handle.write(&bytes).await?;
        }
    }
    Ok(())
}
