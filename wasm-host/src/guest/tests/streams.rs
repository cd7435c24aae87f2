//! Standard streams of guests, and signals.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use super::{CAT, writes};
use crate::guest::testing::Guest;
use crate::protocol::StreamKind;

#[test]
fn input_without_a_source_is_at_its_end() {
    let ended = Guest::new(CAT).run();
    assert_eq!((ended.outcome.exit_code, ended.log.as_str()), (0, ""));
}

#[test]
fn input_from_a_pipe_is_read_to_its_end() {
    let mut guest = Guest::new(CAT);
    guest.spec.stdin = StreamKind::StreamDescriptor.into();
    let mut child = guest.start(Stdio::piped());
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    guest.wait_for(|_| guest.log().contains("one"));
    input.write_all(b"two\n").unwrap();
    drop(input);
    let ended = guest.end(child);
    assert_eq!(ended.lines("stdout"), ["one", "two"]);
    assert_eq!(ended.outcome.exit_code, 0);
}

fn fifo(guest: &Guest) -> std::process::Stdio {
    use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
    let path = guest.path("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap().into()
}

#[test]
fn a_fifo_is_waited_for_and_ends_with_its_last_writer() {
    let mut guest = Guest::new(CAT);
    guest.spec.stdin = StreamKind::StreamDescriptor.into();
    guest.spec.stdin_once = true;
    let child = guest.start(fifo(&guest));
    guest.wait_for(|directory| directory.join("ready").exists());
    std::thread::sleep(std::time::Duration::from_millis(50));
    fs::write(guest.path("fifo"), "late\n").unwrap();
    let ended = guest.end(child);
    assert_eq!(ended.lines("stdout"), ["late"]);
    assert_eq!(ended.outcome.exit_code, 0);
}

#[test]
fn a_fifo_that_is_not_once_takes_one_writer_after_another() {
    let mut guest = Guest::new(CAT);
    guest.spec.stdin = StreamKind::StreamDescriptor.into();
    let mut child = guest.start(fifo(&guest));
    for text in ["first\n", "second\n", "third\n"] {
        fs::write(guest.path("fifo"), text).unwrap();
        guest.wait_for(|_| guest.log().contains(text));
    }
    // It waits, and does not spin.
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.rsplit_once(')').unwrap().1.split(' ').nth(12).unwrap().parse::<u64>().unwrap()
    };
    let before = ticks();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(ticks() - before <= 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn sigterm_ends_a_guest_at_once_and_keeps_its_unfinished_line() {
    for then in [
        // Asleep for an hour, and busy without ever calling the host.
        r#"(i64.store (i32.const 40) (i64.const 0)) (i32.store8 (i32.const 48) (i32.const 0)) (i32.store (i32.const 56) (i32.const 1))
           (i64.store (i32.const 64) (i64.const 3600000000000))
           (drop (call $poll_oneoff (i32.const 40) (i32.const 200) (i32.const 1) (i32.const 300)))"#,
        "(loop $for_ever (br $for_ever))",
    ] {
        let wat = writes(1, "line\nno end", then).replace(
            "(import \"wasi_snapshot_preview1\" \"proc_exit\"",
            "(import \"wasi_snapshot_preview1\" \"poll_oneoff\" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
             (import \"wasi_snapshot_preview1\" \"proc_exit\"",
        );
        let guest = Guest::new(&wat);
        let mut child = guest.start(Stdio::null());
        guest.wait_for(|_| guest.log().contains("line"));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(child.try_wait().unwrap(), None);
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        let log = guest.log();
        assert!(log.lines().next().unwrap().ends_with("stdout F line"), "{log}");
        assert!(log.ends_with("stdout P no end\n"), "{log}");
    }
}
