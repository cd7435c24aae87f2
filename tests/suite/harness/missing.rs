//! Tests whose real part is not on this machine: named and passed over, or a failure where every test is asked for.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Set to `1` by tests/all and CI: a test that cannot run is then a failure.
const REQUIRE_ALL: &str = "CRI_WASM_REQUIRE_ALL";

static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// The name of the test that runs in this thread.
pub fn test_name() -> String {
    std::thread::current().name().unwrap_or("a test").to_owned()
}

/// Says that the test does not run here, and why. Returns only where that is allowed.
pub fn skip(missing: &str) {
    let test = test_name();
    assert!(std::env::var(REQUIRE_ALL).as_deref() != Ok("1"), "missing: {missing}; and {REQUIRE_ALL}=1 asks for every test");
    // Straight to the descriptor: what a passing test prints is not shown.
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {missing} ({count} so far)");
}

/// Skips unless the test runs as root.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("root, to make namespaces, mounts and cgroups");
    }
    root
}

/// Whether a registry can be started; if not, the test was skipped.
pub fn has_registry() -> bool {
    let there = find_program("docker-registry").is_some();
    if !there {
        skip("the program docker-registry (tests/tools gets it)");
    }
    there
}

/// The program in PATH, or `None` after having skipped.
pub fn program(name: &str, package: &str) -> Option<PathBuf> {
    let found = find_program(name);
    if found.is_none() {
        skip(&format!("the program {name} (Debian's package {package})"));
    }
    found
}

/// The program where tests/tools puts those that it gets, in PATH, or where Debian has programs for root.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = [cache().join("bin")];
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    own.into_iter()
        .chain(std::env::split_paths(&path))
        .chain(more)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// Where tools and guests are that take long to get.
pub fn cache() -> PathBuf {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    of("CRI_WASM_CACHE").or_else(|| Some(of("HOME")?.join(".cache/cri-wasm"))).unwrap_or_default()
}

/// The CNI plugins that a test needs are in the directory, or the test was skipped.
pub fn plugins(directory: &Path, names: &[&str]) -> bool {
    let lacking: Vec<&str> = names.iter().copied().filter(|name| !directory.join(name).is_file()).collect();
    if !lacking.is_empty() {
        let names = lacking.join(", ");
        skip(&format!("the CNI plugins {names} in {} (Debian's package containernetworking-plugins)", directory.display()));
    }
    lacking.is_empty()
}
