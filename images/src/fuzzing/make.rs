//! From a fuzzer's bytes to an archive whose entries mean something: names that meet, links that lead somewhere, all
//! the ways in which an archive can say a long name or a number.

use std::io::Write as _;

use tar::{EntryType, Header};

/// Bytes taken from the front; zeros after the end.
pub(super) struct Cursor<'a>(pub(super) &'a [u8]);

impl Cursor<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::from(self.byte()) % from.len()]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const KINDS: [EntryType; 12] = [
    EntryType::Regular,
    EntryType::Directory,
    EntryType::Symlink,
    EntryType::Link,
    EntryType::Regular,
    EntryType::Symlink,
    EntryType::Char,
    EntryType::Block,
    EntryType::Fifo,
    EntryType::Continuous,
    EntryType::GNUSparse,
    EntryType::XGlobalHeader,
];

fn component(cursor: &mut Cursor<'_>) -> Vec<u8> {
    match cursor.byte() % 32 {
        0..=3 => b"a".to_vec(),
        4..=7 => b"b".to_vec(),
        8..=10 => b"c".to_vec(),
        11 => b".".to_vec(),
        12 => b"..".to_vec(),
        13 => Vec::new(),
        14 => b".wh.a".to_vec(),
        15 => b".wh.b".to_vec(),
        16 => b".wh..wh..opq".to_vec(),
        17 => b".wh.".to_vec(),
        18 => b".wh..".to_vec(),
        19 => b".wh...".to_vec(),
        20 => b".wh..wh.plnk".to_vec(),
        21 => vec![b'n'; 255],
        22 => vec![b'n'; 256],
        23 => b"\xff\xfe".to_vec(),
        24 => b"outside".to_vec(),
        25 => b"victim".to_vec(),
        26 => b"main.wasm".to_vec(),
        27 => b"nul\0nul".to_vec(),
        28 => [b".wh.".as_slice(), &[b'w'; 252]].concat(),
        29 => b"proc".to_vec(),
        30 => b"self".to_vec(),
        _ => b"d/d/d/d/d".to_vec(),
    }
}

fn name(cursor: &mut Cursor<'_>, outside: &[u8]) -> Vec<u8> {
    let shape = cursor.byte();
    let count = usize::from(shape & 3) + 1;
    let mut parts = (0..count).map(|_| component(cursor)).collect::<Vec<_>>().join(&b'/');
    match shape >> 4 {
        12 => parts.insert(0, b'/'),
        13 => parts = [outside, b"/", &parts].concat(),
        14 => parts.push(b'/'),
        15 => parts = [b"../../", parts.as_slice()].concat(),
        _ => {}
    }
    parts
}

/// An archive of up to 32 entries. `outside` is an absolute path that links may try to reach.
pub(super) fn archive(cursor: &mut Cursor<'_>, outside: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..32 {
        if cursor.is_empty() {
            break;
        }
        entry(cursor, outside, &mut out);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn entry(cursor: &mut Cursor<'_>, outside: &[u8], out: &mut Vec<u8>) {
    let kind = *cursor.pick(&KINDS);
    let path = name(cursor, outside);
    let link = if matches!(kind, EntryType::Symlink | EntryType::Link) { name(cursor, outside) } else { Vec::new() };
    let style = cursor.byte();
    let content: &[u8] = match (kind, cursor.byte() % 4) {
        (EntryType::Directory | EntryType::Symlink | EntryType::Link, 0..=2) => b"",
        (_, 0) => b"",
        (_, 1) => b"\0asm\x01\0\0\0",
        (_, 2) => b"text",
        _ => &[7; 1000],
    };

    let mut header = if style & 1 == 0 { Header::new_ustar() } else { Header::new_gnu() };
    put(&mut header.as_old_mut().name, &path);
    put(&mut header.as_old_mut().linkname, &link);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(u32::from(cursor.byte()) << 8 | 0o755);
    header.set_uid(*cursor.pick(&[0, 1000, 0x1f_ffff, 1 << 31, u64::from(u32::MAX) - 1, u64::from(u32::MAX), 1 << 33]));
    header.set_gid(*cursor.pick(&[0, 1000, u64::from(u32::MAX), u64::MAX >> 1]));
    header.set_mtime(*cursor.pick(&[0, 1_600_000_000, u64::from(u32::MAX) + 1, u64::MAX >> 1, u64::MAX]));
    if style & 2 != 0 {
        // Negative in base 256.
        let field = &mut header.as_old_mut().mtime;
        *field = [0xff; 12];
    }
    if style & 4 != 0 {
        let devices = header.set_device_major(u32::from(cursor.byte())).is_ok() && header.set_device_minor(3).is_ok();
        assert!(devices);
    }
    if kind == EntryType::GNUSparse {
        sparse(cursor, &mut header);
    }

    let mut pax = Vec::new();
    if style & 8 != 0 {
        pax.push(("path", path.clone()));
        pax.push(("linkpath", link.clone()));
    }
    if style & 16 != 0 {
        pax.push(("SCHILY.xattr.trusted.overlay.opaque", b"y".to_vec()));
        pax.push(("SCHILY.xattr.security.capability", vec![1, 0, 0, 2, 0xff, 0xff]));
        pax.push(("SCHILY.xattr.user.x", b"1".to_vec()));
        pax.push(("SCHILY.xattr.user.overlay.opaque", b"y".to_vec()));
    }
    if style & 32 != 0 {
        let key = *cursor.pick(&["size", "uid", "gid", "mtime", "GNU.sparse.realsize", "GNU.sparse.map", "mode", ""]);
        let value = *cursor.pick(&["0", "4", "512", "-1", "18446744073709551615", "1.5", "x", "99999999999999999999", "0,4,8,4"]);
        pax.push((key, value.as_bytes().to_vec()));
    }
    if !pax.is_empty() {
        let mut records = Vec::new();
        for (key, value) in pax {
            record(&mut records, key, &value);
        }
        extension(out, EntryType::XHeader, &records);
    }
    if style & 64 != 0 || (path.len() > 100 && style & 8 == 0) {
        extension(out, EntryType::GNULongName, &[path.as_slice(), b"\0"].concat());
    }
    if style & 128 != 0 || (link.len() > 100 && style & 8 == 0) {
        extension(out, EntryType::GNULongLink, &[link.as_slice(), b"\0"].concat());
    }
    header.set_cksum();
    block(out, &header, content);
}

fn sparse(cursor: &mut Cursor<'_>, header: &mut Header) {
    let Some(gnu) = header.as_gnu_mut() else { return };
    let number = |field: &mut [u8; 12], value: u64| {
        let text = format!("{value:011o}\0");
        put(field, text.as_bytes());
    };
    number(&mut gnu.realsize, *cursor.pick(&[0, 4, 1000, 1 << 20, 1 << 30, (1 << 33) - 1]));
    for part in &mut gnu.sparse {
        number(&mut part.offset, *cursor.pick(&[0, 4, 512, 1024, 1 << 19, (1 << 33) - 1]));
        number(&mut part.numbytes, *cursor.pick(&[0, 4, 512, (1 << 33) - 1]));
        if cursor.byte().is_multiple_of(2) {
            break;
        }
    }
}

/// `length key=value\n`, where the length counts itself.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    write!(out, "{length} {key}=").unwrap();
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn extension(out: &mut Vec<u8>, kind: EntryType, content: &[u8]) {
    let mut header = Header::new_gnu();
    put(&mut header.as_old_mut().name, b"././@LongLink");
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_cksum();
    block(out, &header, content);
}

fn block(out: &mut Vec<u8>, header: &Header, content: &[u8]) {
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn put(field: &mut [u8], value: &[u8]) {
    let count = value.len().min(field.len());
    field[..count].copy_from_slice(&value[..count]);
}

/// Sets the checksum of every block that looks like a header, so that a fuzzer need not guess it.
pub(super) fn repair(archive: &mut [u8]) {
    for block in archive.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// One entry as simple as it can be.
pub(super) fn plain(out: &mut Vec<u8>, kind: EntryType, path: &str, link: &str) {
    let mut header = Header::new_ustar();
    put(&mut header.as_old_mut().name, path.as_bytes());
    put(&mut header.as_old_mut().linkname, link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header.set_cksum();
    block(out, &header, b"");
}
