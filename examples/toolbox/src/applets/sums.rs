//! Sums and encodings: `sha256sum`, `sha512sum` and their shorter ones, `md5sum`, `cksum`, `base64`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::digest::DynDigest;
use sha2::{Sha224, Sha256, Sha384, Sha512};

use crate::applet;
use crate::applets::stream::{Inputs, open};
use crate::context::{Applet, Context, Fail, Outcome, fail};
use crate::options::parse;
use crate::runtime::file::Lines;
use crate::text::decode;

/// The table.
pub const APPLETS: &[Applet] = &[
    applet!("base64", base64),
    applet!("cksum", cksum),
    applet!("md5sum", sum),
    applet!("sha224sum", sum),
    applet!("sha256sum", sum),
    applet!("sha384sum", sum),
    applet!("sha512sum", sum),
];

fn hasher(name: &str) -> Box<dyn DynDigest> {
    match name {
        "md5sum" => Box::new(Md5::default()),
        "sha224sum" => Box::new(Sha224::default()),
        "sha384sum" => Box::new(Sha384::default()),
        "sha512sum" => Box::new(Sha512::default()),
        _ => Box::new(Sha256::default()),
    }
}

async fn digest(context: &mut Context, mut lines: Lines) -> Result<String, Fail> {
    let mut hasher = hasher(&context.name);
    loop {
        let bytes = context.chunk(&mut lines).await?;
        if bytes.is_empty() {
            break;
        }
        hasher.update(&bytes);
    }
    let mut digest = vec![0; hasher.output_size()];
    // The buffer has the size that the hash asks for.
    let _ = hasher.finalize_into_reset(&mut digest);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

async fn sum(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "cswbt", &[("check", 'c'), ("status", 's'), ("quiet", 's')])?;
    if !parsed.has('c') {
        let mut inputs = Inputs::of(&parsed.operands, "can't open");
        while let Some((name, lines)) = inputs.next(context).await {
            let digest = digest(context, lines).await?;
            context.print(&format!("{digest}  {name}\n")).await?;
        }
        return Ok(inputs.status);
    }
    let (mut failed, mut total) = (0, 0);
    let mut inputs = Inputs::of(&parsed.operands, "can't open");
    while let Some((_, mut lines)) = inputs.next(context).await {
        while let Some((line, _)) = context.next(&mut lines).await? {
            let line = decode(&line);
            let Some((wanted, name)) = line.split_once("  ").or_else(|| line.split_once(" *")) else { continue };
            total += 1;
            let fine = match open(context, name, "can't open").await {
                Some(handle) => digest(context, Lines::new(handle)).await?.eq_ignore_ascii_case(wanted),
                None => false,
            };
            failed += u32::from(!fine);
            if !parsed.has('s') {
                context.print(&format!("{name}: {}\n", if fine { "OK" } else { "FAILED" })).await?;
            }
        }
    }
    if failed > 0 {
        if !parsed.has('s') {
            context.complain(&format!("WARNING: {failed} of {total} computed checksums did NOT match")).await;
        }
        inputs.status = 1;
    }
    Ok(inputs.status)
}

async fn cksum(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "", &[])?;
    let mut inputs = Inputs::of(&parsed.operands, "");
    while let Some((name, mut lines)) = inputs.next(context).await {
        let (mut crc, mut length) = (0_u32, 0_u64);
        let step = |crc: u32, byte: u8| {
            // The polynomial of POSIX's cksum, the highest bit first.
            (0..8).fold(
                crc ^ (u32::from(byte) << 24),
                |crc, _| if crc & 0x8000_0000 != 0 { (crc << 1) ^ 0x04c1_1db7 } else { crc << 1 },
            )
        };
        loop {
            let bytes = context.chunk(&mut lines).await?;
            if bytes.is_empty() {
                break;
            }
            length += bytes.len() as u64;
            crc = bytes.iter().fold(crc, |crc, byte| step(crc, *byte));
        }
        let mut rest = length;
        while rest > 0 {
            crc = step(crc, (rest & 0xff) as u8);
            rest >>= 8;
        }
        let shown = if parsed.operands.is_empty() { String::new() } else { format!(" {name}") };
        context.print(&format!("{} {length}{shown}\n", !crc)).await?;
    }
    Ok(inputs.status)
}

async fn base64(context: &mut Context) -> Outcome {
    let parsed = parse(&context.args, "dw:i", &[("decode", 'd'), ("wrap", 'w')])?;
    let name = parsed.operands.first().map_or("-", String::as_str);
    let Some(handle) = open(context, name, "can't open").await else { return Ok(1) };
    let width: usize = parsed.value('w').and_then(|text| text.parse().ok()).unwrap_or(76);
    let mut lines = Lines::new(handle);
    let mut held: Vec<u8> = Vec::new();
    let mut column = 0;
    loop {
        let bytes = context.chunk(&mut lines).await?;
        let ended = bytes.is_empty();
        if parsed.has('d') {
            held.extend(bytes.iter().filter(|byte| !byte.is_ascii_whitespace()));
            let whole = if ended { held.len() } else { held.len() / 4 * 4 };
            let part: Vec<u8> = held.drain(..whole).collect();
            match STANDARD.decode(&part) {
                Ok(bytes) => context.bytes(&bytes).await?,
                Err(_) => return fail("invalid input"),
            }
        } else {
            held.extend(&bytes);
            let whole = if ended { held.len() } else { held.len() / 3 * 3 };
            let part: Vec<u8> = held.drain(..whole).collect();
            let mut out = Vec::new();
            for byte in STANDARD.encode(&part).bytes() {
                if width > 0 && column == width {
                    out.push(b'\n');
                    column = 0;
                }
                out.push(byte);
                column += 1;
            }
            if ended && column > 0 && width > 0 {
                out.push(b'\n');
            }
            context.bytes(&out).await?;
        }
        if ended {
            return Ok(0);
        }
    }
}
