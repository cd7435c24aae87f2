//! Whole guests: exit codes, traps, files, streams. Here are the programs that several of them run.

mod component_files;
mod components;
mod endings;
mod files;
mod links;
mod proposals;
mod sockets;
mod streams;

use std::path::Path;

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

/// Puts paths into a guest's memory, without their first slash: the call with address and length of each in the place of
/// `{0}`, `{1}` and so on, and the data that goes with it.
fn place(call: &str, paths: &[&Path]) -> (String, String) {
    let mut call = call.to_owned();
    let mut data = String::new();
    for (index, path) in paths.iter().enumerate() {
        let path = path.to_str().unwrap();
        let (start, path) = (1024 * (index + 1), path.strip_prefix('/').unwrap_or(path));
        data += &format!("(data (i32.const {start}) \"{path}\")\n");
        call = call.replace(&format!("{{{index}}}"), &format!("(i32.const {start}) (i32.const {})", path.len()));
    }
    (call, data)
}
