//! Components of 0.2 and 0.3.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use super::{CAT, opens, writes};
use crate::guest::testing::Guest;
use crate::protocol::StreamKind;

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
