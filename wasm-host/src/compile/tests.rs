//! The compiler in processes of its own, as the daemon starts it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::CompileLimits;
use super::suggest::INTERFACES;
use crate::guest::testing::{Guest, compile};
use crate::protocol::CodeKind;

const ENOUGH: CompileLimits = CompileLimits { memory_bytes: 1 << 30, cpu_seconds: 60 };

struct Compiled {
    status: Option<i32>,
    line: Value,
    code: Vec<u8>,
}

fn compile_as(name: &str, wasm: &[u8], limits: CompileLimits) -> Compiled {
    let directory = tempfile::tempdir().unwrap();
    let (input, output) = (directory.path().join(name), directory.path().join("code"));
    fs::write(&input, wasm).unwrap();
    let (status, line) = compile(&input, &output, limits);
    Compiled { status, line, code: fs::read(output).unwrap_or_default() }
}

fn compile_wat(wat: &str) -> Compiled {
    compile_as("file", &wat::parse_str(wat).unwrap(), ENOUGH)
}

impl Compiled {
    fn error(&self) -> (&str, &str) {
        assert_eq!(self.status, Some(1), "{}", self.line);
        assert!(self.code.is_empty());
        (self.line["error"]["code"].as_str().unwrap(), self.line["error"]["message"].as_str().unwrap())
    }
}

const COMMAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (call $exit (i32.const 42))))"#;

#[test]
fn a_module_is_compiled_and_runs() {
    let compiled = compile_wat(COMMAND);
    let imports = ["wasi_snapshot_preview1.proc_exit"];
    assert_eq!(compiled.line, json!({"ok": {"kind": "module", "world": "command", "wasi": "p1", "imports": imports}}));
    assert_eq!(compiled.status, Some(0));
    assert_eq!(Guest::of(CodeKind::ModuleCommand, &compiled.code).run().outcome.exit_code, 42);
}

#[test]
fn worlds_are_told_apart() {
    for (wat, world, wasi) in [
        (r#"(module (func (export "_start")))"#, "command", "none"),
        (r#"(module (func (export "_initialize")))"#, "reactor", "none"),
        (r#"(module (memory (export "_start") 1))"#, "library", "none"),
        (r#"(module (import "wasi_unstable" "sched_yield" (func (result i32))) (func (export "_start")))"#, "command", "p0"),
        ("(component)", "library", "none"),
        (r#"(component (instance (export "wasi:cli/run@0.2.4")))"#, "command", "p2"),
        (r#"(component (instance (export "wasi:cli/run@0.3.0")))"#, "command", "p3"),
        (r#"(component (instance (export "wasi:http/incoming-handler@0.2.0")))"#, "http", "p2"),
        (r#"(component (instance (export "a:b/c")))"#, "reactor", "none"),
    ] {
        let compiled = compile_wat(wat);
        let artifact = &compiled.line["ok"];
        assert_eq!((artifact["world"].as_str(), artifact["wasi"].as_str()), (Some(world), Some(wasi)), "{wat} {}", compiled.line);
    }
}

#[test]
fn unknown_imports_of_modules_are_all_named() {
    let compiled = compile_wat(
        r#"(module
            (import "env" "memory" (memory 1))
            (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
            (import "wasi" "thread-spawn" (func (param i32) (result i32))))"#,
    );
    let expected = "the module imports env.memory, wasi.thread-spawn, which no guest is given";
    assert_eq!(compiled.error(), ("unknown_import", expected));
}

#[test]
fn the_nearest_known_import_is_named() {
    let compiled = compile_wat(r#"(module (import "env" "fd_write" (func)) (import "wasi" "what" (func)))"#);
    let expected =
        "the module imports env.fd_write (did you mean wasi_snapshot_preview1.fd_write?), wasi.what, which no guest is given";
    assert_eq!(compiled.error(), ("unknown_import", expected));
    let compiled = compile_wat(r#"(component (import "wasi:cli/enviroment@0.2.0" (instance (export "f" (func)))))"#);
    let (code, message) = compiled.error();
    assert!(code == "unknown_import" && message.ends_with("(did you mean wasi:cli/environment?)"), "{message}");
}

/// Something of each interface that is suggested: a function, or a type of resource.
const OFFERED: &[(&str, &str)] = &[
    ("wasi:cli/environment@0.2.0", "get-arguments"),
    ("wasi:cli/exit@0.2.0", "exit"),
    ("wasi:cli/stderr@0.2.0", "get-stderr"),
    ("wasi:cli/stdin@0.2.0", "get-stdin"),
    ("wasi:cli/stdout@0.2.0", "get-stdout"),
    ("wasi:cli/terminal-input@0.2.0", "type terminal-input"),
    ("wasi:cli/terminal-output@0.2.0", "type terminal-output"),
    ("wasi:cli/terminal-stderr@0.2.0", "get-terminal-stderr"),
    ("wasi:cli/terminal-stdin@0.2.0", "get-terminal-stdin"),
    ("wasi:cli/terminal-stdout@0.2.0", "get-terminal-stdout"),
    ("wasi:clocks/monotonic-clock@0.2.0", "now"),
    ("wasi:clocks/system-clock@0.3.0", "now"),
    ("wasi:clocks/wall-clock@0.2.0", "now"),
    ("wasi:config/store@0.2.0-rc.1", "get-all"),
    ("wasi:filesystem/preopens@0.2.0", "get-directories"),
    ("wasi:filesystem/types@0.2.0", "type descriptor"),
    ("wasi:http/client@0.3.0", "send"),
    ("wasi:http/outgoing-handler@0.2.0", "handle"),
    ("wasi:http/types@0.2.0", "type outgoing-request"),
    ("wasi:io/error@0.2.0", "type error"),
    ("wasi:io/poll@0.2.0", "type pollable"),
    ("wasi:io/streams@0.2.0", "type input-stream"),
    ("wasi:keyvalue/atomics@0.2.0-draft2", "swap"),
    ("wasi:keyvalue/atomics@0.2.0-draft", "increment"),
    ("wasi:keyvalue/batch@0.2.0-draft2", "get-many"),
    ("wasi:keyvalue/batch@0.2.0-draft", "get-many"),
    ("wasi:keyvalue/store@0.2.0-draft2", "open"),
    ("wasi:keyvalue/store@0.2.0-draft", "open"),
    ("wasi:logging/logging@0.1.0-draft", "log"),
    ("wasi:logging/logging", "log"),
    ("wasi:random/insecure@0.2.0", "get-insecure-random-u64"),
    ("wasi:random/insecure-seed@0.2.0", "insecure-seed"),
    ("wasi:random/random@0.2.0", "get-random-u64"),
    ("wasi:sockets/instance-network@0.2.0", "instance-network"),
    ("wasi:sockets/ip-name-lookup@0.2.0", "resolve-addresses"),
    ("wasi:sockets/network@0.2.0", "type network"),
    ("wasi:sockets/tcp@0.2.0", "type tcp-socket"),
    ("wasi:sockets/tcp-create-socket@0.2.0", "create-tcp-socket"),
    ("wasi:sockets/types@0.3.0", "type tcp-socket"),
    ("wasi:sockets/udp@0.2.0", "type udp-socket"),
    ("wasi:sockets/udp-create-socket@0.2.0", "create-udp-socket"),
    ("wasi:tls/client@0.3.0-draft", "type connector"),
    ("wasi:tls/types@0.2.0-draft", "type client-handshake"),
    ("wasi:tls/types@0.3.0-draft", "type error"),
];

#[test]
fn every_interface_that_is_suggested_is_given_to_guests() {
    for interface in INTERFACES {
        assert!(OFFERED.iter().any(|(offered, _)| offered.split('@').next() == Some(interface)), "{interface}");
    }
    for (interface, item) in OFFERED {
        let (name, kind) = match item.strip_prefix("type ") {
            Some(name) => (name, "(type (sub resource))"),
            None => (*item, "(func (param \"not\" u8) (param \"its\" s8))"),
        };
        let wat = format!(r#"(component (import "{interface}" (instance (export "{name}" {kind}))))"#);
        let line = compile_wat(&wat).line;
        // A function that is there is told to be of another type, and a type is given as it is.
        let message = line["error"]["message"].as_str().unwrap_or("");
        assert!(line.get("ok").is_some() || message.contains("type mismatch"), "{interface} {name}: {line}");
    }
    let wat = r#"(component (import "wasi:keyvalue/store@0.2.0-draft3" (instance (export "open" (func)))))"#;
    assert!(!compile_wat(wat).error().1.contains("type mismatch"));
}

#[test]
fn the_list_of_imports_is_complete_and_has_a_bound() {
    let imports: String = (0..2000).map(|_| r#"(import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))"#).collect();
    let last = r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#;
    let compiled = compile_wat(&format!("(module {imports} {last})"));
    let expected = ["wasi_snapshot_preview1.proc_exit", "wasi_snapshot_preview1.sched_yield"];
    assert_eq!(compiled.line["ok"]["imports"], json!(expected));
    let component = |count: usize| {
        let imports: String = (0..count).map(|number| format!(r#"(import "wasi:io/poll@0.2.{number}" (instance))"#)).collect();
        compile_wat(&format!("(component {imports})"))
    };
    assert_eq!(component(1000).line["ok"]["imports"].as_array().map(Vec::len), Some(1000));
    assert_eq!(component(1001).error().0, "invalid_wasm");
}

#[test]
fn imports_of_another_type_are_named() {
    let compiled = compile_wat(r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func (param i64))))"#);
    let (code, message) = compiled.error();
    assert!(code == "unknown_import" && message.contains("wasi_snapshot_preview1::sched_yield"), "{message}");
}

#[test]
fn unknown_imports_of_components_are_named() {
    let compiled = compile_wat(r#"(component (import "wasi:http/types@0.2.0" (instance (export "f" (func)))))"#);
    let (code, message) = compiled.error();
    assert!(code == "unknown_import" && message.contains("wasi:http/types@0.2.0"), "{message}");
}

#[test]
fn files_that_are_not_valid_wasm_are_refused_with_the_place() {
    // Well-formed, but its function returns nothing where it should return a number.
    let broken = wat::parse_str("(module (func (result i32)))").unwrap();
    for wasm in [b"".as_slice(), b"\0asm", b"\0asm\x02\0\0\0", b"(module)", b"\x7fELF", &broken] {
        let compiled = compile_as("file", wasm, ENOUGH);
        let (code, message) = compiled.error();
        assert!(code == "invalid_wasm" && message.contains("offset"), "{message}");
    }
}

#[test]
fn text_is_compiled_only_where_the_name_says_so() {
    assert_eq!(compile_as("file.wat", COMMAND.as_bytes(), ENOUGH).status, Some(0));
    assert_eq!(compile_as("file.wasm", COMMAND.as_bytes(), ENOUGH).error().0, "invalid_wasm");
    assert_eq!(compile_as("file.wat", b"(module", ENOUGH).error().0, "invalid_wasm");
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let (status, line) = compile(Path::new("/no/such/file"), &directory.path().join("code"), ENOUGH);
    assert_eq!((status, line["error"]["code"].as_str()), (Some(1), Some("internal")));
}

/// A module of `count` functions of `size` multiplications each, ten bytes a piece.
fn large(count: usize, size: usize) -> Vec<u8> {
    fn number(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
            value >>= 7;
        }
        bytes.push(u8::try_from(value).unwrap());
        bytes
    }
    let sized = |bytes: Vec<u8>| [number(bytes.len()), bytes].concat();
    let section = |id: u8, bytes: Vec<u8>| [vec![id], sized(bytes)].concat();
    // local.get 0, i32.const 7, i32.mul, local.get 1, i32.add, local.set 0
    let step = [0x20, 0, 0x41, 7, 0x6c, 0x20, 1, 0x6a, 0x21, 0].repeat(size);
    let function = sized([vec![0], step, vec![0x20, 0, 0x0b]].concat());
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, vec![1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
        section(3, [number(count), vec![0; count]].concat()),
        section(10, [number(count), function.repeat(count)].concat()),
    ]
    .concat()
}

#[test]
fn the_limit_of_memory_is_named() {
    let limits = CompileLimits { memory_bytes: 24 << 20, ..ENOUGH };
    let compiled = compile_as("file", &large(200, 1500), limits);
    assert_eq!(compiled.error(), ("limit", "compiling takes more memory than the limit of 25165824 bytes"));
}

#[test]
fn the_limit_of_time_is_named() {
    let limits = CompileLimits { cpu_seconds: 1, ..ENOUGH };
    let begin = Instant::now();
    let compiled = compile_as("file", &large(400, 6000), limits);
    assert_eq!(compiled.error(), ("limit", "compiling takes more processor time than the limit of 1 seconds"));
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn deep_nesting_does_not_break_the_compiler() {
    let depth = 50_000;
    let wat = format!("(module (func {} {}))", "block ".repeat(depth), "end ".repeat(depth));
    let compiled = compile_as("file", &wat::parse_str(wat).unwrap(), ENOUGH);
    assert!(compiled.line["ok"].is_object() || compiled.line["error"]["code"] == "invalid_wasm", "{}", compiled.line);
}

#[test]
fn proposals_that_guests_are_not_given_are_named() {
    for (wat, proposal) in [
        ("(module (memory 1 1 shared))", "threads"),
        (r#"(module (import "env" "memory" (memory 1 1 shared)))"#, "threads"),
        ("(component (core module (memory 1 1 shared)))", "threads"),
        ("(module (memory 1 (pagesize 1)))", "custom page sizes"),
        (
            "(module (func (param i64 i64 i64 i64) (drop (drop (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3))))))",
            "wide arithmetic",
        ),
        ("(module (type $f (func)) (type $c (cont $f)))", "stack switching"),
        ("(module (tag $e) (func try catch $e end))", "legacy_exceptions"),
        ("(module (global (shared anyref) (ref.null (shared any))))", "shared-everything"),
    ] {
        let (code, message) = {
            let compiled = compile_wat(wat);
            let (code, message) = compiled.error();
            (code.to_owned(), message.to_owned())
        };
        assert!(code == "invalid_wasm" && message.contains(proposal), "{proposal}: {message}");
    }
}
