//! Targets about layers: archives as bytes, archives made of hostile entries, and whiteouts against a model.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::make::{self, Cursor};
use super::model::{self, Say, Seen, Tree};
use super::scratch::{self, Scratch};
use crate::config::Limits;
use crate::digest::Digest;
use crate::files;
use crate::unpack::UnpackError;

/// Small, so that a bomb is one at once.
fn limits() -> Limits {
    Limits { unpacked_bytes: 1 << 20, entries: 100, depth: 12, ..Limits::default() }
}

/// Any bytes as a layer, compressed or not. The checksums of headers are set right first.
pub fn tar(bytes: &[u8]) {
    let mut archive = bytes.to_vec();
    make::repair(&mut archive);
    scratch::with(|scratch| {
        let first = scratch.unpack(&archive, &Digest::of(&archive), &limits());
        // A compressed one has another diff-id; with that it goes on to the end.
        if let Err(UnpackError::DiffId { actual, .. }) = first {
            let actual = Digest::parse(&actual).unwrap();
            fs::remove_dir_all(&scratch.fs).unwrap();
            fs::create_dir(&scratch.fs).unwrap();
            let second = scratch.unpack(&archive, &actual, &limits());
            assert!(second.is_ok(), "{second:?}");
        }
    });
}

/// Entries made from the bytes, of every kind and in any order.
pub fn entries(bytes: &[u8]) {
    scratch::with(|scratch| {
        let mut cursor = Cursor(bytes);
        let form = cursor.byte();
        let outside = scratch.base.join("outside");
        let archive = make::archive(&mut cursor, outside.as_os_str().as_bytes());
        let diff_id = Digest::of(&archive);
        let blob = match form % 8 {
            0 => zstd::stream::encode_all(archive.as_slice(), 1).unwrap(),
            1 => gzip(&archive),
            _ => archive,
        };
        let limits = match form >> 4 {
            0 => Limits { entries: 2, ..limits() },
            1 => Limits { path_bytes: 9, ..limits() },
            2 => Limits { depth: 3, ..limits() },
            3 => Limits { unpacked_bytes: 600, ..limits() },
            _ => limits(),
        };
        let result = scratch.unpack(&blob, &diff_id, &limits);
        assert!(!matches!(result, Err(UnpackError::DiffId { .. })), "{result:?}");
    });
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Up to four layers of files, directories, whiteouts and opaque marks: what is seen of them is what a model in memory
/// says.
pub fn whiteouts(bytes: &[u8]) {
    let mut cursor = Cursor(bytes);
    scratch::with(|scratch| {
        let mut seen = BTreeMap::new();
        // Top first, each with its number from the bottom.
        let mut stack: Vec<(usize, PathBuf)> = Vec::new();
        for number in 0..4 {
            let (tree, blob, possible) = layer(&mut cursor);
            let Some(opaque) = install(scratch, number, &blob, possible) else { break };
            assert_eq!(opaque, tree.opaque);
            model::lay(&mut seen, &tree, number);
            if opaque {
                // Overlayfs does not look for the mark on a layer's root, so lower ones are not given to it.
                stack.clear();
            }
            stack.insert(0, (number, scratch.fs.join(number.to_string())));
            if cursor.is_empty() {
                break;
            }
        }
        compare(&stack, &seen);
    });
}

/// A layer's model and archive; false where the archive cannot be unpacked.
fn layer(cursor: &mut Cursor<'_>) -> (Tree, Vec<u8>, bool) {
    let (mut tree, mut blob, mut possible) = (Tree::default(), Vec::new(), true);
    for _ in 0..1 + cursor.byte() % 12 {
        let shape = cursor.byte();
        let depth = shape % 4;
        let say = [Say::File, Say::Directory, Say::Whiteout, Say::Opaque][usize::from(shape >> 2) % 4];
        let path: Vec<&str> = (0..depth).map(|_| *cursor.pick(&NAMES)).collect();
        if path.is_empty() && matches!(say, Say::File | Say::Whiteout) {
            continue;
        }
        let text = path.join("/");
        match (say, path.split_last()) {
            (Say::Whiteout, Some((name, parents))) => {
                let hidden = format!(".wh.{name}");
                let text = [parents, &[hidden.as_str()]].concat().join("/");
                make::plain(&mut blob, EntryType::Regular, &text, "");
            }
            (Say::Opaque, _) => make::plain(&mut blob, EntryType::Regular, &format!("./{text}/.wh..wh..opq"), ""),
            (Say::Directory, _) => make::plain(&mut blob, EntryType::Directory, &format!("./{text}"), ""),
            _ => make::plain(&mut blob, EntryType::Regular, &text, ""),
        }
        possible = possible && tree.say(say, &path);
    }
    blob.resize(blob.len() + 1024, 0);
    (tree, blob, possible)
}

/// Unpacks one layer into a directory of its own; gives whether it is opaque.
fn install(scratch: &Scratch, number: usize, blob: &[u8], possible: bool) -> Option<bool> {
    let path = scratch.fs.join(number.to_string());
    fs::create_dir(&path).unwrap();
    let cancelled = std::sync::atomic::AtomicBool::new(false);
    match crate::unpack::unpack(blob, &path, &Digest::of(blob), &limits(), &cancelled) {
        Ok(survey) => {
            assert!(possible, "layer {number} was unpacked, and cannot be");
            Some(survey.opaque)
        }
        Err(error) => {
            assert!(!possible, "layer {number}: {error:?}");
            None
        }
    }
}

fn compare(stack: &[(usize, PathBuf)], seen: &BTreeMap<String, Seen>) {
    let layers: Vec<PathBuf> = stack.iter().map(|(_, path)| path.clone()).collect();
    if layers.is_empty() {
        return;
    }
    let mut paths: Vec<Vec<&str>> = NAMES.map(|name| vec![name]).to_vec();
    for from in [0, 3] {
        let longer = paths[from..].iter().flat_map(|path| NAMES.map(|name| [path.as_slice(), &[name]].concat()));
        let longer: Vec<_> = longer.collect();
        paths.extend(longer);
    }
    for path in paths {
        let text = format!("/{}", path.join("/"));
        let found = files::locate(&layers, Path::new(&text));
        match (model::at(seen, &path), &found) {
            (Some(Seen::File(number)), Ok(located)) => {
                assert!(located.metadata.is_file(), "{text}");
                assert_eq!(stack[located.layer].0, *number, "{text}");
            }
            (Some(Seen::Directory(_)), Ok(located)) => assert!(located.metadata.is_dir(), "{text}"),
            (None, Err(_)) => {}
            (expected, found) => panic!("{text}: {expected:?} expected, {found:?} found"),
        }
    }
}
