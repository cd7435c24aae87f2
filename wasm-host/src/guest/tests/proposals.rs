//! WebAssembly's proposals, each by a program that computes with it, as a command and with the code of services; and what bounds
//! what they make.

use std::fmt::Write;

use wasmtime::{Module, Store};

use crate::engine;
use crate::guest::load;
use crate::guest::testing::Guest;
use crate::protocol::{CodeKind, GuestSpec, StreamKind};

/// Name and the fields of a module whose function `$check` returns 42.
const PROPOSALS: [(&str, &str); 19] = [
    (
        "mutable-globals",
        r#"(global $g (export "g") (mut i32) (i32.const 40))
        (func $check (result i32) (global.set $g (i32.add (global.get $g) (i32.const 2))) (global.get $g))"#,
    ),
    ("sign-extension", "(func $check (result i32) (i32.sub (i32.const 41) (i32.extend8_s (i32.const 0xff))))"),
    (
        "nontrapping-float-to-int-conversion",
        "(func $check (result i32) (i32.add (i32.trunc_sat_f64_s (f64.const nan)) (i32.trunc_sat_f32_u (f32.const 42.9))))",
    ),
    ("multi-value", "(func $two (result i32 i32) (i32.const 50) (i32.const 8)) (func $check (result i32) (i32.sub (call $two)))"),
    (
        "bulk-memory",
        r#"(memory 1) (data $d "\2a")
        (func $check (result i32)
            (memory.fill (i32.const 100) (i32.const 7) (i32.const 9))
            (memory.init $d (i32.const 8) (i32.const 0) (i32.const 1))
            (data.drop $d)
            (memory.copy (i32.const 100) (i32.const 8) (i32.const 1))
            (i32.sub (i32.add (i32.load8_u (i32.const 100)) (i32.load8_u (i32.const 101))) (i32.load8_u (i32.const 108))))"#,
    ),
    (
        "reference-types",
        "(type $f (func (result i32))) (table $t 0 10 funcref) (table $u 2 externref) (elem declare func $answer)
        (func $answer (result i32) (i32.const 42))
        (func $check (result i32)
            (if (i32.ne (table.grow $t (ref.func $answer) (i32.const 3)) (i32.const 0)) (then unreachable))
            (if (i32.ne (table.grow $t (ref.null func) (i32.const 8)) (i32.const -1)) (then unreachable))
            (table.fill $u (i32.const 0) (ref.null extern) (i32.const 2))
            (if (i32.eqz (ref.is_null (table.get $u (i32.const 1)))) (then unreachable))
            (call_indirect $t (type $f) (i32.const 2)))",
    ),
    (
        "typed-function-references",
        "(type $f (func (param i32) (result i32))) (elem declare func $next)
        (func $next (type $f) (i32.add (local.get 0) (i32.const 1)))
        (func $check (result i32) (call_ref $f (i32.const 41) (ref.func $next)))",
    ),
    (
        "tail-call",
        "(func $down (param i32) (result i32)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 42))))
            (return_call $down (i32.sub (local.get 0) (i32.const 1))))
        (func $check (result i32) (call $down (i32.const 3000000)))",
    ),
    (
        "extended-const",
        "(global $g i32 (i32.mul (i32.const 6) (i32.add (i32.const 3) (i32.const 4))))
        (func $check (result i32) (global.get $g))",
    ),
    (
        "simd",
        "(func $check (result i32) (i32x4.extract_lane 2 (i32x4.add (v128.const i32x4 1 2 40 4) (v128.const i32x4 1 1 2 1))))",
    ),
    (
        "relaxed-simd",
        "(func $check (result i32) (i32x4.extract_lane 3
            (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 0 0 0 42.5))))",
    ),
    (
        "exceptions",
        "(tag $e (param i32))
        (func $throws (param i32) (if (local.get 0) (then (throw $e (i32.const 42)))))
        (func $deep (param i32)
            (if (i32.eqz (local.get 0)) (then (call $throws (i32.const 1))))
            (call $deep (i32.sub (local.get 0) (i32.const 1))))
        (func $check (result i32)
            (local $caught i32)
            (block $outer (result i32 exnref)
                (try_table (catch_ref $e $outer) (call $deep (i32.const 100)))
                unreachable)
            (drop)
            (local.set $caught)
            (local.get $caught))",
    ),
    (
        "gc",
        "(type $node (struct (field $value i32) (field $next (ref null $node))))
        (type $bytes (array (mut i8)))
        (func $list (param $count i32) (result (ref null $node)) (local $list (ref null $node))
            (loop $more
                (local.set $list (struct.new $node (local.get $count) (local.get $list)))
                (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
            (local.get $list))
        (func $check (result i32) (local $rounds i32) (local $array (ref $bytes)) (local $any anyref)
            ;; Garbage of some hundred megabytes, of which little is alive at any time.
            (local.set $rounds (i32.const 2000))
            (loop $again
                (drop (call $list (i32.const 1000)))
                (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
            (local.set $array (array.new $bytes (i32.const 7) (i32.const 30)))
            (array.set $bytes (local.get $array) (i32.const 29) (i32.const 10))
            (local.set $any (ref.i31 (i32.const 2)))
            (i32.add (i31.get_s (ref.cast (ref i31) (local.get $any)))
                (i32.add (array.len (local.get $array))
                    (array.get_u $bytes (local.get $array) (i32.const 29)))))",
    ),
    (
        "memory64",
        "(memory i64 1 20) (table $t i64 3 funcref)
        (func $check (result i32)
            (if (i64.ne (memory.grow (i64.const 4)) (i64.const 1)) (then unreachable))
            (if (i64.ne (memory.grow (i64.const 0x1000000000000)) (i64.const -1)) (then unreachable))
            (i64.store (i64.const 0x4fff8) (i64.const 39))
            (i32.wrap_i64 (i64.add (i64.load (i64.const 0x4fff8)) (table.size $t))))",
    ),
    (
        "multi-memory",
        "(memory $a 1) (memory $b 1)
        (func $check (result i32)
            (i32.store $a (i32.const 0) (i32.const 42))
            (memory.copy $b $a (i32.const 8) (i32.const 0) (i32.const 4))
            (i32.load $b (i32.const 8)))",
    ),
    (
        "threads, without a shared memory",
        "(memory 1)
        (func $check (result i32)
            (i32.atomic.store (i32.const 0) (i32.const 40))
            (atomic.fence)
            (if (memory.atomic.notify (i32.const 0) (i32.const 1)) (then unreachable))
            (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))
            (drop (i32.atomic.rmw.cmpxchg (i32.const 0) (i32.const 41) (i32.const 42)))
            (i32.atomic.load (i32.const 0)))",
    ),
    (
        "branch-hinting",
        r#"(func $check (result i32)
            (@metadata.code.branch_hint "\00") (if (i32.const 1) (then (return (i32.const 42))))
            (i32.const 0))"#,
    ),
    (
        "tables of initial elements",
        "(type $f (func (result i32))) (func $answer (result i32) (i32.const 42)) (table $t 10 funcref (ref.func $answer))
        (func $check (result i32) (call_indirect $t (type $f) (i32.const 9)))",
    ),
    (
        "multiple tables",
        "(type $f (func (result i32))) (func $answer (result i32) (i32.const 42))
        (table $a 1 funcref) (table $b 1 funcref) (elem (table $a) (i32.const 0) func $answer)
        (func $check (result i32) (table.copy $b $a (i32.const 0) (i32.const 0) (i32.const 1))
            (call_indirect $b (type $f) (i32.const 0)))",
    ),
];

/// A command that exits with what `$check` returns.
fn command(fields: &str) -> Guest {
    Guest::new(&format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
            {fields}
            (func (export "_start") (call $proc_exit (call $check))))"#
    ))
}

#[test]
fn every_proposal_of_wasm_3_computes_in_a_command() {
    for (name, fields) in PROPOSALS {
        let ended = command(fields).run();
        assert_eq!(ended.outcome.exit_code, 42, "{name}: {}", ended.outcome.message);
    }
}

#[test]
fn every_proposal_of_wasm_3_computes_in_a_service() {
    let compiler = engine::service().unwrap();
    let engine = engine::pooled_service(2, &engine::Tools::default()).unwrap();
    for (name, fields) in PROPOSALS {
        let wasm = wat::parse_str(format!(r#"(module {fields} (export "check" (func $check)))"#)).unwrap();
        let code = compiler.precompile_module(&wasm).unwrap();
        // SAFETY: it was compiled a line above.
        let module = unsafe { Module::deserialize(&engine, code) }.unwrap();
        let mut store = Store::new(&engine, ());
        store.set_epoch_deadline(1);
        let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let check = instance.get_typed_func::<(), i32>(&mut store, "check").unwrap();
        assert_eq!(check.call(&mut store, ()).unwrap_or_else(|error| panic!("{name}: {error:?}")), 42, "{name}");
    }
}

#[test]
fn waiting_for_a_memory_that_nobody_shares_is_a_trap() {
    let ended =
        command("(memory 1) (func $check (result i32) (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))").run();
    assert_eq!(ended.outcome.reason, "Trap");
    assert!(ended.outcome.message.contains("atomic wait on non-shared memory"), "{}", ended.outcome.message);
}

#[test]
fn a_memory_of_64_bits_grows_beyond_4_gib() {
    // Of 6 GiB two pages are touched.
    let ended = command(
        "(memory i64 1)
        (func $check (result i32)
            (if (i64.ne (memory.grow (i64.const 0x17fff)) (i64.const 1)) (then unreachable))
            (i64.store (i64.const 0x17ffffff8) (i64.const 42))
            (i64.store (i64.const 0) (i64.const 7))
            (i32.wrap_i64 (i64.load (i64.const 0x17ffffff8))))",
    )
    .run();
    assert_eq!(ended.outcome.exit_code, 42, "{}", ended.outcome.message);
}

/// What the modules below ask for, none of them gets; and they are told or named, and the node does not notice.
#[test]
fn what_no_node_has_is_refused_with_its_size() {
    for (fields, words) in [
        ("(memory i64 0x1000000000000) (func $check (result i32) (i32.const 0))", "memory"),
        ("(memory i64 0x100000000) (func $check (result i32) (i32.const 0))", "memory"),
        ("(table 4294967295 funcref) (func $check (result i32) (i32.const 0))", "table"),
        ("(table i64 0xffffffffffffffff funcref) (func $check (result i32) (i32.const 0))", "table"),
        (
            "(table 10000001 externref) (func $check (result i32) (i32.const 0))",
            "table minimum size of 10000001 elements exceeds",
        ),
    ] {
        let ended = command(fields).run();
        let told = (ended.outcome.exit_code, ended.outcome.reason.as_str());
        assert!([(128, "StartError"), (137, "OOMKilled")].contains(&told), "{fields}: {told:?} {}", ended.outcome.message);
        assert!(ended.outcome.message.contains(words), "{fields}: {}", ended.outcome.message);
    }
}

#[test]
fn tables_have_a_bound_of_their_own_which_a_guest_is_told() {
    let ended = command(
        "(table $a 0 funcref) (table $b 0 externref)
        (func $check (result i32) (local $refused i32)
            (if (i32.ne (table.grow $a (ref.null func) (i32.const 9999000)) (i32.const 0)) (then unreachable))
            (local.set $refused (table.grow $b (ref.null extern) (i32.const 1001)))
            (if (i32.ne (table.grow $b (ref.null extern) (i32.const 1000)) (i32.const 0)) (then unreachable))
            (i32.sub (i32.const 41) (local.get $refused)))",
    )
    .run();
    assert_eq!(ended.outcome.exit_code, 42, "{}", ended.outcome.message);
}

#[test]
fn a_thousand_memories_are_the_most() {
    // A component, since a module has a hundred at most.
    let mut parts = String::new();
    let of = |count: u32, parts: &mut String| {
        parts.clear();
        for index in 0..count {
            writeln!(parts, "(core instance $i{index} (instantiate $m))").unwrap();
        }
        format!(
            r#"(component
                (core module $m {} (func (export "run") (result i32) (i32.const 0)))
                {parts}
                (func $run (result (result)) (canon lift (core func $i0 "run")))
                (instance $run' (export "run" (func $run)))
                (export "wasi:cli/run@0.2.0" (instance $run')))"#,
            "(memory 1)".repeat(100)
        )
    };
    let ended = Guest::new(&of(10, &mut parts)).run();
    assert_eq!(ended.outcome.exit_code, 0, "{}", ended.outcome.message);
    let ended = Guest::new(&of(11, &mut parts)).run();
    assert_eq!((ended.outcome.exit_code, ended.outcome.reason.as_str()), (128, "StartError"));
    assert!(ended.outcome.message.contains("memory count too high at 1100"), "{}", ended.outcome.message);
}

#[test]
fn objects_that_are_collected_count_as_memory() {
    // A list that only grows, until a kernel that gives out no more than 512 MiB ends it.
    let mut guest = command(
        "(type $node (struct (field (ref null $node)) (field i64)))
        (func $check (result i32) (local $list (ref null $node))
            (loop $more
                (local.set $list (struct.new $node (local.get $list) (i64.const 7)))
                (br $more))
            (i32.const 0))",
    );
    guest.spec.set_stdout(StreamKind::StreamNull);
    guest.data_limit = Some(512 << 20);
    let ended = guest.run();
    assert_eq!((ended.outcome.exit_code, ended.outcome.reason.as_str()), (137, "OOMKilled"), "{}", ended.outcome.message);
}

#[test]
fn a_service_that_no_pool_has_room_for_is_loaded_without_one() {
    for module in ["(table 30000 funcref)", "(memory i64 70000)", "(memory 1)"] {
        let text = format!("(component (core module $m {module}) (core instance (instantiate $m)))");
        let code = engine::service().unwrap().precompile_component(&wat::parse_str(text).unwrap()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), code).unwrap();
        let spec = GuestSpec { kind: CodeKind::ComponentHttp.into(), ..GuestSpec::default() };
        let loaded = load(&engine::new().unwrap(), &spec, file.reopen().unwrap().into());
        assert!(loaded.is_ok(), "{module}");
    }
}
