//! Layers that are hostile, pulled from a registry: bombs, links that lead out, entries without end. Each pull ends with
//! an error that names what is wrong, or with what is harmless of it; in the memory that a good one takes; nothing
//! outside of the store changes. `unpack/tests.rs` has what one entry may do.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod support;

use std::io::{Read, Write as _};

use sha2::{Digest as _, Sha256};
use support::archive::{Archive, gzip};
use support::child::{Outcome, WARM, Yard};
use support::registry::{Registry, digest};
use support::wasm;
use tar::{EntryType, Header};

const MEMORY: u64 = 20 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_pulls() {
    support::child::main().await;
}

/// Pulls an image of this one layer.
#[track_caller]
fn pull_in(yard: &Yard, blob: &[u8], diff_id: &str) -> Outcome {
    let registry = Registry::new();
    registry.artifact(&WARM[5..], &wasm("warm"), None);
    registry.layer("v", blob, diff_id);
    let outcome = yard.pull(&registry, "x:v");
    assert!(outcome.left.is_empty(), "{:?}", outcome.left);
    assert!(outcome.grown < MEMORY, "{:?}: {} kB", outcome.error, outcome.grown >> 10);
    outcome
}

#[track_caller]
fn refused(outcome: Outcome, phrases: &[&str]) {
    let error = outcome.error.unwrap_or_else(|| panic!("it was pulled, {phrases:?} was expected"));
    assert!(phrases.iter().any(|phrase| error.contains(phrase)) && error.contains("x:v"), "{phrases:?}: {error:.500}");
    assert!(error.len() < 3000, "an error of {} bytes", error.len());
}

#[track_caller]
fn taken(outcome: Outcome) {
    assert_eq!(outcome.error, None);
}

/// What is written is compressed and hashed, never held.
struct Bomb {
    gzip: flate2::write::GzEncoder<Vec<u8>>,
    hasher: Sha256,
}

impl Bomb {
    fn new() -> Bomb {
        Bomb { gzip: flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best()), hasher: Sha256::new() }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.gzip.write_all(bytes).unwrap();
        self.hasher.update(bytes);
    }

    fn zeros(&mut self, count: u64) {
        let mut zeros = std::io::repeat(0).take(count);
        let mut buffer = vec![0; 1 << 16];
        loop {
            match zeros.read(&mut buffer).unwrap() {
                0 => break,
                count => self.bytes(&buffer[..count]),
            }
        }
    }

    fn header(&mut self, kind: EntryType, name: &str, link: &str, size: u64) {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.bytes(header.as_bytes());
    }

    /// The blob, and its diff-id.
    fn end(mut self) -> (Vec<u8>, String) {
        self.zeros(1024);
        let hex: String = self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (self.gzip.finish().unwrap(), format!("sha256:{hex}"))
    }
}

#[track_caller]
fn bomb(make: impl FnOnce(&mut Bomb)) -> Outcome {
    let mut bomb = Bomb::new();
    make(&mut bomb);
    let (blob, diff_id) = bomb.end();
    pull_in(&Yard::new(), &blob, &diff_id)
}

#[test]
fn a_thousand_bytes_from_each_byte_end_at_a_cap() {
    // 96 MiB, from some 100 kB; the cap is at 48 MiB.
    let outcome = bomb(|bomb| {
        bomb.header(EntryType::Regular, "zeros", "", 96 << 20);
        bomb.zeros(96 << 20);
    });
    refused(outcome, &["max_unpacked_bytes", "max_ratio"]);
    // After the archive's end, where no entry is.
    refused(bomb(|bomb| bomb.zeros(200 << 20)), &["max_unpacked_bytes", "max_ratio"]);
}

#[test]
fn a_window_that_a_decoder_would_have_to_hold_is_refused() {
    let archive = Archive::default().file("f", vec![1; 4096]).bytes();
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&archive).unwrap();
    encoder.flush().unwrap();
    let blob = encoder.finish().unwrap();
    refused(pull_in(&Yard::new(), &blob, &digest(&archive)), &["the archive is broken"]);
}

#[test]
fn compression_in_compression_is_no_archive() {
    let inner = zstd::stream::encode_all(Archive::default().file("f", "x").bytes().as_slice(), 1).unwrap();
    refused(pull_in(&Yard::new(), &gzip(&inner), &digest(&inner)), &["the archive is broken"]);
}

#[test]
fn headers_without_end_are_refused() {
    for kind in [EntryType::XHeader, EntryType::GNULongName, EntryType::GNULongLink] {
        let outcome = bomb(|bomb| {
            bomb.header(kind, "long", "", 64 << 20);
            bomb.zeros(64 << 20);
            bomb.header(EntryType::Regular, "f", "", 0);
        });
        refused(outcome, &["the headers of an entry"]);
    }
}

#[test]
fn a_name_of_a_million_bytes_is_refused_by_its_length() {
    let outcome = bomb(|bomb| {
        let mut name = "n/".repeat(500_000).into_bytes();
        name.resize(name.len().next_multiple_of(512), 0);
        bomb.header(EntryType::GNULongName, "././@LongLink", "", 1_000_000);
        bomb.bytes(&name);
        bomb.header(EntryType::Regular, "f", "", 0);
    });
    refused(outcome, &["path_bytes"]);
}

#[test]
fn a_million_entries_end_at_the_cap() {
    for kind in [EntryType::Regular, EntryType::Link, EntryType::Char] {
        let outcome = bomb(|bomb| {
            bomb.header(EntryType::Regular, "first", "", 0);
            for number in 0..1_000_000 / if kind == EntryType::Regular { 1 } else { 10 } {
                bomb.header(kind, &format!("{number}"), "first", 0);
            }
        });
        refused(outcome, &["max_entries", "too many links"]);
    }
}

#[test]
fn holes_of_a_sparse_file_count_as_bytes() {
    let outcome = bomb(|bomb| {
        let mut header = Header::new_gnu();
        header.set_path("sparse").unwrap();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.realsize.copy_from_slice(b"77777777777\0");
        gnu.sparse[0].offset.copy_from_slice(b"77777777777\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
        header.set_cksum();
        bomb.bytes(header.as_bytes());
    });
    refused(outcome, &["max_unpacked_bytes"]);
}

#[test]
fn no_link_leads_a_pull_out_of_the_store() {
    let yard = Yard::new();
    let outside = yard.outside();
    let outside = outside.to_str().unwrap();
    let victim = format!("{outside}/victim");
    let relative = format!("{}{outside}", "../".repeat(16).trim_end_matches('/'));
    for (archive, phrase) in [
        (Archive::default().symlink("a", outside).file("a/victim", "hacked"), "cannot be made"),
        (Archive::default().symlink("a", &relative).file("a/victim", "hacked"), "cannot be made"),
        (Archive::default().symlink("a", outside).hard_link("b", "a/victim").file("b", "hacked"), "not in the layer"),
        (Archive::default().symlink("a", &victim).hard_link("b", "a").file("b", "hacked").file("a", "hacked"), ""),
        (Archive::default().directory("d").symlink("d", outside).directory("d").file("d/victim", "in"), ""),
        (Archive::default().symlink("a", outside).file("a/.wh.victim", "").file("a/.wh..wh..opq", ""), "cannot be made"),
        (Archive::default().hard_link("a", "../../../../../victim"), ".."),
        (Archive::default().file("../../../victim", "hacked"), ".."),
    ] {
        let bytes = archive.bytes();
        let outcome = pull_in(&yard, &gzip(&bytes), &digest(&bytes));
        if let (Some(error), true) = (&outcome.error, !phrase.is_empty()) {
            assert!(error.contains(phrase), "{phrase:?}: {error}");
        }
        assert!(outcome.error.is_none() || !phrase.is_empty(), "{:?}", outcome.error);
    }
}

#[test]
fn what_is_odd_and_harmless_is_taken() {
    let mut twice = Archive::default();
    for _ in 0..5000 {
        twice = twice.file("twice", wasm("x"));
    }
    let devices = Archive::default().entry(EntryType::Char, "null", "", 0o666, b"").entry(EntryType::Fifo, "f", "", 0o666, b"");
    for archive in [twice, devices, Archive::default().entry(EntryType::Regular, "su", "", 0o6755, b"x"), Archive::default()] {
        let bytes = archive.bytes();
        taken(pull_in(&Yard::new(), &gzip(&bytes), &digest(&bytes)));
    }
}
