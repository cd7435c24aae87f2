//! The guests that are measured: what an idle pod runs, the same as a native program for the peer, and a large module.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// Writes a line and waits for ever; 1 MiB of memory.
pub fn idle() -> anyhow::Result<Vec<u8>> {
    Ok(wat::parse_str(include_str!("../../examples/idle/idle.wat"))?)
}

/// The same as a static program of this machine, which is also a pod's pause process.
pub fn native(directory: &Path) -> anyhow::Result<Vec<u8>> {
    compile(directory, "native", include_str!("native.c"))
}

fn compile(directory: &Path, name: &str, text: &str) -> anyhow::Result<Vec<u8>> {
    let (source, program) = (directory.join(format!("{name}.c")), directory.join(name));
    std::fs::write(&source, text)?;
    let output =
        Command::new("cc").args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(&source).output().context("running cc")?;
    if !output.status.success() {
        bail!("cc: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(std::fs::read(&program)?)
}

/// Programs that are run in a pod beside its own, by name: one ends at once, one writes 200 MiB.
pub type Programs = [(&'static str, Vec<u8>); 2];

/// For us.
pub fn wasm_programs() -> anyhow::Result<Programs> {
    let nothing = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#)?;
    // 3200 writes of 64 KiB: 200 MiB.
    let out = wat::parse_str(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 2)
            (func (export "_start") (local $left i32)
                (i32.store (i32.const 0) (i32.const 65536))
                (i32.store (i32.const 4) (i32.const 65536))
                (local.set $left (i32.const 3200))
                (loop $again
                    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                    (br_if $again (local.get $left)))))"#,
    )?;
    Ok([("true", nothing), ("out", out)])
}

/// The same as static programs of this machine.
pub fn native_programs(directory: &Path) -> anyhow::Result<Programs> {
    let nothing = compile(directory, "true", "int main(void) { return 0; }\n")?;
    let out = "#include <unistd.h>\nstatic char bytes[65536];\n\
               int main(void) { for (int i = 0; i < 3200; i++) for (int n = 0; n < 65536; ) n += write(1, bytes + n, 65536 - n); }\n";
    Ok([("true", nothing), ("out", compile(directory, "out", out)?)])
}

/// The client of both, if tests/tools has brought it or the machine has one.
pub fn crictl() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cache = cache().join("bin/crictl");
    std::env::split_paths(&path).map(|directory| directory.join("crictl")).chain([cache]).find(|path| path.is_file())
}

/// A real program of 5.8 MB that writes a line first, which examples/build makes.
pub fn large() -> Result<Vec<u8>, String> {
    guest("large.wasm").map_err(|error| format!("{error} (examples/build)"))
}

/// Programs that others have built, the largest that are shipped as one module: CPython 3.12 of 26 MB, clang of 75 MB.
/// `benches/run` fetches them.
pub fn shipped() -> [(&'static str, Result<Vec<u8>, String>); 2] {
    [("26 MB", guest("cpython.wasm")), ("75 MB", guest("clang.wasm"))]
}

fn named(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn cache() -> PathBuf {
    named("CRI_WASM_CACHE").or_else(|| Some(named("HOME")?.join(".cache/cri-wasm"))).unwrap_or_default()
}

fn guest(name: &str) -> Result<Vec<u8>, String> {
    let path = named("CRI_WASM_GUESTS").unwrap_or_else(|| cache().join("guests")).join(name);
    std::fs::read(&path).map_err(|_| format!("{name} is not there"))
}

/// The module with a custom section behind it, so that no cache has ever seen it.
pub fn never_seen(module: &[u8], number: usize) -> Vec<u8> {
    let content = format!("{}-{number}", std::process::id());
    let name = "bench";
    // Id 0, the size of what follows, the name with its size, the content; all sizes are below 128 and so one byte of LEB128.
    let size = |text: &str| u8::try_from(text.len()).unwrap_or_default();
    let mut bytes = module.to_vec();
    bytes.extend([0, size(name) + size(&content) + 1, size(name)]);
    bytes.extend(name.bytes().chain(content.bytes()));
    bytes
}
