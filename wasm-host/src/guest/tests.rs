//! Whole guests: exit codes, traps, files, streams.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use super::testing::Guest;
use crate::protocol::{CodeKind, StreamKind};

/// A module that writes `text` to descriptor `fd` and goes on with `then`.
fn writes(fd: u32, text: &str, then: &str) -> String {
    format!(
        r#"(module $demo
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 100) "{}")
            (func $main (export "_start")
                (i32.store (i32.const 0) (i32.const 100))
                (i32.store (i32.const 4) (i32.const {}))
                (drop (call $fd_write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))
                {then}))"#,
        text.escape_default(),
        text.len()
    )
}

#[test]
fn a_module_writes_lines_and_completes() {
    let ended = Guest::new(&writes(1, "hello\nthere\n", "")).run();
    assert_eq!(ended.lines("stdout"), ["hello", "there"]);
    assert_eq!((ended.status.code(), ended.outcome.exit_code, ended.outcome.reason.as_str()), (Some(0), 0, "Completed"));
    assert_eq!(ended.outcome.message, "");
    assert!(ended.outcome.finished_at > 1_700_000_000_000_000_000);
    assert!(ended.was_ready);
}

#[test]
fn standard_error_is_a_stream_of_its_own() {
    let ended = Guest::new(&writes(2, "oh\n", "")).run();
    assert_eq!(ended.lines("stderr"), ["oh"]);
    assert!(ended.lines("stdout").is_empty());
}

#[test]
fn every_exit_code_keeps_its_low_eight_bits() {
    for (code, expected) in [(0, 0), (1, 1), (125, 125), (126, 126), (127, 127), (137, 137), (255, 255), (256, 0), (-1, 255)] {
        let ended = Guest::new(&writes(1, "x", &format!("(call $proc_exit (i32.const {code}))"))).run();
        assert_eq!(ended.status.code(), Some(expected), "{code}");
        assert_eq!(ended.outcome.exit_code, expected, "{code}");
        assert_eq!(ended.outcome.reason, if expected == 0 { "Completed" } else { "Error" }, "{code}");
        // The line that the guest did not end is there, as a part.
        assert!(ended.log.ends_with("stdout P x\n"), "{}", ended.log);
    }
}

#[test]
fn a_trap_is_told_with_names_and_without_frames_of_the_host() {
    let wat = writes(1, "before\n", "(call $deeper)").replace(
        "(func $main",
        r#"(func $deeper (call $_ZN4demo5crash17h0123456789abcdefE))
           (func $_ZN4demo5crash17h0123456789abcdefE unreachable)
           (func $main"#,
    );
    let mut guest = Guest::new(&wat);
    let termination = guest.path("termination");
    guest.spec.termination_message_path = termination.to_str().unwrap().to_owned();
    let ended = guest.run();
    assert_eq!(ended.status.code(), Some(134));
    assert_eq!((ended.outcome.exit_code, ended.outcome.reason.as_str()), (134, "Trap"));
    let message = &ended.outcome.message;
    let mut lines = message.lines();
    assert_eq!(lines.next(), Some("wasm trap: wasm `unreachable` instruction executed"));
    assert_eq!(lines.next(), Some("wasm backtrace:"));
    assert!(message.contains("demo!demo::crash"), "{message}");
    assert!(message.contains("demo!deeper") && message.contains("demo!main"), "{message}");
    assert!(!message.contains("wasmtime") && !message.contains("error while executing"), "{message}");
    assert_eq!(message.lines().count(), 5, "{message}");
    assert_eq!(fs::read_to_string(termination).unwrap(), *message);
    assert_eq!(ended.lines("stderr").join("\n"), *message);
    assert_eq!(ended.lines("stdout"), ["before"]);
}

#[test]
fn a_trap_out_of_bounds_says_where() {
    let ended = Guest::new(&writes(1, "", "(drop (i32.load (i32.const 0x20000)))")).run();
    let first = ended.outcome.message.lines().next().unwrap().to_owned();
    assert!(first.contains("out of bounds memory access") && first.contains("0x20000"), "{first}");
}

#[test]
fn endless_recursion_is_a_trap_with_a_bounded_message() {
    let ended = Guest::new(r#"(module (memory (export "memory") 1) (func $f (export "_start") (call $f) (call $f)))"#).run();
    assert_eq!(ended.outcome.reason, "Trap");
    assert!(ended.outcome.message.contains("call stack exhausted"), "{}", ended.outcome.message);
    assert!(ended.outcome.message.len() <= 4096);
}

#[test]
fn a_termination_message_of_the_guest_is_kept() {
    let mut guest = Guest::new(r#"(module (memory (export "memory") 1) (func (export "_start") unreachable))"#);
    let termination = guest.path("termination");
    fs::write(&termination, "my own words").unwrap();
    guest.spec.termination_message_path = termination.to_str().unwrap().to_owned();
    assert_eq!(guest.run().outcome.reason, "Trap");
    assert_eq!(fs::read_to_string(termination).unwrap(), "my own words");
}

#[test]
fn a_module_of_preview_0_runs() {
    let wat = writes(1, "old\n", "(call $proc_exit (i32.const 200))").replace("wasi_snapshot_preview1", "wasi_unstable");
    let ended = Guest::new(&wat).run();
    assert_eq!(ended.lines("stdout"), ["old"]);
    assert_eq!(ended.outcome.exit_code, 200);
}

#[test]
fn what_is_not_a_command_does_not_start() {
    let ended = Guest::new(r#"(module (func (export "run")))"#).run();
    assert_eq!((ended.status.code(), ended.outcome.reason.as_str()), (Some(128), "StartError"));
    assert!(ended.outcome.message.contains("_start"), "{}", ended.outcome.message);
    assert!(!ended.was_ready);
    let ended = Guest::new("(component)").run();
    assert_eq!((ended.status.code(), ended.outcome.reason.as_str()), (Some(128), "StartError"));
    assert!(ended.outcome.message.contains("wasi:cli/run"), "{}", ended.outcome.message);
}

#[test]
fn an_unknown_import_is_named() {
    let ended = Guest::new(r#"(module (import "env" "nonsense" (func)) (func (export "_start")))"#).run();
    assert_eq!(ended.outcome.reason, "StartError");
    assert!(ended.outcome.message.contains("env::nonsense"), "{}", ended.outcome.message);
}

#[test]
fn code_that_does_not_fit_does_not_start() {
    for (kind, code, words) in [
        (CodeKind::ModuleCommand, &b""[..], "not compiled code"),
        (CodeKind::ModuleCommand, &b"\0asm\x01\0\0\0"[..], "not compiled code"),
        (CodeKind::ModuleCommand, &b"\x7fELF and then nonsense"[..], "compile it again"),
        (CodeKind::CodeUnspecified, &b"\x7fELF"[..], "names no kind"),
    ] {
        let ended = Guest::of(kind, code).run();
        assert_eq!((ended.outcome.exit_code, ended.outcome.reason.as_str()), (128, "StartError"));
        assert!(ended.outcome.message.contains(words), "{}", ended.outcome.message);
    }
    let mut guest = Guest::new(r#"(module (func (export "_start")))"#);
    guest.spec.kind = CodeKind::ComponentCommand.into();
    assert!(guest.run().outcome.message.contains("compile it again"));
}

#[test]
fn arguments_and_environment_are_those_of_the_spec_and_no_others() {
    // Writes all of its arguments and its environment, zero bytes and all.
    let mut guest = Guest::new(
        r#"(module
            (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func $write
                (i32.store (i32.const 0) (i32.const 4096))
                (i32.store (i32.const 4) (i32.load (i32.const 20)))
                (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func (export "_start")
                (drop (call $args_sizes (i32.const 16) (i32.const 20)))
                (drop (call $args (i32.const 1024) (i32.const 4096)))
                (call $write)
                (drop (call $environ_sizes (i32.const 16) (i32.const 20)))
                (drop (call $environ (i32.const 1024) (i32.const 4096)))
                (call $write)))"#,
    );
    guest.spec.args = vec!["a".to_owned(), "b c".to_owned()];
    guest.spec.env = vec!["X=1=2".to_owned(), "EMPTY=".to_owned()];
    guest.spec.working_dir = "/work".to_owned();
    guest.spec.stdout = StreamKind::StreamDescriptor.into();
    let ended = guest.run();
    let output = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(output.ends_with("a\0b c\0X=1=2\0EMPTY=\0PWD=/work\0"), "{output:?}");
}

/// A module that opens `path` below "/" with the given flags and rights, and exits with the error number.
fn opens(path: &str, flags: u32, then: &str) -> String {
    let path = path.trim_start_matches('/');
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 256) "{path}")
            (data (i32.const 100) "contents")
            (func (export "_start") (local $error i32)
                (i32.store (i32.const 0) (i32.const 100))
                (i32.store (i32.const 4) (i32.const 8))
                (local.set $error (call $path_open (i32.const 3) (i32.const 1) (i32.const 256) (i32.const {}) (i32.const {flags})
                    (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 16)))
                (if (local.get $error) (then (call $proc_exit (local.get $error))))
                {then}))"#,
        path.len()
    )
}

#[test]
fn files_are_written_by_their_absolute_paths() {
    let guest = Guest::new("(component)");
    let file = guest.path("file");
    let wat = opens(
        file.to_str().unwrap(),
        1,
        "(drop (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))",
    );
    let ended = Guest::new(&wat).run();
    assert_eq!(ended.outcome.exit_code, 0);
    assert_eq!(fs::read(file).unwrap(), b"contents");
}

#[test]
fn missing_files_are_enoent() {
    // 44 is ENOENT of WASI 0.1.
    assert_eq!(Guest::new(&opens("/no/such/file", 0, "")).run().outcome.exit_code, 44);
}

/// Copies one read of standard input to standard output, until its end.
const CAT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (loop $more
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const 4096))
            (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (if (i32.eqz (i32.load (i32.const 8))) (then return))
            (i32.store (i32.const 4) (i32.load (i32.const 8)))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (br $more))))"#;

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

#[test]
fn absolute_symbolic_links_lead_where_they_point() {
    let guest = Guest::new("(component)");
    let (directory, file) = (guest.path("directory"), guest.path("directory/file"));
    fs::create_dir(&directory).unwrap();
    std::os::unix::fs::symlink(&directory, guest.path("link")).unwrap();
    std::os::unix::fs::symlink(&file, guest.path("link-to-file")).unwrap();
    let write = "(drop (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))";
    // Makes the file below a link, then opens it by a link of its own.
    let ended = Guest::new(&opens(guest.path("link/file").to_str().unwrap(), 1, write)).run();
    assert_eq!(ended.outcome.exit_code, 0, "{}", ended.outcome.message);
    assert_eq!(fs::read(&file).unwrap(), b"contents");
    fs::remove_file(&file).unwrap();
    let ended = Guest::new(&opens(guest.path("link-to-file").to_str().unwrap(), 1, write)).run();
    assert_eq!(ended.outcome.exit_code, 0, "{}", ended.outcome.message);
    assert_eq!(fs::read(&file).unwrap(), b"contents");
    // A link to nowhere is still ENOENT.
    std::os::unix::fs::symlink("/no/such/file", guest.path("broken")).unwrap();
    assert_eq!(Guest::new(&opens(guest.path("broken").to_str().unwrap(), 0, "")).run().outcome.exit_code, 44);
}

/// A module that renames `from` to `to` and exits with the error number.
fn renames(from: &str, to: &str) -> String {
    let (from, to) = (from.trim_start_matches('/'), to.trim_start_matches('/'));
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "{from}")
            (data (i32.const 4096) "{to}")
            (func (export "_start") (call $proc_exit (call $rename
                (i32.const 3) (i32.const 0) (i32.const {}) (i32.const 3) (i32.const 4096) (i32.const {})))))"#,
        from.len(),
        to.len()
    )
}

/// A file system mounted on a new directory of `guest`. `None`, said and counted, where this test may not mount one.
fn mounted(guest: &Guest, name: &str, flags: rustix::mount::MountFlags) -> Option<Mounted> {
    let path = guest.path(name);
    fs::create_dir(&path).unwrap();
    if rustix::mount::mount("none", &path, "tmpfs", flags, None).is_ok() {
        return Some(Mounted(path));
    }
    assert!(std::env::var_os("CRI_WASM_REQUIRE_ALL").is_none(), "may not mount a file system");
    eprintln!("skipped: may not mount a file system");
    None
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn read_only_file_systems_are_erofs() {
    let guest = Guest::new("(component)");
    let Some(mounted) = mounted(&guest, "mount", rustix::mount::MountFlags::RDONLY) else { return };
    let file = mounted.0.join("file");
    assert_eq!(Guest::new(&opens(file.to_str().unwrap(), 1, "")).run().outcome.exit_code, 69);
    fs::write(guest.path("file"), "").unwrap();
    let rename = renames(guest.path("file").to_str().unwrap(), file.to_str().unwrap());
    assert_eq!(Guest::new(&rename).run().outcome.exit_code, 69);
}

#[test]
fn renames_across_file_systems_are_exdev() {
    let guest = Guest::new("(component)");
    let Some(mounted) = mounted(&guest, "mount", rustix::mount::MountFlags::empty()) else { return };
    fs::write(guest.path("file"), "").unwrap();
    let (from, to) = (guest.path("file"), mounted.0.join("file"));
    assert_eq!(Guest::new(&renames(from.to_str().unwrap(), to.to_str().unwrap())).run().outcome.exit_code, 75);
    let to = guest.path("renamed");
    assert_eq!(Guest::new(&renames(from.to_str().unwrap(), to.to_str().unwrap())).run().outcome.exit_code, 0);
    assert!(to.exists());
}

#[test]
fn a_component_of_0_2_writes_lines_and_completes() {
    let ended = Guest::adapted(&writes(1, "hello\nthere", "")).run();
    assert!(ended.log.ends_with("stdout P there\n"), "{} {}", ended.log, ended.outcome.message);
    assert_eq!(ended.lines("stdout"), ["hello", "there"]);
    assert_eq!((ended.outcome.exit_code, ended.outcome.reason.as_str()), (0, "Completed"));
    assert!(ended.was_ready);
}

#[test]
fn a_trap_of_a_component_is_told_with_names() {
    let ended =
        Guest::adapted(&writes(2, "before\n", "(call $crash)").replace("(func $main", "(func $crash unreachable) (func $main"))
            .run();
    assert_eq!((ended.outcome.exit_code, ended.outcome.reason.as_str()), (134, "Trap"));
    let message = &ended.outcome.message;
    assert!(message.starts_with("wasm trap: wasm `unreachable` instruction executed\nwasm backtrace:\n"), "{message}");
    assert!(message.contains("!crash"), "{message}");
    assert!(ended.lines("stderr").join("\n").ends_with(message.as_str()));
}

#[test]
fn a_component_reads_a_pipe_to_its_end() {
    let mut guest = Guest::adapted(CAT);
    guest.spec.stdin = StreamKind::StreamDescriptor.into();
    let mut child = guest.start(Stdio::piped());
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"one\n").unwrap();
    guest.wait_for(|_| guest.log().contains("one"));
    drop(input);
    assert_eq!(guest.end(child).lines("stdout"), ["one"]);
}

#[test]
fn a_component_writes_files_by_their_absolute_paths() {
    let guest = Guest::new("(component)");
    let write = "(drop (call $fd_write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))";
    assert_eq!(Guest::adapted(&opens(guest.path("file").to_str().unwrap(), 1, write)).run().outcome.exit_code, 0);
    assert_eq!(fs::read(guest.path("file")).unwrap(), b"contents");
}

/// A component that exports `wasi:cli/run` of `version` and calls a function of `wasi:cli/exit` in it, or returns.
fn runs(version: &str, is_async: &str, call: &str, result: u32) -> String {
    format!(
        r#"(component
            (import "wasi:cli/exit@{version}" (instance $exit
                (export "exit" (func (param "status" (result))))
                (export "exit-with-code" (func (param "status-code" u8)))))
            (core module $m
                (import "host" "exit" (func $exit (param i32)))
                (import "host" "exit-with-code" (func $exit-with-code (param i32)))
                (func (export "run") (result i32) {call} (i32.const {result})))
            (core func $exit' (canon lower (func $exit "exit")))
            (core func $exit-with-code' (canon lower (func $exit "exit-with-code")))
            (core instance $i (instantiate $m (with "host" (instance
                (export "exit" (func $exit'))
                (export "exit-with-code" (func $exit-with-code'))))))
            (func $run {is_async} (result (result)) (canon lift (core func $i "run")))
            (instance $run' (export "run" (func $run)))
            (export "wasi:cli/run@{version}" (instance $run')))"#
    )
}

#[test]
fn components_of_0_2_and_0_3_end_as_they_say() {
    for (version, is_async) in [("0.2.12", ""), ("0.3.0", "async")] {
        for (call, result, expected) in [
            ("", 0, 0),
            ("", 1, 1),
            ("(call $exit (i32.const 0))", 1, 0),
            ("(call $exit (i32.const 1))", 0, 1),
            ("(call $exit-with-code (i32.const 42))", 0, 42),
            ("(call $exit-with-code (i32.const 255))", 0, 255),
            ("unreachable", 0, 134),
        ] {
            let ended = Guest::new(&runs(version, is_async, call, result)).run();
            assert_eq!(ended.outcome.exit_code, expected, "{version} {call}: {}", ended.outcome.message);
            assert_eq!(ended.status.code(), Some(expected));
            assert!(ended.was_ready);
        }
    }
}
