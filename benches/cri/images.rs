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
    let (source, program) = (directory.join("native.c"), directory.join("native"));
    std::fs::write(&source, include_str!("native.c"))?;
    let output =
        Command::new("cc").args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(&source).output().context("running cc")?;
    if !output.status.success() {
        bail!("cc: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(std::fs::read(&program)?)
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

fn guest(name: &str) -> Result<Vec<u8>, String> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = named("CRI_WASM_CACHE").or_else(|| Some(named("HOME")?.join(".cache/cri-wasm"))).unwrap_or_default();
    let path = named("CRI_WASM_GUESTS").unwrap_or_else(|| cache.join("guests")).join(name);
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
