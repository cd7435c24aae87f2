//! `gzip`, `gunzip`, `zcat`, and streams that are compressed on their way.

use std::io::Write;

use flate2::Compression;
use flate2::write::{GzEncoder, MultiGzDecoder};

use crate::applet;
use crate::applets::stream::or_stdin;
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::options::parse;
use crate::runtime::file::{Handle, Lines};
use crate::sys;

/// The table.
pub const APPLETS: &[Applet] = &[applet!("gunzip", gzip), applet!("gzip", gzip), applet!("zcat", gzip)];

/// What is unpacked at once: it may become a thousand times as much.
const PIECE: usize = 2048;

/// One way or the other, a piece at a time.
pub enum Packer {
    /// Compresses.
    Pack(GzEncoder<Vec<u8>>),
    /// Uncompresses.
    Unpack(MultiGzDecoder<Vec<u8>>),
    /// Does nothing.
    Plain,
}

impl Packer {
    /// A compressor of a level from 1 to 9.
    pub fn pack(level: u32) -> Self {
        // Without the time and the system's name, so that the same bytes give the same bytes.
        Packer::Pack(flate2::GzBuilder::new().mtime(0).operating_system(3).write(Vec::new(), Compression::new(level)))
    }

    /// What uncompresses.
    pub fn unpack() -> Self {
        Packer::Unpack(MultiGzDecoder::new(Vec::new()))
    }

    /// The pieces in which bytes should be given.
    pub fn pieces<'a>(&self, bytes: &'a [u8]) -> std::slice::Chunks<'a, u8> {
        bytes.chunks(if matches!(self, Packer::Unpack(_)) { PIECE } else { bytes.len().max(1) })
    }

    /// What comes out for what goes in.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Fail> {
        let wrong = |_| Fail::Message("corrupted data".into(), 1);
        match self {
            Packer::Plain => Ok(bytes.to_vec()),
            Packer::Pack(encoder) => {
                encoder.write_all(bytes).map_err(wrong)?;
                Ok(std::mem::take(encoder.get_mut()))
            }
            Packer::Unpack(decoder) => {
                decoder.write_all(bytes).map_err(wrong)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    /// What is left at the end; an error if something is missing.
    pub fn finish(self) -> Result<Vec<u8>, Fail> {
        let cut = |_| Fail::Message("unexpected end of file".into(), 1);
        match self {
            Packer::Plain => Ok(Vec::new()),
            Packer::Pack(encoder) => encoder.finish().map_err(cut),
            Packer::Unpack(decoder) => decoder.finish().map_err(cut),
        }
    }
}

/// Sends everything through a packer.
async fn through(context: &mut Context, from: Handle, to: Option<&Handle>, mut packer: Packer, check: bool) -> Result<(), Fail> {
    let mut lines = Lines::new(from);
    let mut first = true;
    loop {
        let bytes = context.chunk(&mut lines).await?;
        if std::mem::take(&mut first) && matches!(packer, Packer::Unpack(_)) && !bytes.starts_with(&[0x1f]) {
            return fail("invalid magic");
        }
        if bytes.is_empty() {
            break;
        }
        let pieces: Vec<&[u8]> = packer.pieces(&bytes).collect();
        for piece in pieces {
            let out = packer.push(piece)?;
            send(context, to, &out, check).await?;
        }
    }
    let out = packer.finish()?;
    send(context, to, &out, check).await
}

async fn send(context: &mut Context, to: Option<&Handle>, bytes: &[u8], check: bool) -> Result<(), Fail> {
    match to {
        _ if check => Ok(()),
        Some(handle) => Ok(handle.write(bytes).await?),
        None => context.bytes(bytes).await,
    }
}

async fn gzip(context: &mut Context) -> Outcome {
    let long = [("stdout", 'c'), ("decompress", 'd'), ("force", 'f'), ("keep", 'k'), ("test", 't'), ("best", '9'), ("fast", '1')];
    let parsed = parse(&context.args, "cdfktqvn123456789", &long)?;
    let unpack = context.name != "gzip" || parsed.has('d') || parsed.has('t');
    let to_stdout = context.name == "zcat" || parsed.has('c');
    let level = ('1'..='9').rev().find(|level| parsed.has(*level)).and_then(|level| level.to_digit(10)).unwrap_or(6);
    let mut status = 0;
    for name in or_stdin(&parsed.operands) {
        let result = one(context, &name, unpack, to_stdout, parsed.has('k'), parsed.has('f'), parsed.has('t'), level).await;
        match result {
            Ok(()) => {}
            Err(Fail::Message(text, _)) => {
                context.complain(&if name == "-" { text } else { format!("{name}: {text}") }).await;
                status = 1;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(status)
}

#[allow(clippy::too_many_arguments, reason = "the options of one command")]
async fn one(
    context: &mut Context,
    name: &str,
    unpack: bool,
    to_stdout: bool,
    keep: bool,
    force: bool,
    check: bool,
    level: u32,
) -> Result<(), Fail> {
    let packer = if unpack { Packer::unpack() } else { Packer::pack(level) };
    let source = context.open(name)?;
    if name == "-" || to_stdout || check {
        return through(context, source, None, packer, check).await;
    }
    let target = match (unpack, name.strip_suffix(".tgz"), name.strip_suffix(".gz")) {
        (false, ..) => format!("{name}.gz"),
        (true, Some(stem), _) => format!("{stem}.tar"),
        (true, _, Some(stem)) => stem.to_string(),
        (true, None, None) => return fail("unknown suffix - ignored"),
    };
    if !force && context.status(&target, false).is_ok() {
        return fail(format!("can't open '{target}': File exists"));
    }
    let handle = context.create(&target)?;
    let result = through(context, source, Some(&handle), packer, false).await;
    if result.is_err() {
        let _ = std::fs::remove_file(context.path(&target));
        return result;
    }
    if let Ok(status) = context.status(name, true) {
        let _ = sys::set_times(&context.path(&target), Some(status.accessed), Some(status.modified), true);
    }
    if !keep {
        std::fs::remove_file(context.path(name))?;
    }
    Ok(())
}
