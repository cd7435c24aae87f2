//! The log writer alone.

use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use prost::Message;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg, socketpair,
};
use tempfile::TempDir;

use super::*;
use crate::protocol::{GuestControl, ReopenLog, guest_control};

fn open(path: &Path) -> OwnedFd {
    OpenOptions::new().append(true).create(true).open(path).unwrap().into()
}

struct Logged {
    _directory: TempDir,
    path: PathBuf,
    log: CriLog,
}

fn log() -> Logged {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    Logged { log: CriLog::new(Some(open(&path)), None, None), path, _directory: directory }
}

impl Logged {
    fn out(&self, bytes: &[u8]) {
        self.log.write(LogStream::Stdout, bytes);
    }

    fn read(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}

/// Stream, tag and text of each line; checks the form of all that precedes.
fn lines(bytes: &[u8]) -> Vec<(String, char, Vec<u8>)> {
    assert!(bytes.is_empty() || bytes.ends_with(b"\n"));
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| {
            let header = std::str::from_utf8(&line[..40]).unwrap();
            assert_eq!((&header[4..5], &header[10..11], &header[29..31], &header[39..]), ("-", "T", "Z ", " "), "{header}");
            (header[31..37].to_owned(), char::from(line[38]), line[40..line.len() - 1].to_vec())
        })
        .collect()
}

/// What the kubelet makes of it: the texts of one stream, parts joined.
fn joined(bytes: &[u8]) -> Vec<u8> {
    lines(bytes)
        .into_iter()
        .flat_map(|(_, tag, mut text)| {
            if tag == 'F' {
                text.push(b'\n')
            };
            text
        })
        .collect()
}

fn line(stream: &str, tag: char, text: &str) -> (String, char, Vec<u8>) {
    (stream.to_owned(), tag, text.as_bytes().to_vec())
}

#[test]
fn lines_are_written_when_they_are_complete() {
    let logged = log();
    logged.out(b"one\ntwo\nthr");
    assert_eq!(lines(&logged.read()), [line("stdout", 'F', "one"), line("stdout", 'F', "two")]);
    logged.log.write(LogStream::Stderr, b"e\n");
    logged.out(b"ee");
    logged.out(b"\n\n");
    let all = lines(&logged.read());
    assert_eq!(all[2..], [line("stderr", 'F', "e"), line("stdout", 'F', "three"), line("stdout", 'F', "")]);
}

#[test]
fn unfinished_lines_become_parts_at_the_end() {
    let logged = log();
    logged.out(b"out");
    logged.log.write(LogStream::Stderr, b"err");
    assert!(logged.read().is_empty());
    logged.log.finish();
    assert_eq!(lines(&logged.read()), [line("stdout", 'P', "out"), line("stderr", 'P', "err")]);
    logged.log.finish();
    assert_eq!(lines(&logged.read()).len(), 2);
}

#[test]
fn long_lines_are_split_into_parts_of_the_largest_text() {
    for (length, parts) in [(MAX_TEXT_BYTES - 1, 0), (MAX_TEXT_BYTES, 0), (MAX_TEXT_BYTES + 1, 1), (3 * MAX_TEXT_BYTES, 2)] {
        // In one write, and in writes of awkward sizes.
        for step in [length + 1, 4096, 4095, 16_000] {
            let text: Vec<u8> = (0..length).map(|index| b'a' + (index % 23) as u8).chain([b'\n']).collect();
            let logged = log();
            text.chunks(step).for_each(|chunk| logged.out(chunk));
            let all = lines(&logged.read());
            assert_eq!(all.len(), parts + 1, "{length} by {step}");
            for (index, (_, tag, text)) in all.iter().enumerate() {
                assert_eq!(*tag, if index < parts { 'P' } else { 'F' });
                assert!(text.len() <= MAX_TEXT_BYTES && !text.is_empty());
            }
            assert_eq!(joined(&logged.read()), text);
        }
    }
}

#[test]
fn a_line_without_end_holds_back_no_more_than_one_text() {
    let logged = log();
    for _ in 0..100 {
        logged.out(&[b'x'; 4096]);
        logged.log.with(|writer| assert!(writer.stdout.len() <= MAX_TEXT_BYTES));
    }
    logged.log.finish();
    assert_eq!(joined(&logged.read()), vec![b'x'; 409_600]);
}

#[test]
fn nothing_is_lost_or_doubled_whatever_the_sizes_of_the_writes() {
    // A fixed sequence of many lengths, empty lines, long lines and many lines in one write among them.
    let mut state = 7u32;
    let mut next = |limit: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % limit
    };
    let logged = log();
    let mut expected = Vec::new();
    for _ in 0..400 {
        let mut chunk = Vec::new();
        for _ in 0..next(5) * next(40) {
            let length = if next(50) == 0 { next(40_000) } else { next(60) };
            chunk.extend((0..length).map(|index| b'0' + (index % 10) as u8));
            if next(10) > 0 {
                chunk.push(b'\n');
            }
        }
        logged.out(&chunk);
        expected.extend_from_slice(&chunk);
    }
    logged.log.finish();
    assert_eq!(joined(&logged.read()), expected);
}

fn reopen(socket: impl AsFd, file: Option<&OwnedFd>, body: &[u8]) {
    order(socket, &file.into_iter().collect::<Vec<_>>(), body);
}

fn order(socket: impl AsFd, descriptors: &[&OwnedFd], body: &[u8]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    sendmsg(socket, &[IoSlice::new(body)], &mut ancillary, SendFlags::empty()).unwrap();
}

fn request() -> Vec<u8> {
    GuestControl { body: Some(guest_control::Body::ReopenLog(ReopenLog {})) }.encode_to_vec()
}

#[test]
fn a_reopened_log_takes_every_line_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    let path = |number: usize| directory.path().join(number.to_string());
    let log = CriLog::new(Some(open(&path(0))), Some(its), None);
    let mut expected = Vec::new();
    for number in 0..50 {
        if number % 10 == 9 {
            reopen(&ours, Some(&open(&path(number / 10 + 1))), &request());
        }
        log.write(LogStream::Stdout, format!("{number}\npart of ").as_bytes());
        expected.extend_from_slice(format!("{number}\npart of ").as_bytes());
    }
    log.finish();
    let files: Vec<Vec<u8>> = (0..6).map(|number| fs::read(path(number)).unwrap()).collect();
    assert_eq!(lines(&files[0]).len(), 9);
    assert_eq!(lines(&files[1])[0].2, b"part of 9");
    assert_eq!(joined(&files.concat()), expected);
}

#[test]
fn of_many_new_logs_the_last_one_counts_and_the_others_are_closed() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (first, last) = (directory.path().join("first"), directory.path().join("last"));
    let log = CriLog::new(Some(open(&first)), Some(its), None);
    let writer = OwnedFd::from(writer);
    reopen(&ours, Some(&writer), &request());
    drop(writer);
    reopen(&ours, Some(&open(&last)), &request());
    log.write(LogStream::Stdout, b"line\n");
    // At its end, so nobody holds the other side.
    assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(fs::read(&first).unwrap(), b"");
    assert_eq!(lines(&fs::read(&last).unwrap()).len(), 1);
}

#[test]
fn messages_that_are_not_understood_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    let (right, wrong) = (directory.path().join("right"), directory.path().join("wrong"));
    let log = CriLog::new(Some(open(&right)), Some(its), None);
    reopen(&ours, Some(&open(&wrong)), b"\xff\xff\xff");
    reopen(&ours, Some(&open(&wrong)), &GuestControl { body: None }.encode_to_vec());
    reopen(&ours, Some(&open(&wrong)), &[b'x'; 1000]);
    reopen(&ours, None, &request());
    log.write(LogStream::Stdout, b"line\n");
    assert_eq!(lines(&fs::read(&right).unwrap()).len(), 1);
    assert_eq!(fs::read(&wrong).unwrap(), b"");
}

#[test]
fn who_is_attached_gets_what_is_written_from_then_on_as_it_comes() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    let path = directory.path().join("log");
    let log = CriLog::new(Some(open(&path)), Some(its), None);
    log.write(LogStream::Stdout, b"before\n");
    let tap = GuestControl { body: Some(guest_control::Body::Tap(crate::protocol::Tap {})) }.encode_to_vec();
    let (mut out, out_end) = std::io::pipe().unwrap();
    let (mut err, err_end) = std::io::pipe().unwrap();
    order(&ours, &[&out_end.into(), &err_end.into()], &tap);
    // A tap of one pipe is none, and changes nothing about the one before.
    order(&ours, &[&open(&path)], &tap);
    log.write(LogStream::Stdout, b"$ ");
    log.write(LogStream::Stderr, b"oops\n");
    let mut bytes = [0; 16];
    assert_eq!((out.read(&mut bytes).unwrap(), &bytes[..2]), (2, &b"$ "[..]), "without waiting for the line's end");
    assert_eq!((err.read(&mut bytes).unwrap(), &bytes[..5]), (5, &b"oops\n"[..]));
    drop(out);
    log.write(LogStream::Stdout, b"ls\n");
    // Its loss closes both.
    assert_eq!(err.read(&mut bytes).unwrap(), 0);
    assert_eq!(lines(&fs::read(&path).unwrap()).last().unwrap(), &line("stdout", 'F', "$ ls"));
}

#[test]
fn output_without_a_log_is_for_who_is_attached() {
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    let log = CriLog::new(None, Some(its), None);
    log.write(LogStream::Stdout, b"nobody\n");
    let (mut out, out_end) = std::io::pipe().unwrap();
    let tap = GuestControl { body: Some(guest_control::Body::Tap(crate::protocol::Tap {})) }.encode_to_vec();
    order(&ours, &[&out_end.into(), &std::io::pipe().unwrap().1.into()], &tap);
    log.write(LogStream::Stdout, b"somebody\n");
    log.finish();
    drop(log);
    let mut text = String::new();
    out.read_to_string(&mut text).unwrap();
    assert_eq!(text, "somebody\n");
}

#[test]
fn lost_lines_are_counted_and_told_when_there_is_room_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).unwrap();
    let full: OwnedFd = OpenOptions::new().write(true).open("/dev/full").unwrap().into();
    let log = CriLog::new(Some(full), Some(its), None);
    log.write(LogStream::Stdout, b"one\ntwo\n");
    log.write(LogStream::Stdout, b"three\nfo");
    reopen(&ours, Some(&open(&path)), &request());
    log.write(LogStream::Stdout, b"ur\n");
    let all = lines(&fs::read(&path).unwrap());
    let told = "3 lines of output were lost here: the log file could not be written";
    assert_eq!(all, [line("stderr", 'F', told), line("stdout", 'F', "four")]);
}

#[test]
fn a_line_that_was_cut_by_a_full_disk_spoils_no_other() {
    // A file system of 64 KiB, where this test may mount one.
    let directory = tempfile::tempdir().unwrap();
    let mount = rustix::mount::mount("none", directory.path(), "tmpfs", rustix::mount::MountFlags::empty(), c"size=64k");
    if mount.is_err() {
        assert!(std::env::var_os("CRI_WASM_REQUIRE_ALL").is_none(), "may not mount a file system");
        eprintln!("skipped: may not mount a file system");
        return;
    }
    let path = directory.path().join("log");
    let log = CriLog::new(Some(open(&path)), None, None);
    let text = [b'x'; 5000];
    let mut sent = 0;
    while sent < 30 {
        log.write(LogStream::Stdout, &text);
        log.write(LogStream::Stdout, b"\n");
        sent += 1;
    }
    assert!(!fs::read(&path).unwrap().ends_with(b"\n"), "the disk was not full");
    File::options().write(true).open(&path).unwrap().set_len(30_007).unwrap();
    log.write(LogStream::Stdout, b"afterwards\n");
    let bytes = fs::read(&path).unwrap();
    let all: Vec<&str> = std::str::from_utf8(&bytes).unwrap().lines().collect();
    let _ = rustix::mount::unmount(directory.path(), rustix::mount::UnmountFlags::DETACH);
    assert!(all[all.len() - 2].contains("lines of output were lost"), "{}", all[all.len() - 2]);
    assert!(all[all.len() - 1].ends_with("stdout F afterwards"));
    assert!(all[all.len() - 3].len() < 5000);
}

#[test]
fn writers_in_many_threads_keep_their_lines_whole() {
    let logged = log();
    std::thread::scope(|scope| {
        for stream in [LogStream::Stdout, LogStream::Stderr] {
            let log = &logged.log;
            scope.spawn(move || (0..2000).for_each(|number| log.write(stream, format!("line {number}\n").as_bytes())));
        }
    });
    let all = lines(&logged.read());
    for stream in ["stdout", "stderr"] {
        let texts: Vec<_> = all.iter().filter(|line| line.0 == stream).map(|line| line.2.clone()).collect();
        assert_eq!(texts, (0..2000).map(|number| format!("line {number}").into_bytes()).collect::<Vec<_>>());
    }
}
