//! Link arguments of the guest: its function table is exported and may grow, so that a host can put functions into it
//! (`src/host.rs`).

fn main() {
    if std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("wasm32") {
        println!("cargo:rustc-link-arg-bins=--export-table");
        println!("cargo:rustc-link-arg-bins=--growable-table");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
