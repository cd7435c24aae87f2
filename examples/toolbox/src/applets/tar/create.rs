//! Making archives.

use std::collections::HashMap;

use tar::{EntryType, Header};

use super::{BLOCK, Job};
use crate::applets::gzip::Packer;
use crate::applets::{files, links};
use crate::context::{Context, Fail, Outcome, because, fail};
use crate::runtime::executor::{Local, tick};
use crate::runtime::file::{CHUNK, Handle};
use crate::sys::{self, Kind, Status};
use crate::text::encode;

struct Writer {
    to: Handle,
    packer: Packer,
    written: u64,
    /// Where files with several links are in the archive.
    seen: HashMap<(u64, u64), String>,
    status: u8,
    stripped: bool,
    /// The archive itself, which is not put into itself.
    own: Option<(u64, u64)>,
}

pub async fn create(context: &mut Context, job: &Job) -> Outcome {
    if job.names.is_empty() {
        return fail("empty archive");
    }
    let file = job.parsed.value('f').unwrap_or("-").to_string();
    let to = match file.as_str() {
        "-" => context.fds.get(&1).cloned().ok_or_else(|| Fail::Message("standard output is closed".into(), 1))?,
        name => context.create(name).or_else(|error| because(&format!("can't open '{name}'"), &error))?,
    };
    let zip = job.parsed.has('z') || (job.parsed.has('a') && (file.ends_with(".gz") || file.ends_with(".tgz")));
    let own = if file == "-" { None } else { context.status(&file, true).ok().map(|status| (status.device, status.inode)) };
    let packer = if zip { Packer::pack(6) } else { Packer::Plain };
    let mut writer = Writer { to, packer, written: 0, seen: HashMap::new(), status: 0, stripped: false, own };
    for name in &job.names {
        let path = crate::context::absolute(&job.directory, name);
        writer.add(context, job, name, &path).await?;
    }
    // Two empty blocks, and up to a whole record.
    let padding =
        2 * BLOCK as u64 + (20 * BLOCK as u64 - (writer.written + 2 * BLOCK as u64) % (20 * BLOCK as u64)) % (20 * BLOCK as u64);
    writer.put(&vec![0; padding as usize]).await?;
    let rest = writer.packer.finish()?;
    writer.to.write(&rest).await?;
    Ok(writer.status)
}

impl Writer {
    async fn put(&mut self, bytes: &[u8]) -> Result<(), Fail> {
        self.written += bytes.len() as u64;
        let out = self.packer.push(bytes)?;
        Ok(self.to.write(&out).await?)
    }

    async fn pad(&mut self) -> Result<(), Fail> {
        let over = (self.written % BLOCK as u64) as usize;
        if over > 0 { self.put(&vec![0; BLOCK - over]).await } else { Ok(()) }
    }

    fn add<'a>(
        &'a mut self,
        context: &'a mut Context,
        job: &'a Job,
        name: &'a str,
        path: &'a str,
    ) -> Local<'a, Result<(), Fail>> {
        Box::pin(async move {
            tick().await;
            if job.excludes(name) {
                return Ok(());
            }
            let status = match sys::status(path, job.parsed.has('h')) {
                Ok(status) => status,
                Err(error) => {
                    context.complain_of(name, &error).await;
                    self.status = 1;
                    return Ok(());
                }
            };
            if self.own == Some((status.device, status.inode)) {
                return Ok(());
            }
            let mut inside = name.trim_start_matches('/').to_string();
            if inside.len() < name.len() && !self.stripped {
                self.stripped = true;
                context.complain("removing leading '/' from member names").await;
            }
            if status.is_directory() {
                if inside.is_empty() {
                    inside.push('.');
                }
                if !inside.ends_with('/') {
                    inside.push('/');
                }
            }
            if job.parsed.has('v') {
                context.error_text(&format!("{}\n", inside.trim_end_matches('/'))).await;
            }
            match status.kind {
                Kind::Directory => {
                    self.header(&inside, &status, EntryType::Directory, 0, "").await?;
                    if job.parsed.has('n') {
                        return Ok(());
                    }
                    match files::list(path) {
                        Ok(entries) => {
                            for entry in entries {
                                let inner = format!("{}/{entry}", name.trim_end_matches('/'));
                                self.add(context, job, &inner, &format!("{}/{entry}", path.trim_end_matches('/'))).await?;
                            }
                        }
                        Err(error) => {
                            context.complain_of(name, &error).await;
                            self.status = 1;
                        }
                    }
                    Ok(())
                }
                Kind::Link => {
                    let target = links::target(path)?;
                    self.header(&inside, &status, EntryType::Symlink, 0, &target).await
                }
                Kind::File => self.file(context, name, path, &inside, &status).await,
                _ => {
                    context.complain(&format!("{name}: neither a file nor a directory, ignored")).await;
                    Ok(())
                }
            }
        })
    }

    async fn file(&mut self, context: &mut Context, name: &str, path: &str, inside: &str, status: &Status) -> Result<(), Fail> {
        if status.links > 1 {
            let key = (status.device, status.inode);
            if let Some(first) = self.seen.get(&key).cloned() {
                return self.header(inside, status, EntryType::Link, 0, &first).await;
            }
            self.seen.insert(key, inside.to_string());
        }
        let source = match context.open(path) {
            Ok(source) => source,
            Err(error) => {
                context.complain_of(name, &error).await;
                self.status = 1;
                return Ok(());
            }
        };
        self.header(inside, status, EntryType::Regular, status.size, "").await?;
        // As many bytes as the header says, whatever happens to the file meanwhile.
        let mut left = status.size;
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let part = buffer.get_mut(..most).unwrap_or_default();
            let count = source.read(part).await.unwrap_or(0);
            if count == 0 {
                context.complain(&format!("{name}: short read, filled with zeros")).await;
                self.status = 1;
                part.fill(0);
                while left > 0 {
                    let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
                    self.put(&vec![0; most]).await?;
                    left -= most as u64;
                }
                break;
            }
            let bytes = part.get(..count).unwrap_or_default().to_vec();
            self.put(&bytes).await?;
            left -= count as u64;
        }
        self.pad().await
    }

    async fn header(&mut self, name: &str, status: &Status, kind: EntryType, size: u64, target: &str) -> Result<(), Fail> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        // Modes and owners are unknown: those that unpack usefully.
        header.set_mode(match kind {
            EntryType::Directory => 0o755,
            EntryType::Symlink => 0o777,
            _ => 0o644,
        });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(u64::try_from(status.modified.0).unwrap_or(0));
        let (name, target) = (encode(name), encode(target));
        if let Some(long) = header.as_gnu_mut() {
            copy_into(&mut long.name, &name);
            copy_into(&mut long.linkname, &target);
        }
        if name.len() > 100 {
            self.long(b'L', &name).await?;
        }
        if target.len() > 100 {
            self.long(b'K', &target).await?;
        }
        header.set_cksum();
        self.put(header.as_bytes()).await
    }

    async fn long(&mut self, kind: u8, text: &[u8]) -> Result<(), Fail> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::new(kind));
        header.set_size(text.len() as u64 + 1);
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        if let Some(gnu) = header.as_gnu_mut() {
            copy_into(&mut gnu.name, b"././@LongLink");
        }
        header.set_cksum();
        self.put(header.as_bytes()).await?;
        self.put(&[text, b"\0"].concat()).await?;
        self.pad().await
    }
}

fn copy_into(place: &mut [u8; 100], bytes: &[u8]) {
    for (to, from) in place.iter_mut().zip(bytes) {
        *to = *from;
    }
}
