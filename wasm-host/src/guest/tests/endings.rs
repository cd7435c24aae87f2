//! How guests start, and how they end.

use std::fs;

use super::writes;
use crate::guest::testing::{Ended, Guest};
use crate::protocol::{CodeKind, StreamKind};

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

/// Grows its memory by 16 MiB at a time without using it; refused, it ends with 3.
const GROWS: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
    (memory (export "memory") 1 MAXIMUM)
    (func (export "_start")
      (loop $more
        (if (i32.eq (memory.grow (i32.const 256)) (i32.const -1))
          (then (call $proc_exit (i32.const 3))))
        (br $more))))"#;

/// The same as a component that exports `wasi:cli/run` of 0.3.
const GROWS_IN_P3: &str = r#"(component
    (core module $m
        (memory 1)
        (func (export "run") (result i32)
            (loop $more (br_if $more (i32.ne (memory.grow (i32.const 256)) (i32.const -1))))
            (i32.const 1)))
    (core instance $i (instantiate $m))
    (func $run async (result (result)) (canon lift (core func $i "run")))
    (instance $run' (export "run" (func $run)))
    (export "wasi:cli/run@0.3.0" (instance $run')))"#;

#[test]
fn a_guest_whose_growth_the_kernel_refuses_has_outgrown_its_memory() {
    let module = GROWS.replace("MAXIMUM", "");
    for mut guest in [Guest::new(&module), Guest::adapted(&module), Guest::new(GROWS_IN_P3)] {
        guest.data_limit = Some(512 << 20);
        let Ended { status, outcome, .. } = guest.run();
        assert_eq!(
            (status.code(), outcome.exit_code, outcome.reason.as_str()),
            (Some(137), 137, "OOMKilled"),
            "{}",
            outcome.message
        );
        assert!(outcome.message.starts_with("the node has no memory left for the guest to grow from "), "{}", outcome.message);
    }
}

#[test]
fn a_guest_that_reaches_its_own_maximum_is_told_and_goes_on() {
    for (wat, code) in [(&*GROWS.replace("MAXIMUM", "2048"), 3), (&*GROWS.replace("MAXIMUM", ""), 3), (GROWS_IN_P3, 1)] {
        let outcome = Guest::new(wat).run().outcome;
        assert_eq!((outcome.exit_code, outcome.reason.as_str()), (code, "Error"), "{wat}");
    }
}
